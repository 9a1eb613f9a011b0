"""A learner's whole state in files that are either complete or refused: no pickle, checksum first, one rename.

A file is a magic word, the SHA-256 of the rest, the digest of the file of the part that is kept apart, zeros for none,
and safetensors whose metadata holds the structure as JSON. They are written array by array: `safetensors.save` would
hold two more copies of 300 MB, and the interpreter's lock meanwhile.
"""

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

_MAGIC: Final = b"headrace-checkpoint-2\n"
_ONE_FILE: Final = b"headrace-checkpoint-1\n"
"""Of older releases, which kept nothing apart."""
_HASH_BYTES: Final = 32
_DTYPES: Final = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U64": "<u8",
    "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_PREVIOUS: Final = ".previous"
_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}


class CheckpointError(ValueError):
    """The file is no checkpoint, was cut short or altered: take the one before it."""


@dataclass(eq=False)
class Apart:
    """The part of a state that never changes again: it has a file of its own, which is written once."""

    value: dict[str, Any]
    digest: str = ""
    """Of its file, which names it; empty until it is written."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes nested dicts and lists of numbers, strings, arrays and tensors; the file before becomes `<name>.previous`.

    One value in the dicts may be an `Apart`. A crash at any moment leaves `path`, its `.previous`, or both, whole, each
    with the part that belongs to it.

    Raises:
        OSError: There is no room, or no right to write; what was there is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.incoming")
    try:
        apart = _apart_of(state)
        if apart and not (apart.digest and _beside(path, apart.digest).exists()):
            apart.digest = _write(scratch, apart.value, "")
            _move(scratch, _beside(path, apart.digest))
        _write(scratch, state, apart.digest if apart else "")
        with contextlib.suppress(FileNotFoundError):
            path.rename(previous(path))
        _move(scratch, path)
    except OSError:  # on a full disk half a file, or a part that no state names, would take the room that is left
        scratch.unlink(missing_ok=True)
        _sweep(path)
        raise
    _sweep(path)


def read_checkpoint(path: Path, *, parts: bool = True) -> dict[str, Any]:
    """What `write_checkpoint` was given, tensors and arrays alike as tensors or arrays.

    Args:
        path: Of the state.
        parts: Whether the part that is apart is read, too; else None stands in its place.

    Raises:
        CheckpointError: The file is damaged, or its part is, or is not there.
        FileNotFoundError: There is none.
    """
    digest = _digest_of_part(path) if parts else ""
    beside = _beside(path.with_name(path.name.removesuffix(_PREVIOUS)), digest)
    try:
        apart = Apart(_read(beside, digest=digest), digest) if digest else None
    except FileNotFoundError as exc:
        raise CheckpointError(f"{path} cannot be used without {beside.name}, which is not there") from exc
    return _read(path, apart=apart)


def newest_checkpoint(path: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest state that is whole, None where there is none, and what was wrong with newer files.

    Only where no state has its part is the newest taken without.
    """
    problems: dict[str, None] = {}
    for parts, candidate in product((True, False), (path, previous(path))):
        try:
            return read_checkpoint(candidate, parts=parts), list(problems)
        except CheckpointError as exc:
            problems[str(exc)] = None
        except FileNotFoundError:
            continue
    return None, list(problems)


def previous(path: Path) -> Path:
    """Where the checkpoint before the newest is."""
    return path.with_name(path.name + _PREVIOUS)


def _apart_of(value: Any) -> Apart | None:  # noqa: ANN401 - any nesting
    if isinstance(value, dict):
        return next(filter(None, map(_apart_of, value.values())), None)
    return value if isinstance(value, Apart) else None


def _beside(path: Path, digest: str) -> Path:
    return path.with_name(f"{path.name}.part-{digest}")


def _digest_of_part(path: Path) -> str:
    """Digest of the part that a state names, empty where it has none or is not there."""
    try:
        with path.open("rb") as file:
            named = file.read(len(_MAGIC) + 2 * _HASH_BYTES)
    except FileNotFoundError:
        return ""
    return named[-_HASH_BYTES:].hex() if named.startswith(_MAGIC) and any(named[-_HASH_BYTES:]) else ""


def _move(file: Path, target: Path) -> None:
    file.rename(target)
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _sweep(path: Path) -> None:
    """Takes away the parts that neither of the two states names."""
    needed = {_beside(path, _digest_of_part(state)) for state in (path, previous(path))}
    for file in path.parent.glob(_beside(path, "*").name):
        if file not in needed:
            file.unlink()


def _write(path: Path, state: dict[str, Any], part: str) -> str:
    """Writes a file that names a part; returns its digest."""
    arrays: dict[str, NDArray[Any]] = {}
    header: dict[str, Any] = {"__metadata__": {"structure": json.dumps(_packed(state, "", arrays))}}
    ordered = sorted(arrays.items(), key=lambda named: -named[1].itemsize)  # each begins where its numbers may
    ends = np.cumsum([0, *(array.nbytes for _, array in ordered)]).tolist()
    for (name, array), place in zip(ordered, pairwise(ends), strict=True):
        header[name] = {"dtype": _NAMES[array.dtype.str], "shape": array.shape, "data_offsets": place}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        file.write(_MAGIC + bytes(_HASH_BYTES))
        named = bytes.fromhex(part).rjust(_HASH_BYTES, b"\0")
        pieces: list[bytes | memoryview] = [named, len(head).to_bytes(8, "little"), head]
        for piece in pieces + [array.reshape(-1).data for _, array in ordered]:
            file.write(piece)
            digest.update(piece)
        file.seek(len(_MAGIC))
        file.write(digest.digest())
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _read(path: Path, *, apart: Apart | None = None, digest: str = "") -> dict[str, Any]:
    with path.open("rb") as file:
        magic, wanted = file.read(len(_MAGIC)), file.read(_HASH_BYTES).hex()
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if magic not in {_MAGIC, _ONE_FILE} or wanted != found or found != (digest or found):
            raise CheckpointError(f"{path} is damaged or no checkpoint: move it away to go on from an older one")
        file.seek(len(_MAGIC) + (2 if magic == _MAGIC else 1) * _HASH_BYTES)
        try:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            structure, arrays = json.loads(header.pop("__metadata__")["structure"]), {}
            for name, facts in sorted(header.items(), key=lambda named: named[1]["data_offsets"]):
                arrays[name] = np.empty(facts["shape"], _DTYPES[facts["dtype"]])
                file.readinto(arrays[name].data)
            state: dict[str, Any] = _unpacked(structure, arrays, apart)
        except (KeyError, ValueError) as exc:  # whole, but of another format
            raise CheckpointError(f"{path} cannot be understood: {exc}") from exc
    return state


def _packed(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:  # noqa: ANN401 - any nesting
    if isinstance(value, np.ndarray):
        arrays[name] = np.ascontiguousarray(value).reshape(value.shape)
        return {"array": name}
    if isinstance(value, torch.Tensor):
        arrays[name] = value.detach().contiguous().numpy()
        return {"tensor": name}
    if isinstance(value, Apart):
        return {"apart": None}
    if isinstance(value, dict):
        return {"dict": [[key, _packed(part, f"{name}/{key}", arrays)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"list": [_packed(part, f"{name}/{at}", arrays) for at, part in enumerate(value)]}
    return {"plain": value.item() if isinstance(value, np.generic) else value}


def _unpacked(packed: dict[str, Any], arrays: dict[str, NDArray[Any]], apart: Apart | None) -> Any:  # noqa: ANN401
    ((kind, value),) = packed.items()
    match kind:
        case "array":
            return arrays[value]
        case "tensor":
            return torch.from_numpy(arrays[value])
        case "apart":
            return apart
        case "dict":
            return {key: _unpacked(part, arrays, apart) for key, part in value}
        case "list":
            return [_unpacked(part, arrays, apart) for part in value]
    return value
