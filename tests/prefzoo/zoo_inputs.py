"""Inputs for the tests of losses: everything that any loss needs, made from log-probs of tokens."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from prefzoo import losses
from prefzoo.losses import AnyLoss
from prefzoo.types import Answers, LogProbs, Mismatched, RankedScores, TokenKL, VocabLogProbs

DOUBLE = torch.float64


def named(name: str) -> AnyLoss:
    """Return the loss of a name, or a modified loss, like `dpo with humanline and dr`."""
    loss, _, modifiers = name.partition(" with ")
    return losses.modify(losses.get(loss), modifiers.split(" and ")) if modifiers else losses.get(loss)


def padded(rows: list[list[float]], dtype: torch.dtype = DOUBLE) -> Tensor:
    """Return a (B, T) tensor of rows of unequal length, padded with zeros at the end."""
    width = max(map(len, rows))
    return torch.tensor([row + [0.0] * (width - len(row)) for row in rows], dtype=dtype)


def vocab(
    chosen: Tensor, rejected: Tensor, chosen_len: Tensor, rejected_len: Tensor, statistics: tuple[Tensor, ...] = ()
) -> VocabLogProbs:
    """Return log-probs from (B, T) token log-probs; without `statistics`, these are arbitrary values."""
    inside = [
        (torch.arange(t.shape[1]) < n[:, None]).to(t.dtype) for t, n in ((chosen, chosen_len), (rejected, rejected_len))
    ]
    rest = statistics or (2.0 * inside[0], 1.5 * inside[1], -1.0 * inside[0], -1.5 * inside[1])
    return VocabLogProbs(chosen.sum(1), rejected.sum(1), chosen_len, rejected_len, chosen, rejected, *rest)


@dataclass(frozen=True)
class World:
    """B pairs under policy and reference, with scores, KLs and mismatched rows (one per pair)."""

    policy: VocabLogProbs
    reference: VocabLogProbs
    scores: RankedScores
    kl: TokenKL
    mismatched: Mismatched

    def __len__(self) -> int:
        return len(self.policy)

    def each(self, loss: AnyLoss, params: Any = None, state: Any = None) -> Tensor:
        return self.each_with_state(loss, params, state)[0]

    def each_with_state(self, loss: AnyLoss, params: Any = None, state: Any = None) -> tuple[Tensor, Any]:
        """Return the loss of every row and the next state; an unpaired loss has the chosen rows first."""
        policy: LogProbs | Answers = self.policy
        reference: LogProbs | Answers | None = self.reference if loss.needs_reference else None
        if loss.unpaired:
            kind: type[Answers] = loss.needs["policy"]
            policy, reference = kind.from_pairs(self.policy), kind.from_pairs(self.reference)
        return loss.each_with_state(
            policy,
            reference,
            loss.Params() if params is None else params,
            scores=self.scores if loss.needs_scores else None,
            kl=self.kl if loss.needs_kl else None,
            mismatched=self.mismatched if loss.needs_mismatched else None,
            state=state,
        )

    def take(self, rows: list[int]) -> World:
        return World(*(of(getattr(self, f.name), lambda t: t[rows]) for f in fields(self)))

    def to(self, dtype: torch.dtype) -> World:
        return World(
            *(of(getattr(self, f.name), lambda t: t.to(dtype) if t.is_floating_point() else t) for f in fields(self))
        )

    def at_reference(self) -> World:
        """Return the same with a policy equal to the reference, so that the KL is 0."""
        zero = torch.zeros_like(self.kl.chosen)
        same = Mismatched(self.mismatched.reference, self.mismatched.reference)
        return World(self.reference, self.reference, self.scores, TokenKL(zero, zero), same)

    def moved(self, chosen: Tensor, rejected: Tensor) -> World:
        """Return the same with (B,) nats added to the policy's answers, spread evenly over their tokens."""
        p = self.policy

        def spread(tokens: Tensor, nats: Tensor, count: Tensor) -> Tensor:
            return tokens + (torch.arange(tokens.shape[1]) < count[:, None]) * (nats / count)[:, None]

        tokens = spread(p.chosen_tokens, chosen, p.chosen_len), spread(p.rejected_tokens, rejected, p.rejected_len)
        return self.with_tokens(*tokens)

    def with_tokens(self, chosen: Tensor, rejected: Tensor) -> World:
        p = self.policy
        sums = {"chosen": chosen.sum(1), "rejected": rejected.sum(1)}
        return replace(self, policy=replace(p, chosen_tokens=chosen, rejected_tokens=rejected, **sums))


def of(value: Any, change: Any) -> Any:
    """Return a value of the same kind with `change` applied to every tensor."""
    return type(value)(*(change(getattr(value, f.name)) for f in fields(value)))


def random_world(seed: int, pairs: int = 6, *, even: bool = False) -> World:
    """Return random inputs in fp64; with `even`, all answers have the same length."""
    gen = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=gen, dtype=DOUBLE)

    lengths = torch.full((2, pairs), 7) if even else torch.randint(3, 12, (2, pairs), generator=gen)
    inside = [torch.arange(12) < lengths[i][:, None] for i in range(2)]

    def one() -> VocabLogProbs:
        tokens = [(-0.2 - 3 * uniform(pairs, 12)) * m for m in inside]
        entropy = [(0.5 + 3 * uniform(pairs, 12)) * m for m in inside]
        squares = [(-2 * uniform(pairs, 12)) * m for m in inside]
        return vocab(*tokens, *lengths, (*entropy, *squares))

    scores = uniform(pairs)
    return World(
        one(),
        one(),
        RankedScores(scores + 0.2 + uniform(pairs), scores, torch.ones_like(scores), 0.9 * scores),
        TokenKL(3 * uniform(pairs), 3 * uniform(pairs)),
        Mismatched(-20 + 9 * uniform(pairs), -20 + 5 * uniform(pairs)),
    )


def wide_world(sums: list[tuple[float, ...]], dtype: torch.dtype) -> World:
    """Return pairs of ten tokens with such sums (chosen, rejected, then the reference's), rounded to `dtype`."""
    count = torch.full((len(sums),), 10)
    sides = [(torch.tensor(side)[:, None].expand(-1, 10) / 10).to(dtype).float() for side in zip(*sums, strict=True)]
    policy, reference = vocab(sides[0], sides[1], count, count), vocab(sides[2], sides[3], count, count)
    gap = torch.ones(len(sums))
    gap[1::2] = 1e4
    kl = TokenKL((policy.chosen - reference.chosen).abs(), (policy.rejected - reference.rejected).abs())
    return World(
        policy,
        reference,
        RankedScores(gap, gap * 0, gap * 0 + 1, gap * 0),
        kl,
        Mismatched(policy.chosen, reference.chosen),
    )
