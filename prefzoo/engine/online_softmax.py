"""Accumulate a softmax over the vocabulary tile by tile, in fp32 (fp64 for fp64 logits)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class OnlineSoftmax:
    """Sums over the tiles so far, relative to the largest logit so far (Milakov & Gimelshein 2018, arXiv:1805.02867).

    Attributes:
        top: (n, 1) largest logit.
        total: (n, 1) sum of exp(l - top).
        logits: (n, 1) sum of exp(l - top) * l, for the entropy; None without statistics.
        squares: (n, 1) sum of exp(2 (l - top)), for the sum of squared probabilities; None without statistics.
    """

    top: Tensor
    total: Tensor
    logits: Tensor | None = None
    squares: Tensor | None = None

    @classmethod
    def start(cls, like: Tensor, statistics: bool) -> OnlineSoftmax:
        """Return empty sums for as many rows as `like` has, of its dtype and on its device."""
        top, zero = like.new_full((len(like), 1), -torch.inf), like.new_zeros(len(like), 1)
        return cls(top, zero, zero if statistics else None, zero if statistics else None)

    def add(self, logits: Tensor, *, overwrite: bool) -> tuple[Tensor, Tensor]:
        """Add a tile of logits.

        Args:
            logits: (n, v) logits.
            overwrite: Whether the memory of `logits` may be reused.

        Returns:
            (n, v) exp(logits - top), and the (n, 1) factor that rescales sums of earlier tiles to the new top.
        """
        top = torch.maximum(self.top, logits.amax(-1, keepdim=True))
        overwrite = overwrite and self.logits is None
        shrink, each = (self.top - top).exp(), (logits.sub_(top) if overwrite else logits - top).exp_()
        self.top, self.total = top, self.total * shrink + each.sum(-1, keepdim=True)
        if self.logits is not None and self.squares is not None:
            self.logits = self.logits * shrink + (each * logits).sum(-1, keepdim=True)
            self.squares = self.squares * shrink**2 + (each * each).sum(-1, keepdim=True)
        return each, shrink

    @property
    def lse(self) -> Tensor:
        """(n, 1) log of the sum of exp(logits)."""
        return self.top + self.total.log()

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Return the (n,) entropies in nats and the (n,) logs of the sums of squared probabilities."""
        assert self.logits is not None and self.squares is not None
        entropy, squares = self.lse - self.logits / self.total, (self.squares / self.total**2).log()
        return entropy.squeeze(-1), squares.squeeze(-1)
