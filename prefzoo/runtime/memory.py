"""Configure how the process allocates memory, and recover when memory runs out.

This module does not import torch at its top: `configure_allocator` must run before torch is imported.
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h
# of errors without a type of their own: C++'s, and those of CUDA where memory is not torch's, such as cuBLAS's own
NO_MEMORY = ("std::bad_alloc", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def configure_allocator() -> None:
    """Keep freed memory for the next step, in huge pages where the kernel has them; call before importing torch.

    On CPUs, returning memory to the system and requesting it again takes a sixth of a training step. Without glibc, or
    if the environment already configures malloc, this does nothing.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch's allocator
    if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)  # take large blocks from the heap, which is reused, instead of mapping each one
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that memory ran out: the GPU's, torch's on the CPU, or Python's."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and (
        should_reduce_batch_size(error) or any(words in str(error) for words in NO_MEMORY)
    )


_spare: list[Callable[[], bool]] = []


@contextmanager
def spare(give_up: Callable[[], bool]) -> Iterator[None]:
    """Let `drop_spare` release memory within this context that is only held to save time.

    Args:
        give_up: Function that releases the memory, and returns whether there was anything to release.

    Returns:
        A context manager without a value.
    """
    _spare.append(give_up)
    try:
        yield
    finally:
        _spare.remove(give_up)


def drop_spare() -> bool:
    """Release all memory that is only held to save time, and return whether there was any."""
    return any([give_up() for give_up in _spare])  # a list, so that each is called


def release_memory(*, collect: bool = True) -> None:
    """Free the memory that a failed attempt, or a model that was dropped, still holds.

    Args:
        collect: Whether to collect objects that hold each other, which takes up to half a second.
    """
    import torch

    if collect:
        gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def return_free_memory() -> None:
    """Return the heap's free memory to the system, where the C library is glibc; call this between trainings.

    `configure_allocator` keeps freed memory for the next step. The next training needs blocks of other sizes, and would
    take new memory beside it: with each training the process would grow.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def retry_with_smaller_batches(work: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
    """Return `work(items)`; if memory runs out, work on one half after the other, down to single items.

    Args:
        work: Function that returns the results of some items, in their order.
        items: The items.
    """
    try:
        return work(items)
    except (RuntimeError, MemoryError) as e:
        if len(items) == 1 or not is_out_of_memory(e):
            raise
    release_memory()  # outside the except block, where the traceback still holds the failed attempt's tensors
    half = len(items) // 2
    return retry_with_smaller_batches(work, items[:half]) + retry_with_smaller_batches(work, items[half:])


def free_gpu_bytes(device: torch.device) -> int:
    """Return the bytes that torch can allocate on a GPU: free memory, and what torch has reserved but does not use."""
    import torch

    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def usable_gpu_bytes() -> int:
    """Return the bytes of this process's GPU that it can use for a training: free memory, and all that it has itself.

    What it has is what torch has reserved: the untrained model, which leaves memory or is counted apart, and the cache.
    """
    import torch

    return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
