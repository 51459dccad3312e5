"""Estimate a variant's peak memory for `prefzoo check`, and compare it with what is free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.data.batches import split
from prefzoo.data.tokens import TokenExample
from prefzoo.engine.cpu_attention import saved_attention_weights
from prefzoo.recipe.sections import Train
from prefzoo.training.job import Job, moves_reference
from prefzoo.training.memory_model import GIB, DeviceType, TrainingPlan, footprint, model_bytes, model_shape
from prefzoo.training.memory_need import MemoryNeed, free_memory
from prefzoo.training.passes import DEFAULT_TOKENS, TOKENS

# On CPUs a process also holds Python, torch, oneDNN's kernels for every size it has seen, and memory that it freed. In
# trainings of 0.4 to 4 GiB the measured peak stayed below `CPU_OVERHEAD` times the formulas' peak plus `PROCESS_BYTES`.
CPU_OVERHEAD, PROCESS_BYTES = 1.25, 1.5 * GIB


def live_models(job: Job, model: Any, reference: Any) -> list[Any]:
    """Return the configurations of the models that stay in memory beside a policy while it trains.

    Args:
        job: What is to be trained.
        model: Configuration of the model that it starts from.
        reference: That of its reference, if that is another model.

    Returns:
        One for each model; a model that is held three times is there three times.
    """
    train = job.train
    if moves_reference(job) and train.sync_reference is not None:
        copies = 0 if train.lora else 3 if train.sync_reference.bema else 1  # an adapter's is as small as the adapter
        return [model] * copies
    return [reference or model] if job.loss.needs_kl else []


def memory_need(
    config: Any, pairs: Sequence[TokenExample], train: Train, *, bf16: bool, live: Sequence[Any] = (),
    reference: Any = None,
) -> MemoryNeed | None:  # fmt: skip
    """Work out how much memory one process's training takes at its peak, and how much is free.

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
    import torch

    try:
        shape = model_shape(config)
        held = sum(model_bytes(model_shape(own), frozen_bf16=False) for own in live)
        before = model_bytes(model_shape(reference), frozen_bf16=False) if reference is not None else 0.0
    except (AttributeError, TypeError):
        return None
    device_type: DeviceType = "cuda" if torch.cuda.is_available() else "cpu"
    longest = sorted(range(len(pairs)), key=lambda i: -pairs[i].answer_tokens)[: train.batch]
    budget = train.tokens or TOKENS.get(device_type, DEFAULT_TOKENS)
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
    free = float(torch.cuda.mem_get_info()[0]) if gpu else free_memory()
    return MemoryNeed(peak, most, free, on_gpu=gpu, scoring=peak == before)
