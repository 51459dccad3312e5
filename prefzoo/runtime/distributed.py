"""Run as one process or as several under `accelerate launch`, and share values and work among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar, cast

from accelerate import PartialState
from accelerate.utils import DistributedType, broadcast_object_list, gather_object, parse_flag_from_env

from prefzoo.errors import UserError

T = TypeVar("T")
TIMEOUT = timedelta(days=1)  # one process may measure for hours while the others wait for it


def process_state() -> Any:
    """Return Accelerate's `PartialState` of this process; the first call joins the process group.

    Raises:
        UserError: A launcher started several processes that cannot find each other.
    """
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=TIMEOUT)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != launched:  # each would train alone and overwrite the files of the others
        raise UserError(
            f"launched as {launched} processes, but they are not joined; on a machine without GPUs, put "
            "ACCELERATE_USE_CPU=true before the command"
        )
    return state


def leave_process_group() -> None:
    """Wait for all processes, then end their communication."""
    state = process_state()
    if state.num_processes > 1:
        state.wait_for_everyone()
        state.destroy_process_group()


def broadcast(value: T) -> T:
    """Return the main process's value in every process."""
    if process_state().num_processes == 1:
        return value
    values = [value]
    broadcast_object_list(values)
    return values[0]


def in_main(work: Callable[[], T], *, alone: bool) -> T:
    """Return `work()`; with `alone`, only the main process calls it, and every process gets its result."""
    if not alone:
        return work()
    return broadcast(work() if process_state().is_main_process else cast("T", None))


def shard(items: Sequence[T]) -> list[T]:
    """Return this process's share of the items: every n-th one, for n processes."""
    state = process_state()
    return list(items[state.process_index :: state.num_processes])


def shard_range(count: int) -> tuple[int, int]:
    """Return the start and end (exclusive) of this process's contiguous share of `count` rows."""
    state = process_state()
    first, end = (count * (state.process_index + i) // state.num_processes for i in (0, 1))
    return first, end


def all_gather(value: T) -> list[T]:
    """Return the values of all processes, ordered by process index."""
    state = process_state()
    if state.num_processes == 1:
        return [value]
    values: list[tuple[int, T]] = gather_object([(state.process_index, value)])
    return [v for _, v in sorted(values, key=lambda pair: pair[0])]


@contextmanager
def gradient_sync(accelerator: Any, module: Any, *, last: bool) -> Iterator[None]:
    """Synchronise gradients over the processes once per step, in its last micro-batch.

    Sharded parameters (FSDP2, DeepSpeed) are synchronised after every micro-batch, because the full gradients may not
    fit into memory.

    Args:
        accelerator: Accelerate's `Accelerator`.
        module: The wrapped module whose backward pass runs in the block.
        last: Whether this is the step's last micro-batch.

    Returns:
        A context manager for one micro-batch's forward and backward pass.
    """
    sharded = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    with nullcontext() if last or sharded else accelerator.no_sync(module):
        accelerator.gradient_state._set_sync_gradients(last)  # tells DeepSpeed when to step; it has no public setter
        yield
