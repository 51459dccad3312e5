"""The verifier, a judge that runs a prompt's checks, which are pure functions of the answer's text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prefzoo.errors import UserError
from prefzoo.evals.judges.checks import holds
from prefzoo.evals.judges.protocol import Answer, Outcome, Progress, PromptRow
from prefzoo.evals.judges.scoring import ScoringJudge
from prefzoo.recipe.judge import JudgeSettings


class VerifierSettings(JudgeSettings):
    """A judge that scores an answer by the share of its prompt's checks that it passes."""

    kind: Literal["verifier"]

    def load(self, folder: Path) -> Verifier:
        """Return the verifier."""
        return Verifier()


class Verifier(ScoringJudge):
    """A judge that scores an answer by the share of passed checks: those of its prompt, and that it is not cut off."""

    name = "verifier"
    needs_checks = True
    free = True

    def passed(self, row: PromptRow, answer: Answer) -> dict[str, bool]:
        """Return whether each check passes, in the row's order, and last whether the answer is `finished`.

        Raises:
            UserError: the prompt has no checks, or an unknown one.
        """
        if not row.checks:
            raise UserError(
                f"prompt {row.id}: it has no checks; the verifier judge scores only prompts that carry them"
            )
        verdicts = {f"{i}:{spec['kind']}": holds(answer.text, spec) for i, spec in enumerate(row.checks)}
        return {**verdicts, "finished": answer.finished}

    def score(self, row: PromptRow, answer: Answer) -> float:
        """Return the share of passed checks, from 0 to 1."""
        verdicts = self.passed(row, answer)
        return sum(verdicts.values()) / len(verdicts)

    def scores(self, answers: Sequence[tuple[PromptRow, Answer]], progress: Progress | None = None) -> list[Outcome]:
        """Return the share of passed checks of each answer.

        Raises:
            UserError: a prompt has no checks, or an unknown one.
        """
        shares: list[Outcome] = []
        for row, answer in answers:
            shares.append(self.score(row, answer))
            if progress:
                progress(len(shares), len(answers))
        return shares
