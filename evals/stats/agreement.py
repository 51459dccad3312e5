"""The agreement of several judges on who wins: Krippendorff's alpha, by NLTK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

TWO = 2  # fewest verdicts on a prompt that show agreement


def krippendorff_alpha(preferences: Mapping[str, Sequence[float | None]]) -> float:
    """Return Krippendorff's alpha (Krippendorff 2011) for wins, ties and losses as nominal values.

    Args:
        preferences: each judge's preferences in [1, 2] on the same n prompts; None where one is missing.

    Returns:
        Alpha: 1 for perfect agreement, 0 for agreement by chance; NaN if no two judges gave a verdict on the same
        prompt, or all verdicts are the same.
    """
    from nltk.metrics.agreement import AnnotationTask

    table = np.array([[np.nan if p is None else p for p in several] for several in preferences.values()], dtype=float)
    table = np.sign(table[:, np.isfinite(table).sum(0) >= TWO] - 1.5)
    stated = table[np.isfinite(table)]
    if not len(stated) or np.ptp(stated) == 0:
        return float("nan")
    rows = [(str(judge), str(item), int(table[judge, item])) for judge, item in np.argwhere(np.isfinite(table))]
    return float(AnnotationTask(data=rows).alpha())
