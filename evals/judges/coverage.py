"""Count a judge's missing verdicts, and decide whether the others are enough for a result."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prefzoo.evals.judges.protocol import Verdict

MOST_MISSING = 0.05  # share of missing verdicts above which results are withheld
SHOWN = 3  # reasons in a message


@dataclass(frozen=True)
class Coverage:
    """Counts of verdicts asked for and missing, and the reasons, most frequent first.

    Reasons that differ only in quoted text count as one, and are shown by the first of them.
    """

    asked: int
    missing: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def withheld(self) -> bool:
        """True if so many verdicts are missing that no result is reported."""
        return self.missing > MOST_MISSING * self.asked

    def summary(self) -> str:
        """Return the counts in words; empty if no verdict is missing."""
        if not self.missing:
            return ""
        why = "; ".join(f"{n} x {reason}" for reason, n in self.reasons[:SHOWN])
        consequence = "more than 5%: the number is withheld" if self.withheld else "left out"
        return f"{self.missing} of {self.asked} verdicts are missing ({why}); {consequence}"


def coverage(verdicts: Sequence[Verdict]) -> Coverage:
    """Count missing verdicts by reason; reasons that differ only in quoted text count as one."""
    return coverage_of([v.missing for v in verdicts if v.missing], len(verdicts))


def coverage_of(missing: Sequence[str], asked: int) -> Coverage:
    """Count missing verdicts by reason.

    Args:
        missing: the reason for each missing verdict.
        asked: number of all verdicts asked for, given or missing.
    """
    first: dict[str, str] = {}
    for reason in missing:
        first.setdefault(_kind(reason), reason)
    alike = Counter(_kind(reason) for reason in missing)
    return Coverage(asked, len(missing), tuple((first[kind], n) for kind, n in alike.most_common()))


def _kind(reason: str) -> str:
    return re.sub(r"(['\"]).*\1", "'…'", reason)
