"""Estimate a variant's peak memory for `prefzoo check`, and compare it with what is free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.data.batches import split
from prefzoo.data.tokens import TokenExample
from prefzoo.engine.attention_pieces import saved_attention_weights
from prefzoo.recipe.sections import Train
from prefzoo.runtime.devices import has_gpu
from prefzoo.runtime.lazy_torch import torch
from prefzoo.runtime.memory import usable_gpu_bytes
from prefzoo.training.memory_model import GIB, DeviceType, Shape, TrainingPlan, footprint, model_bytes, model_shape
from prefzoo.training.memory_need import MemoryNeed, free_memory
from prefzoo.training.passes import token_budget, tokens_that_fit

# On CPUs a process also holds Python, torch, oneDNN's kernels for every size it has seen, and memory that it freed. In
# trainings of 0.4 to 4 GiB the measured peak stayed below `CPU_OVERHEAD` times the formulas' peak plus `PROCESS_BYTES`.
CPU_OVERHEAD, PROCESS_BYTES = 1.25, 1.5 * GIB


def with_tokens(train: Train, shape: Shape, *, bf16: bool, held: int) -> Train:
    """Return the settings of a training with as many tokens a pass as suit the memory of this process's GPU.

    Args:
        train: The settings.
        shape: Sizes of the model.
        bf16: Whether matrix products run in bf16.
        held: How many other models of its size stay in memory beside it.

    Returns:
        The settings; unchanged where passes have a size of their own, and on CPUs.
    """
    if train.tokens or not has_gpu():
        return train
    from accelerate.utils import parse_flag_from_env

    from prefzoo.runtime.distributed import process_state

    if process_state().device.type != "cuda":
        return train
    world = process_state().num_processes
    free = usable_gpu_bytes()
    # several processes must agree on their passes, and other work on their cards may differ
    memory = free if world == 1 else torch.cuda.get_device_properties().total_memory
    devices = world if any(parse_flag_from_env(f"ACCELERATE_USE_{kind}") for kind in ("FSDP", "DEEPSPEED")) else 1
    tokens = tokens_that_fit(shape, train, bf16=bf16, memory=memory, held=held, devices=devices)
    return train.model_copy(update={"tokens": tokens})


def memory_need(
    config: Any, pairs: Sequence[TokenExample], train: Train, *, bf16: bool, live: Sequence[Any] = (),
    reference: Any = None,
) -> MemoryNeed | None:  # fmt: skip
    """Estimate the peak memory of one process's training, and how much is free.

    Args:
        config: The base model's configuration, which gives the sizes.
        pairs: The training rows; the longest batch of them decides.
        train: The loop's settings.
        bf16: Whether matrix products run in bf16.
        live: Configurations of the other models that stay in memory while it trains.
        reference: Configuration of the reference that is scored before the training, if that is another model.

    Returns:
        The need; None if the architecture is unknown.
    """
    try:
        shape = model_shape(config)
        held = sum(model_bytes(model_shape(own), frozen_bf16=False) for own in live)
        before = model_bytes(model_shape(reference), frozen_bf16=False) if reference is not None else 0.0
    except (AttributeError, TypeError):
        return None
    device_type: DeviceType = "cuda" if has_gpu() else "cpu"
    longest = sorted(range(len(pairs)), key=lambda i: -pairs[i].answer_tokens)[: train.batch]
    budget = token_budget(with_tokens(train, shape, bf16=bf16, held=len(live)), device_type)
    parts = split(pairs, longest, budget, train.micro_batch)
    blocks = [[pairs[i].block_lengths for i in part] for part in parts]
    tokens = [sum(map(sum, part)) for part in blocks]
    scored = [sum(pairs[i].scored_tokens for i in part) for part in parts]
    context = max(saved_attention_weights(part) / count for part, count in zip(blocks, tokens, strict=True))
    plan = TrainingPlan(
        max(tokens), max(scored), context, len(parts), train.lora.rank if train.lora else None, bf16,
        train.gradient_checkpointing, device_type=device_type, held=held / model_bytes(shape, frozen_bf16=False),
        optimizer=train.optimizer,
    )  # fmt: skip
    peak = max(footprint(shape, plan).peak, before)
    most = CPU_OVERHEAD * peak + PROCESS_BYTES if device_type == "cpu" else peak
    gpu = device_type == "cuda"
    free = float(usable_gpu_bytes()) if gpu else free_memory()
    return MemoryNeed(peak, most, free, on_gpu=gpu, scoring=peak == before)
