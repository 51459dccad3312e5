"""How an answer looks: headers, lists and bold text in Markdown, compared with the baseline's answer.

The covariates of Arena-Hard's style control (arXiv:2406.11939; Li 2024, "Does style matter?"): a count per length, and
of it the relative difference of two answers. Here lengths are in characters, and an equal style is zero.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from prefzoo.evals.stats.intervals import Values

CODE = re.compile(r"```.*?```", re.DOTALL)
ELEMENTS = {
    "headers": re.compile(r"^#{1,6}\s", re.MULTILINE),
    "lists": re.compile(r"^\s*(?:\d+\.|[-*+])\s", re.MULTILINE),
    "bold": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
}
PER = 1000  # characters, which a density is per


@lru_cache(maxsize=16384)
def elements(text: str) -> tuple[int, ...]:
    """Count headers, items of lists, and bold passages outside of blocks of code."""
    plain = CODE.sub("", text)
    return tuple(len(pattern.findall(plain)) for pattern in ELEMENTS.values())


def has_style(texts: Sequence[str]) -> bool:
    """Return whether any text has a header, a list or a bold passage."""
    return any(any(elements(text)) for text in texts)


def style_terms(rows: pd.DataFrame, order: Sequence[str]) -> Values:
    """Return how much more of each element a model's answers have than the baseline's.

    Args:
        rows: of one model: `instruction`, `output_1` (the baseline's) and `output_2`.
        order: n instructions.

    Returns:
        (n, 3) terms with spread 1, zero for an equal style, for elements that no answer has, and without a row.
    """
    base, own = (np.array([_densities(str(text)) for text in rows[name]]) for name in ("output_1", "output_2"))
    terms = (own - base) / (own + base + 1)
    spread = terms.std(0)
    terms = np.where(spread > 0, terms / np.where(spread > 0, spread, 1.0), 0.0)
    by_text = pd.DataFrame(terms, index=rows["instruction"])
    return by_text.reindex(list(order)).fillna(0.0).to_numpy(dtype=float)


def _densities(text: str) -> list[float]:
    return [PER * count / (len(text) + 1) for count in elements(text)]
