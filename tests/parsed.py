"""Sources as syntax trees, each parsed once for all tests of a process that read the code."""

from __future__ import annotations

import ast
from functools import cache


@cache
def parsed(source: str) -> ast.Module:
    """The tree of a source; it is not to be changed."""
    return ast.parse(source)
