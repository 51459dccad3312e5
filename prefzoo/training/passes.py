"""How the rows of an optimiser step are split into forward passes; the reference is scored in the same passes.

In low precision a row's log-probs depend, by rounding, on what is computed beside it: matrix products of other sizes
run in other kernels. Scored in the training's own passes, policy and reference are the same to the last bit at step 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefzoo.data.batches import split
from prefzoo.data.tokens import TokenExample
from prefzoo.recipe.sections import Train

TOKENS = {"cpu": 2048}  # more is no faster on two cores, and takes more memory
DEFAULT_TOKENS = 16384
Passes = list[list[int]]  # the rows of each pass


def token_budget(train: Train, device: str) -> int:
    """Return how many tokens one forward and backward pass may have on a type of device."""
    return train.tokens or TOKENS.get(device, DEFAULT_TOKENS)


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
