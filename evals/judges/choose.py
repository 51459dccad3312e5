"""The judge that a recipe names."""

from __future__ import annotations

from pathlib import Path

from prefzoo.errors import UserError, did_you_mean
from prefzoo.evals.judges import function
from prefzoo.evals.judges.position_swap import Scored
from prefzoo.evals.judges.protocol import Judge
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.judges.wording import read_question
from prefzoo.recipe.judge import KINDS, ModelJudge, RewardJudge, ServerJudge

NAMED = ("verifier",)


def judge_of(settings: object, folder: Path) -> Judge:
    """The judge of `evals.judge`: a name, a function or a mapping's settings. Paths are relative to `folder`.

    Raises:
        UserError: there is no such judge, or it cannot be loaded.
    """
    if isinstance(settings, RewardJudge):
        from prefzoo.evals.judges import reward

        return reward.load(settings.model, folder)
    if isinstance(settings, ModelJudge):
        from prefzoo.evals.judges import causal

        question = read_question(folder / settings.prompt if settings.prompt else None, "evals.judge.prompt")
        return causal.load(settings.model, folder, question)
    if isinstance(settings, ServerJudge):
        from prefzoo.evals.judges import server

        return server.load(settings, folder)
    name = str(settings)
    if name in NAMED:
        return Scored(Verifier())
    if ":" in name:
        return function.load(name, folder)
    known = f"; there are {', '.join(NAMED)}, my_judge.py:better, and mappings with kind: {', '.join(KINDS)}"
    raise UserError(f"evals.judge: no such judge: {name!r}{did_you_mean(name, NAMED) or known}")
