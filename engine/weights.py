"""What a learner publishes and a server loads: tables by row, dense tensors, and the file of a version.

Knows nothing of Kafka, torch or the model.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
"""The slots: what serves everybody, and what a canary serves to a share of the users."""

_FILE_MODE: Final = 0o644  # safetensors writes 0600, which a container that is not root cannot read

Config = Mapping[str, str | int | float | bool]
Arrays = Mapping[str, NDArray[np.generic]]


class WeightsError(ValueError):
    """Weights that must not be served: damaged, incomplete, of another shape, or not finite."""


@dataclass(frozen=True)
class Weights:
    """The whole state of a model."""

    config: Config
    """Plain values from which the model is built."""
    tables: Arrays
    """First axis is the item row: the same length in all."""
    dense: Arrays
    """All other tensors, by name."""

    @property
    def rows(self) -> int:
        """Rows of the tables, the padding row 0 among them."""
        return max((len(table) for table in self.tables.values()), default=0)


def save(weights: Weights, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a file that either is there as a whole or not at all."""
    content = safetensors.save(
        {f"tables/{name}": np.ascontiguousarray(table) for name, table in weights.tables.items()}
        | {f"dense/{name}": np.ascontiguousarray(tensor) for name, tensor in weights.dense.items()},
        {"config": json.dumps(dict(weights.config)), **(metadata or {})},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(_FILE_MODE)
        Path(scratch).rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(scratch).unlink()
        raise


def load(path: Path) -> Weights:
    """Read what `save` wrote.

    Raises:
        WeightsError: the file is damaged or holds values that are not finite.
    """
    try:
        tensors = safetensors.load_file(path)
        config = json.loads(metadata(path)["config"])
    except (SafetensorError, KeyError, ValueError) as exc:
        raise WeightsError(f"{path} is damaged: {exc}") from exc
    check_finite(tensors, str(path))
    groups: dict[str, dict[str, NDArray[np.generic]]] = {"tables": {}, "dense": {}}
    for name, tensor in tensors.items():
        group, _, short = name.partition("/")
        groups[group][short] = tensor
    return Weights(config, **groups)


def metadata(path: Path) -> dict[str, str]:
    """Return what was given to `save` beside the weights."""
    with path.open("rb") as file:
        length = file.read(8)
        return metadata_of(length + file.read(int.from_bytes(length, "little")))


def metadata_of(head: bytes) -> dict[str, str]:
    """Return the metadata that a safetensors file begins with.

    Raises:
        WeightsError: it is cut off or none.
    """
    length = int.from_bytes(head[:8], "little")
    header = json.loads(head[8 : 8 + length]) if len(head) >= 8 + length else None
    if not isinstance(header, dict):
        raise WeightsError("cut off or no safetensors at all")
    found: dict[str, str] = header.get("__metadata__", {})
    return found


def check_finite(arrays: Arrays, where: str) -> None:
    """Refuse values that must not be served.

    Raises:
        WeightsError: one is not finite.
    """
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise WeightsError(f"{where}: {name} is not finite")
