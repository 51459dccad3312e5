"""How many of a judge's verdicts are missing, and whether the others are enough for a number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prefzoo.evals.judges.protocol import Verdict

MOST_MISSING = 0.05  # with a larger share missing, a number would describe the judge's faults
SHOWN = 3  # reasons that are spelled out


@dataclass(frozen=True)
class Coverage:
    """Counts of verdicts asked for and missing, and the reasons, most frequent first.

    Of reasons that differ only in a quotation, the first is shown.
    """

    asked: int
    missing: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def withheld(self) -> bool:
        """Whether too many are missing for a number to be reported."""
        return self.missing > MOST_MISSING * self.asked

    def summary(self) -> str:
        """Return the counts in words; empty where nothing is missing."""
        if not self.missing:
            return ""
        why = "; ".join(f"{n} x {reason}" for reason, n in self.reasons[:SHOWN])
        consequence = "more than 5%: the number is withheld" if self.withheld else "left out"
        return f"{self.missing} of {self.asked} verdicts are missing ({why}); {consequence}"


def coverage(verdicts: Sequence[Verdict]) -> Coverage:
    """Count missing verdicts; reasons that differ only in a quotation are counted as one."""
    return coverage_of([v.missing for v in verdicts if v.missing], len(verdicts))


def coverage_of(missing: Sequence[str], asked: int) -> Coverage:
    """Count the reasons of missing verdicts, out of all that were asked for."""
    first: dict[str, str] = {}
    for reason in missing:
        first.setdefault(_kind(reason), reason)
    alike = Counter(_kind(reason) for reason in missing)
    return Coverage(asked, len(missing), tuple((first[kind], n) for kind, n in alike.most_common()))


def _kind(reason: str) -> str:
    return re.sub(r"(['\"]).*\1", "'…'", reason)
