"""A learner's whole state in one file that is either complete or refused: no pickle, checksum first, one rename.

The file is a magic word, the SHA-256 of the rest, and safetensors whose metadata holds the structure as JSON.
"""

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

_MAGIC: Final = b"headrace-checkpoint-1\n"
_HASH_BYTES: Final = 32


class CheckpointError(ValueError):
    """The file is no checkpoint, was cut short or altered: take the one before it."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes nested dicts and lists of numbers, strings, arrays and tensors; the file before becomes `<name>.previous`.

    A crash at any moment leaves `path`, its `.previous`, or both, whole.

    Raises:
        OSError: There is no room, or no right to write; what was there is as it was.
    """
    tensors: dict[str, torch.Tensor] = {}
    structure = json.dumps(_packed(state, "", tensors))
    body = save(tensors, {"structure": structure})
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.incoming")
    try:
        with scratch.open("wb") as file:
            file.write(_MAGIC + hashlib.sha256(body).digest())
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
    except OSError:  # on a full disk half a file would take the room that is left
        scratch.unlink(missing_ok=True)
        raise
    with contextlib.suppress(FileNotFoundError):
        path.rename(previous(path))
    scratch.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` was given, tensors and arrays alike as tensors or arrays.

    Raises:
        CheckpointError: The file is damaged.
        FileNotFoundError: There is none.
    """
    content = path.read_bytes()
    body = content[len(_MAGIC) + _HASH_BYTES :]
    if content[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != content[len(_MAGIC) :][:_HASH_BYTES]:
        raise CheckpointError(f"{path} is damaged or no checkpoint: move it away to go on from {previous(path).name}")
    try:
        tensors = load(body)
        header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
        state: dict[str, Any] = _unpacked(json.loads(header["__metadata__"]["structure"]), tensors)
    except (SafetensorError, KeyError, ValueError) as exc:  # whole, but of another format
        raise CheckpointError(f"{path} cannot be understood: {exc}") from exc
    return state


def newest_checkpoint(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest state that is whole, None where there is none, and what was wrong with newer files."""
    problems: list[str] = []
    for candidate in (path, previous(path)):
        try:
            return read_checkpoint(candidate), problems
        except CheckpointError as exc:
            problems.append(str(exc))
        except FileNotFoundError:
            continue
    return None, problems


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest is."""
    return path.with_name(f"{path.name}.previous")


def _packed(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:  # noqa: ANN401 - any nesting
    if isinstance(value, np.ndarray):
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))
        return {"array": name}
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _packed(part, f"{name}/{key}", tensors)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_packed(part, f"{name}/{at}", tensors) for at, part in enumerate(value)]}
    return {"plain": value.item() if isinstance(value, np.generic) else value}


def _unpacked(packed: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:  # noqa: ANN401 - any nesting
    ((kind, value),) = packed.items()
    match kind:
        case "array":
            return tensors[value].numpy()
        case "tensor":
            return tensors[value]
        case "dict":
            return {key: _unpacked(part, tensors) for key, part in value}
        case "list":
            return [_unpacked(part, tensors) for part in value]
    return value
