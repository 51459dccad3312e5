"""Accumulate a softmax over the vocabulary tile by tile, in fp32 (fp64 for fp64 logits)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class OnlineSoftmax:
    """Sums over the tiles so far, scaled by the largest logit so far (Milakov & Gimelshein 2018, arXiv:1805.02867).

    Attributes:
        keeps_statistics: Whether to accumulate the sums that `statistics` needs.
        top: (n, 1) largest logit; like the sums, unset before the first tile.
        total: (n, 1) sum of exp(l - top).
        logits: (n, 1) sum of exp(l - top) * l, for the entropy.
        squares: (n, 1) sum of exp(2 (l - top)), for the sum of squared probabilities.
    """

    keeps_statistics: bool = False
    top: Tensor = field(init=False)
    total: Tensor | float = 0.0
    logits: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, logits: Tensor, *, overwrite: bool) -> tuple[Tensor, Tensor | float]:
        """Add a tile of logits.

        Args:
            logits: (n, v) logits.
            overwrite: Whether the memory of `logits` may be reused.

        Returns:
            (n, v) exp(logits - top), and the (n, 1) factor that rescales sums of earlier tiles to the new top; 0 for
            the first tile.
        """
        top = logits.amax(-1, keepdim=True)
        shrink: Tensor | float = 0.0
        if isinstance(self.total, Tensor):  # not the first tile
            top = torch.maximum(self.top, top)
            shrink = (self.top - top).exp()
        overwrite = overwrite and not self.keeps_statistics
        each = (logits.sub_(top) if overwrite else logits - top).exp_()
        self.top, self.total = top, rescaled_sum(self.total, shrink, each.sum(-1, keepdim=True))
        if self.keeps_statistics:
            self.logits = rescaled_sum(self.logits, shrink, (each * logits).sum(-1, keepdim=True))
            self.squares = rescaled_sum(self.squares, shrink**2, (each * each).sum(-1, keepdim=True))
        return each, shrink

    @property
    def lse(self) -> Tensor:
        """(n, 1) log of the sum of exp(logits)."""
        return self.top + torch.as_tensor(self.total).log()

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Return the (n,) entropies in nats and the (n,) logs of the sums of squared probabilities."""
        entropy = self.lse - self.logits / self.total
        squares = torch.as_tensor(self.squares / self.total**2).log()
        return entropy.squeeze(-1), squares.squeeze(-1)


def rescaled_sum(sums: Tensor | float, shrink: Tensor | float, more: Tensor) -> Tensor:
    """Rescale the sums so far and add those of a new tile.

    Args:
        sums: Sums so far; a number before the first tile.
        shrink: Factor of the sums so far.
        more: Sums of the new tile.

    Returns:
        The new sums; `more` itself for the first tile.
    """
    return sums * shrink + more if isinstance(sums, Tensor) else more
