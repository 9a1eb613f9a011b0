"""a text file -> lines, each with a mark that says what the file holds up to it. Knows nothing of formats."""

import gzip
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

from xxhash import xxh3_64

from streams.errors import StartError

_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_MARK: Final = b"\xef\xbb\xbf"
"""The byte order mark that Windows puts before UTF-8."""


class Line(NamedTuple):
    """One line, without its end."""

    number: int
    """From 1."""
    value: bytes
    mark: str


def open_text(path: Path) -> IO[bytes]:
    """Open a text file, unpacked when its name ends in .gz."""
    return cast("IO[bytes]", gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")


class Lines:
    """The lines of a text file, without their ends, some of which can be put back."""

    def __init__(self, path: Path) -> None:
        self._source = self._read(path)
        self._back: deque[Line] = deque()

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        return self._back.popleft() if self._back else next(self._source)

    def put_back(self, lines: list[Line]) -> None:
        """Give these out again, in this order."""
        self._back.extendleft(reversed(lines))

    @staticmethod
    def _read(path: Path) -> Iterator[Line]:
        digest = xxh3_64()
        with open_text(path) as file:
            for number, ended in enumerate(file, start=1):
                line = ended.rstrip(b"\r\n")
                if number == 1:
                    if line.startswith(_UTF16):
                        raise StartError(f"{path} is UTF-16; save it as UTF-8.")
                    line = line.removeprefix(_MARK)
                digest.update(line + b"\n")
                yield Line(number, line, f"{digest.hexdigest()}-{number}")
