"""A panel of several judges, which decides by their majority or by their mean preference."""

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

TWO = 2  # fewest judges of a panel


class PanelSettings(JudgeSettings):
    """Several judges, each written as for `evals.judge`; `judge: [a, b, c]` is short for a panel.

    With `by: majority`, the answer that more judges prefer wins. With `by: mean`, the preference is the judges' mean.
    """

    kind: Literal["panel"]
    of: list[Member]
    by: Literal["majority", "mean"] = "majority"

    @field_validator("of")
    @classmethod
    def _several(cls, value: list[Any]) -> list[Any]:
        if len(value) < TWO:
            raise PydanticCustomError("panel", "must have at least 2 judges (has {n}); name more", {"n": len(value)})
        first: dict[str, Any] = {}
        for one in value:
            known = first.setdefault(identity(one), one)
            if known is not one:
                fault = "has {name} twice{but}, which always agrees with itself; name another, or leave it out"
                raise PydanticCustomError("panel", fault, {"name": _name(one), "but": _difference(known, one)})
        return value

    def identity(self) -> str:
        """Return a text that identifies the panel's verdicts: its rule and its judges, in any order."""
        return repr((self.kind, self.by, sorted(map(identity, self.of))))

    def load(self, folder: Path) -> Panel:
        """Load the judges, and return the panel.

        Raises:
            UserError: a judge cannot be loaded.
        """
        from prefzoo.evals.judges import load_judge

        return Panel([load_judge(member, folder) for member in self.of], self.by)


def _name(judge: str | JudgeSettings) -> str:
    return normpath(judge) if isinstance(judge, str) else f"a judge of kind {judge.kind}"


def _difference(one: str | JudgeSettings, other: str | JudgeSettings) -> str:
    """Name the settings in which two entries of one judge differ, in brackets; empty if they are equal."""
    if isinstance(one, str) or isinstance(other, str):
        return ""
    names = [k for k in sorted(one.without_effect) if getattr(one, k) != getattr(other, k)]
    return f" (they differ only in {' and '.join(names)}, which changes no verdict)" if names else ""


class Panel(Judge):
    """A judge that asks several judges. A preference needs verdicts from more than half of them."""

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
            UserError: a judge cannot judge at all.
        """
        for judge in self.judges:
            judge.check()

    def forecast(self, comparisons: Sequence[Comparison]) -> str:
        """Return the cost of every judge's calls in words, a line for each judge that has any."""
        return "\n".join(filter(None, (judge.forecast(comparisons) for judge in self.judges)))

    def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
        """Return the panel's verdict on each comparison, with the preference of every judge.

        Raises:
            UserError: a judge cannot judge at all.
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
