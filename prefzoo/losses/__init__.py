"""The zoo: one file per family of losses. Importing this package registers all of them; it never loads a model."""

from prefzoo.losses import contrastive, dpo, ipo, likelihood, margin
from prefzoo.losses._bounds import FlipRate, NonNegative, Positive
from prefzoo.losses._registry import Loss, Params, all_losses, get, loss, names

__all__ = [
    "FlipRate",
    "Loss",
    "NonNegative",
    "Params",
    "Positive",
    "all_losses",
    "contrastive",
    "dpo",
    "get",
    "ipo",
    "likelihood",
    "loss",
    "margin",
    "names",
]
