"""Split the rows of an optimiser step into forward passes; the reference is scored in the same passes.

In low precision a row's log-probs depend, by rounding, on what is computed beside it: matrix products of other sizes
run in other kernels. Scored in the training's own passes, policy and reference are the same to the last bit at step 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from prefzoo.data.batches import split
from prefzoo.data.tokens import TokenExample
from prefzoo.recipe.sections import Train
from prefzoo.training.memory_model import Shape, TrainingPlan, flops, footprint

TOKENS = {"cpu": 2048}  # more is no faster on two cores, and takes more memory
DEFAULT_TOKENS = 16_384
FEWEST_TOKENS = 512
BUSY_TOKENS = 2048  # with fewer, adding gradients up takes as long as computing them
BUSY = 2.0**46  # operations of a pass that take a GPU longer than it takes to launch them
RESERVE = 0.9  # share of a card's memory that a training may use; what the allocator cannot join takes the rest
Passes = list[list[int]]  # the rows of each pass


def token_budget(train: Train, device: str) -> int:
    """Return how many tokens one forward and backward pass may have on a type of device."""
    return train.tokens or TOKENS.get(device, DEFAULT_TOKENS)


def tokens_that_fit(
    shape: Shape, train: Train, *, bf16: bool, memory: float, held: float = 0.0, devices: int = 1
) -> int:  # fmt: skip
    """Return how many tokens a pass on a GPU should have: as few as keep it busy, and no more than fit.

    Args:
        shape: Sizes of the model.
        train: The loop's settings; its own number of tokens goes before all.
        bf16: Whether matrix products run in bf16.
        memory: Bytes of the card that the training may take.
        held: Other models in the same memory, as a multiple of this one.
        devices: Number of cards over which the weights are sharded.

    Returns:
        A power of two, unless the settings have another number.
    """
    if train.tokens:
        return train.tokens
    rank = train.lora.rank if train.lora else None
    once = flops(shape, TrainingPlan(1, 1, 0.0, rank=rank), 1)
    tokens: int = min(DEFAULT_TOKENS, max(BUSY_TOKENS, 2 ** round(math.log2(BUSY / once))))

    def peak(size: int) -> float:
        plan = TrainingPlan(
            size, size, 0.0, 2, rank, bf16, train.gradient_checkpointing, devices, "cuda", held, train.optimizer
        )
        return footprint(shape, plan).peak

    while tokens > FEWEST_TOKENS and peak(tokens) > RESERVE * memory:
        tokens //= 2
    return tokens


def step_passes(
    train: Train, pairs: Sequence[TokenExample], rows: Sequence[int], device: str, world: int, *, policies: int = 1,
    halvings: int = 0,
) -> list[Passes]:  # fmt: skip
    """Split the rows of a step into passes.

    Args:
        train: Limits the tokens and rows of a pass.
        pairs: The data.
        rows: The step's rows.
        device: Type of the device.
        world: Number of processes that share the step.
        policies: Number of policies that are trained side by side, and share the tokens of a pass.
        halvings: How often passes are halved.

    Returns:
        The passes of each process; all have equally many, since they make their passes together.
    """
    tokens = (token_budget(train, device) >> halvings) // policies
    most = max(1, (train.micro_batch or -(-len(rows) // world)) >> halvings)
    parts = [split(pairs, rows[rank::world], tokens, most) for rank in range(world)]
    count = max(map(len, parts))
    for own in parts:
        while len(own) < count:
            at = max(range(len(own)), key=lambda i: len(own[i]))
            half = len(own[at]) // 2
            own[at : at + 1] = [own[at][:half], own[at][half:]]
    return parts


def scoring_passes(
    train: Train, pairs: Sequence[TokenExample], steps: Sequence[Sequence[int]], device: str, world: int, policies: int
) -> list[Passes]:
    """Return the passes of a training that see a row for the first time, for each process.

    Args:
        train: Limits the tokens and rows of a pass.
        pairs: The data.
        steps: The rows of each step.
        device: Type of the device.
        world: Number of processes that share a step.
        policies: Number of policies that are trained side by side.

    Returns:
        The passes of each process, in order.
    """
    result: list[Passes] = [[] for _ in range(world)]
    seen: set[int] = set()
    for rows in steps:
        for own, parts in zip(
            result, step_passes(train, pairs, rows, device, world, policies=policies), strict=True
        ):  # fmt: skip
            own += [part for part in parts if not seen.issuperset(part)]
        seen.update(rows)
    return result
