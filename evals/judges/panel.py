"""A panel: several judges of the same answers, whose majority or mean is the preference."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from os.path import normpath
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import field_validator
from pydantic_core import PydanticCustomError

from prefzoo.evals.judges.protocol import TIE, Comparison, Judge, Progress, Verdict
from prefzoo.recipe.judge import JudgeSettings, Member, identity

TWO = 2  # judges are a panel


class PanelSettings(JudgeSettings):
    """Several judges, each as `evals.judge` takes it; `judge: [a, b, c]` is short for it.

    `by: majority` counts the judges whom either answer wins; `by: mean` takes the mean of their preferences.
    """

    kind: Literal["panel"]
    of: list[Member]
    by: Literal["majority", "mean"] = "majority"

    @field_validator("of")
    @classmethod
    def _several(cls, value: list[Any]) -> list[Any]:
        if len(value) < TWO:
            raise PydanticCustomError("panel", "must have 2 judges at least (has {n}); name more", {"n": len(value)})
        first: dict[str, Any] = {}
        for one in value:
            known = first.setdefault(identity(one), one)
            if known is not one:
                fault = "has {name} twice{but}, which always agrees with itself; name another, or leave it out"
                raise PydanticCustomError("panel", fault, {"name": _name(one), "but": _difference(known, one)})
        return value

    def identity(self) -> str:
        """Return what decides the verdicts: the judges, in any order, and how they are put together."""
        return repr((self.kind, self.by, sorted(map(identity, self.of))))

    def load(self, folder: Path) -> Panel:
        """Return the panel.

        Raises:
            UserError: one of its judges cannot be loaded.
        """
        from prefzoo.evals.judges import load_judge

        return Panel([load_judge(member, folder) for member in self.of], self.by)


def _name(judge: str | JudgeSettings) -> str:
    return normpath(judge) if isinstance(judge, str) else f"a judge of kind {judge.kind}"


def _difference(one: str | JudgeSettings, other: str | JudgeSettings) -> str:
    """Return in which settings two spellings of one judge differ, in brackets; empty if in none."""
    if isinstance(one, str) or isinstance(other, str):
        return ""
    names = [k for k in sorted(one.without_effect) if getattr(one, k) != getattr(other, k)]
    return f" (they differ only in {' and '.join(names)}, by which no verdict changes)" if names else ""


class Panel(Judge):
    """Asks every judge. A preference needs the verdicts of more than half of them."""

    def __init__(self, judges: Sequence[Judge], by: str) -> None:
        self.judges, self.by = tuple(judges), by
        names = [judge.name for judge in judges]
        self.members = tuple(f"{n} ({names[:i].count(n) + 1})" if n in names[:i] else n for i, n in enumerate(names))
        self.name = f"{by} of {', '.join(self.members)}"
        hashes = "".join(judge.prompt_hash for judge in judges)
        self.prompt_hash = hashlib.sha256(hashes.encode()).hexdigest()[:12] if hashes else ""
        self.needs_checks = any(judge.needs_checks for judge in judges)
        self.free = all(judge.free for judge in judges)

    def check(self) -> None:
        """Check every judge.

        Raises:
            UserError: one of them cannot judge at all.
        """
        for judge in self.judges:
            judge.check()

    def forecast(self, comparisons: Sequence[Comparison]) -> str:
        """Return what every judge's comparisons would cost, in words."""
        return "\n".join(filter(None, (judge.forecast(comparisons) for judge in self.judges)))

    def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
        """Return the panel's verdict on each comparison, with every judge's own.

        Raises:
            UserError: one of the judges cannot judge at all.
        """
        several = [judge.compare(comparisons, progress) for judge in self.judges]
        return [self._together(verdicts) for verdicts in zip(*several, strict=True)]

    def _together(self, verdicts: Sequence[Verdict]) -> Verdict:
        members = tuple(v.preference for v in verdicts)
        stated = [p for p in members if not math.isnan(p)]
        if len(stated) * 2 <= len(members):
            lost = next(v.missing for v in verdicts if v.missing)
            missing = f"{len(members) - len(stated)} of {len(members)} judges gave no verdict ({lost})"
            return Verdict(math.nan, (), missing, members)
        votes = float(np.sign(np.array(stated) - TIE).sum())
        preference = float(np.mean(stated)) if self.by == "mean" else TIE + 0.5 * float(np.sign(votes))
        return Verdict(preference, (preference,), "", members)
