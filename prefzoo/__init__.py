"""prefzoo: which preference loss should I use for my model and my data, how sure is that, and what does it cost?

From Python: `run` a recipe, call a `loss`, `compare` runs. Importing this imports no torch.
"""

from typing import TYPE_CHECKING, Any

from prefzoo.api import compare, loss, run
from prefzoo.errors import UserError
from prefzoo.version import __version__ as __version__

if TYPE_CHECKING:
    from prefzoo.types import Answers, LogProbs

__all__ = ["Answers", "LogProbs", "UserError", "compare", "loss", "run"]


def __getattr__(name: str) -> Any:
    if name in ("Answers", "LogProbs"):  # these import torch
        from prefzoo import types

        return getattr(types, name)
    raise AttributeError(f"module 'prefzoo' has no attribute {name!r}")
