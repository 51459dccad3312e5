"""Measure how a training moves probability at the first token of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SHOWN = 5  # how many of the tokens that gained most, and that lost most


@dataclass(frozen=True)
class MovedToken:
    """One token's probability before and after a training."""

    text: str
    before: float
    after: float


@dataclass(frozen=True)
class MovedMass:
    """Probability of an answer's first token, before and after a training.

    Attributes:
        chosen, rejected: The first tokens of the pair's answers.
        gained, lost: The tokens that gained and lost most probability; `chosen` and `rejected` may be among them.
    """

    chosen: MovedToken
    rejected: MovedToken
    gained: tuple[MovedToken, ...]
    lost: tuple[MovedToken, ...]


@torch.no_grad()
def first_token_probs(model: Any, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Return the (B, V) probabilities in fp32 of each token being the first of an answer.

    Args:
        model: A causal language model; it stays on its device.
        prompts: Token ids of B prompts, including everything before the answer.
    """
    device, rows = next(model.parameters()).device, list[Tensor]()
    for prompt in prompts:
        logits = model(input_ids=torch.tensor([list(prompt)], device=device)).logits[0, -1]
        rows.append(logits.float().softmax(-1).cpu())
    return torch.stack(rows)


def moved_mass(before: Tensor, after: Tensor, chosen: int, rejected: int, tokenizer: Any) -> MovedMass:
    """Report which tokens gained and lost probability.

    Args:
        before, after: (V,) probabilities of one prompt's next token.
        chosen, rejected: Ids of the first tokens of the answers.
        tokenizer: The model's tokenizer.

    Returns:
        The answers' first tokens, and the up to five tokens each that gained and lost most.
    """

    def token(i: int) -> MovedToken:
        return MovedToken(tokenizer.decode([i]), float(before[i]), float(after[i]))

    change, size = after - before, min(SHOWN, len(before))
    gained = [i for i in change.topk(size).indices.tolist() if change[i] > 0]
    lost = [i for i in (-change).topk(size).indices.tolist() if change[i] < 0]
    return MovedMass(token(chosen), token(rejected), tuple(map(token, gained)), tuple(map(token, lost)))
