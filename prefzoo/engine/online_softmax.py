"""A softmax over the vocabulary that is summed up tile by tile, in fp32 (fp64 for fp64 logits)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class OnlineSoftmax:
    """Sums over the vocabulary so far, all relative to the largest logit yet (Milakov & Gimelshein 2018, 1805.02867).

    `logits` and `squares` are of exp(l) * l and exp(2 l), for the entropy and the log of the sum of squares.
    """

    top: Tensor
    total: Tensor
    logits: Tensor | None = None
    squares: Tensor | None = None

    @classmethod
    def start(cls, like: Tensor, statistics: bool) -> OnlineSoftmax:
        top, zero = like.new_full((len(like), 1), -torch.inf), like.new_zeros(len(like), 1)
        return cls(top, zero, zero if statistics else None, zero if statistics else None)

    def add(self, logits: Tensor, *, spend: bool) -> tuple[Tensor, Tensor]:
        """Take in a tile; returns exp(logits - top) and what earlier sums are to be multiplied by.

        `spend`: the logits are not needed any more, and their memory is used.
        """
        top = torch.maximum(self.top, logits.amax(-1, keepdim=True))
        spend = spend and self.logits is None
        shrink, each = (self.top - top).exp(), (logits.sub_(top) if spend else logits - top).exp_()
        self.top, self.total = top, self.total * shrink + each.sum(-1, keepdim=True)
        if self.logits is not None and self.squares is not None:
            self.logits = self.logits * shrink + (each * logits).sum(-1, keepdim=True)
            self.squares = self.squares * shrink**2 + (each * each).sum(-1, keepdim=True)
        return each, shrink

    def join(self, top: Tensor, total: Tensor) -> Tensor:
        """Take in a tile by its largest logit and its sum of exp(logit - largest); returns `add`'s second value."""
        higher = torch.maximum(self.top, top)
        shrink = (self.top - higher).exp()
        self.top, self.total = higher, self.total * shrink + total * (top - higher).exp()
        return shrink

    @property
    def lse(self) -> Tensor:
        """(n, 1) log of the sum of exp(logits)."""
        return self.top + self.total.log()

    def statistics(self) -> tuple[Tensor, Tensor]:
        """(n,) entropy in nats and (n,) log of the sum of squared probabilities."""
        assert self.logits is not None and self.squares is not None
        entropy, squares = self.lse - self.logits / self.total, (self.squares / self.total**2).log()
        return entropy.squeeze(-1), squares.squeeze(-1)
