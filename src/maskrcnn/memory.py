"""Memory that a tensor leaves is kept for the next one, instead of going back to the system and coming again.

glibc asks the system for every large block and returns it when it is freed, so that each map of each image is new
memory, which the system clears page by page: up to a third of a prediction on a virtual machine. `keep_memory` sets
three of glibc's numbers for the whole process; no other C library is touched.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

VARIABLE = "MASKRCNN_KEEP_MEMORY"  # 0: leave the allocator alone
# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
_LARGEST_BLOCK = 1 << 30  # bytes; larger ones still come from the system and go back
_MOST_KEPT = (1 << 31) - 1  # bytes free at the end of the heap; more goes back


def keep_memory() -> bool:
    """Keep freed memory in this process, up to 2 GB; call it before the first large tensor. Needs no torch.

    The process then holds what it needed at most, until it ends. The commands of `maskrcnn` call this; a program that
    uses the library may. It changes speed alone, on Linux with glibc alone, and also that of other libraries.

    Returns:
        Whether it is set: False on other systems, and where the environment has `MASKRCNN_KEEP_MEMORY=0`.
    """
    if os.environ.get(VARIABLE) == "0" or not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # Older glibc takes at most 32 MB for a block; there, no block comes from the system.
    large = mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK) or mallopt(_MMAP_MAX, 0)
    # One heap for all threads: those that threads get for themselves hold 64 MB, less than one map may need.
    return bool(large and mallopt(_TRIM_THRESHOLD, _MOST_KEPT) and mallopt(_ARENA_MAX, 1))
