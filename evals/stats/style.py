"""Compare the Markdown style of an answer (headers, lists, bold text) with that of the baseline's answer.

These are the covariates of Arena-Hard's style control (arXiv:2406.11939; Li 2024, "Does style matter?"): the relative
difference of two answers in the number of elements per length. Here lengths are in characters, and a term of 0 means
equal style.
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
PER = 1000  # characters; a density is a number of elements per so many characters


@lru_cache(maxsize=16384)
def elements(text: str) -> tuple[int, ...]:
    """Count headers, list items and bold passages outside of code blocks."""
    plain = CODE.sub("", text)
    return tuple(len(pattern.findall(plain)) for pattern in ELEMENTS.values())


def has_style(texts: Sequence[str]) -> bool:
    """Return whether any text has a header, a list or a bold passage."""
    return any(any(elements(text)) for text in texts)


def style_terms(rows: pd.DataFrame, order: Sequence[str]) -> Values:
    """Return the relative difference in each style element between a model's answers and the baseline's.

    Args:
        rows: the rows of one model, with `instruction`, `output_1` (the baseline's answer) and `output_2`.
        order: n instructions.

    Returns:
        (n, 3) terms, each column with standard deviation 1; 0 for equal style, for
        instructions without a row, and in a column that would be constant.
    """
    base, own = (np.array([_densities(str(text)) for text in rows[name]]) for name in ("output_1", "output_2"))
    terms = (own - base) / (own + base + 1)
    spread = terms.std(0)
    terms = np.where(spread > 0, terms / np.where(spread > 0, spread, 1.0), 0.0)
    by_text = pd.DataFrame(terms, index=rows["instruction"])
    return by_text.reindex(list(order)).fillna(0.0).to_numpy(dtype=float)


def _densities(text: str) -> list[float]:
    return [PER * count / (len(text) + 1) for count in elements(text)]
