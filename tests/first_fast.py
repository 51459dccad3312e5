"""Parameters of which `make test-fast` runs only the first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first_fast(parameters: Iterable[Any]) -> list[Any]:
    """Mark all parameters but the first as slow: for tests of half a second that take the same way for each.

    Args:
        parameters: The parameters; a tuple is several arguments.
    """
    first, *others = parameters
    return [first, *(pytest.param(*(p if isinstance(p, tuple) else (p,)), marks=pytest.mark.slow) for p in others)]
