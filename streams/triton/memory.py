"""Hands back memory that a process holds for code it never runs."""

import ctypes
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_MADV_DONTNEED = 4
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (r-[-x])p \S+ \S+ \S+ +(\S.*)$")


def drop_library_pages(marks: Iterable[str]) -> int:
    """Drop the untouched pages of libraries whose path holds one of the marks; return how many bytes are freed.

    The loader reads 130 MB of the CUDA libraries on a machine that has no GPU. Pages that are still as in the file are
    dropped, and read again should they be wanted after all; one that was written to is never touched.
    """
    marks = tuple(marks)
    libc, freed = ctypes.CDLL(None), 0
    libc.malloc_trim(0)
    for start, end, path, sizes in list(_mappings()):
        if any(mark in path for mark in marks) and not sizes["Anonymous"]:
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
            freed += sizes["Rss"]
    return freed


def _mappings() -> Iterator[tuple[int, int, str, dict[str, int]]]:
    """Give the read-only file mappings of this process: start, end, path, sizes in bytes."""
    found: re.Match[str] | None = None
    sizes: dict[str, int] = {}
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith(" kB"):
            sizes[name] = int(rest.split()[0]) * 1024
        elif name == "VmFlags":
            if found:
                yield int(found[1], 16), int(found[2], 16), found[4], sizes
        elif " " in name:  # the line that opens a mapping
            found, sizes = _MAPPING.match(line), {}
