"""What the C library does with freed memory: kept, where large arrays come and go in each step."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Lets this process reuse freed memory instead of handing it back; does nothing where there is no glibc.

    glibc maps each array over 32 MB anew, and the kernel clears its pages at first touch: half of the time that a pass
    over the scores of 512 histories and 30,000 rows takes (25 ms of CPU for 54).
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, _LARGEST)
