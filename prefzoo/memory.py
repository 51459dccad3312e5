"""How the process gets its memory: on CPUs, handing it back and asking anew takes a sixth of a training step."""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def prepare() -> None:
    """Keep freed memory for the next step, in large pages where the kernel has them. Call it before torch is loaded.

    Without glibc, or where the environment already decides, nothing happens.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch's allocator
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)  # large blocks from the heap, which keeps them, instead of one mapping each
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
