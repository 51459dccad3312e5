"""One process, or several under `accelerate launch`: who speaks and writes, what all agree on, how they share work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import DistributedType, broadcast_object_list, gather_object, parse_flag_from_env

from prefzoo.errors import UserError

T = TypeVar("T")
TIMEOUT = timedelta(days=1)  # one process may measure for hours while the others wait for it


def process_state() -> Any:
    """This process's place among all; joins them at the first call.

    Raises:
        UserError: a launcher started several, and they cannot find each other.
    """
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=TIMEOUT)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != launched:  # each would train alone and write over the others
        raise UserError(
            f"launched as {launched} processes, but they are not joined; on a machine without GPUs, put "
            "ACCELERATE_USE_CPU=true before the command"
        )
    return state


def leave_process_group() -> None:
    """The end of all shared work."""
    state = process_state()
    if state.num_processes > 1:
        state.wait_for_everyone()
        state.destroy_process_group()


def broadcast(value: T) -> T:
    """The main process's value, in every process."""
    if process_state().num_processes == 1:
        return value
    found = [value]
    broadcast_object_list(found)
    return found[0]


def shard(items: Sequence[T]) -> list[T]:
    """What of the items falls to this process: dealt in turn."""
    state = process_state()
    return list(items[state.process_index :: state.num_processes])


def shard_range(count: int) -> tuple[int, int]:
    """Where this process's part of `count` rows begins and ends."""
    state = process_state()
    first, end = (count * (state.process_index + i) // state.num_processes for i in (0, 1))
    return first, end


def all_gather(value: T) -> list[T]:
    """The values of all processes, in their order."""
    state = process_state()
    if state.num_processes == 1:
        return [value]
    found: list[tuple[int, T]] = gather_object([(state.process_index, value)])
    return [v for _, v in sorted(found, key=lambda pair: pair[0])]


@contextmanager
def gradient_sync(accelerator: Any, scorer: Any, *, last: bool) -> Iterator[None]:
    """Around a micro-batch: gradients are summed over the processes once a step, after the last one.

    Where parameters are sharded each micro-batch's are, since whole gradients may not fit.
    """
    sharded = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    with nullcontext() if last or sharded else accelerator.no_sync(scorer):
        accelerator.gradient_state._set_sync_gradients(last)  # what DeepSpeed steps at; Accelerate has no other way
        yield
