"""Judges, which decide which of two answers is better. `docs/extending.md` shows how to add one."""

from __future__ import annotations

from pathlib import Path

from prefzoo.errors import UserError
from prefzoo.evals.judges.position_swap import PairwiseJudge
from prefzoo.evals.judges.protocol import Answer, Comparison, Judge, Outcome, Progress, PromptRow, Verdict
from prefzoo.evals.judges.scoring import ScoringJudge
from prefzoo.recipe.judge import JudgeSettings, named
from prefzoo.runtime.plugins import RAISED, describe_error

__all__ = [
    "Answer", "Comparison", "Judge", "JudgeSettings", "Outcome", "PairwiseJudge", "Progress", "PromptRow",
    "ScoringJudge", "Verdict", "load_judge",
]  # fmt: skip


def load_judge(settings: str | JudgeSettings, folder: Path) -> Judge:
    """Load the judge of `evals.judge`.

    Args:
        settings: the name of a kind, a user's function such as `my_judge.py:better`, or the settings of a kind.
        folder: the folder that relative paths in the settings start from.

    Returns:
        The judge.

    Raises:
        UserError: there is no such judge, or it cannot be loaded.
    """
    if isinstance(settings, str) and ":" in settings:
        from prefzoo.evals.judges import function

        return function.load(settings, folder)
    kind = named(settings) if isinstance(settings, str) else settings
    try:
        judge: Judge = kind.load(folder)
    except UserError:
        raise
    except RAISED as e:  # a package's code may raise anything
        raise UserError(f"evals.judge: kind {kind.kind} cannot be loaded: {describe_error(e)}; fix it there") from e
    return judge
