"""Numerically stable functions that several families share."""

from __future__ import annotations

import math

from prefzoo.losses._torch import Tensor, torch

EXPONENT_LIMIT = 30.0  # e^30 is 1e13: its square, summed over a model's parameters, is still finite in fp32


def bounded_exp(x: Tensor) -> Tensor:
    """Return `e^x` up to x = EXPONENT_LIMIT, and its tangent above it: finite, with a continuous gradient."""
    low = x.clamp(max=EXPONENT_LIMIT)
    return torch.exp(low) * (1 + (x - low))


def bounded_expm1(x: Tensor) -> Tensor:
    """Return `e^x - 1`, exact for small x, continued by its tangent above EXPONENT_LIMIT."""
    low = x.clamp(max=EXPONENT_LIMIT)
    return torch.expm1(low) + torch.exp(low) * (x - low)


def log1mexp(x: Tensor) -> Tensor:
    """Return `log(1 - e^x)` for x <= 0, with finite gradients near 0."""
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near = x > -math.log(2)
    close = torch.log(-torch.expm1(torch.where(near, x, -0.5)))
    far = torch.log1p(-torch.exp(torch.where(near, -1.0, x)))
    return torch.where(near, close, far)


def log_odds(x: Tensor) -> Tensor:
    """Return `log(p / (1 - p))` for x = log p <= 0."""
    return x - log1mexp(x)


def mask_first(tokens: Tensor, count: Tensor) -> Tensor:
    """Return a (B, T) mask of the first `count` positions of each row."""
    return torch.arange(tokens.shape[1], device=tokens.device) < count[:, None]
