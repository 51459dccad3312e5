"""Parse each source once for all tests of a process that read the code."""

from __future__ import annotations

import ast
import gc
from functools import cache


@cache
def parsed(source: str) -> ast.Module:
    """Return the syntax tree of a source; callers must not change it."""
    tree = ast.parse(source)
    gc.freeze()  # or each later collection would go through millions of nodes
    return tree
