"""How much of what a judge was asked it answered, and whether that is enough for a number."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prefzoo.evals.judges.protocol import Verdict

MOST_MISSING = 0.05  # with more missing than this share a number would describe the judge's faults
NAMED = 3  # reasons that are spelled out


@dataclass(frozen=True)
class Coverage:
    """Counts of verdicts asked for and missing, and the reasons, most frequent first."""

    asked: int
    missing: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def withheld(self) -> bool:
        """Whether too many are missing for a number to be given."""
        return self.missing > MOST_MISSING * self.asked

    def says(self) -> str:
        """The counts in words; empty where nothing is missing."""
        if not self.missing:
            return ""
        why = "; ".join(f"{n} x {reason}" for reason, n in self.reasons[:NAMED])
        kept = "more than 5%: the number is withheld" if self.withheld else "left out"
        return f"{self.missing} of {self.asked} verdicts are missing ({why}); {kept}"


def coverage(verdicts: Sequence[Verdict]) -> Coverage:
    """Of some verdicts; reasons that differ in their numbers or quotations alone are counted as one."""
    missing = [v.missing for v in verdicts if v.missing]
    alike = Counter(re.sub(r"'.*'", "'…'", reason) for reason in missing)
    return Coverage(len(verdicts), len(missing), tuple(alike.most_common()))
