"""How the process gets its memory, and what it does where there is not enough.

On CPUs, handing it back and asking anew takes a sixth of a training step. torch is not imported on top: `prepare` comes
before it.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def configure_allocator() -> None:
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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether that is what an exception says: of the GPU's memory, of torch's on the CPU, or of Python's."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and (should_reduce_batch_size(error) or "std::bad_alloc" in str(error))


def release_memory() -> None:
    """Give back what a failed try held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def retry_with_smaller_batches(work: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
    """`work` of the items, in order; where that runs out of memory, of one half after the other, down to one item."""
    try:
        return work(items)
    except (RuntimeError, MemoryError) as e:
        if len(items) == 1 or not is_out_of_memory(e):
            raise
    release_memory()  # not in the except block: by now the traceback is gone, and with it what the failed try held
    half = len(items) // 2
    return retry_with_smaller_batches(work, items[:half]) + retry_with_smaller_batches(work, items[half:])
