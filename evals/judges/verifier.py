"""The verifier judge: the share of a prompt's checks that an answer passes."""

from __future__ import annotations

from prefzoo.errors import UserError
from prefzoo.evals.judges.checks import holds
from prefzoo.evals.judges.protocol import Answer, PromptRow


class Verifier:
    """Objective and free: every check is a pure function of the text; one more asks that the answer ends by itself."""

    name = "verifier"

    def passed(self, row: PromptRow, answer: Answer) -> dict[str, bool]:
        """Each check's verdict, in the row's order, then `finished`."""
        if not row.checks:
            raise UserError(
                f"prompt {row.id}: it has no checks; the verifier judge scores only prompts that carry them"
            )
        verdicts = {f"{i}:{spec['kind']}": holds(answer.text, spec) for i, spec in enumerate(row.checks)}
        return {**verdicts, "finished": answer.finished}

    def score(self, row: PromptRow, answer: Answer) -> float:
        """Share of passed checks."""
        verdicts = self.passed(row, answer)
        return sum(verdicts.values()) / len(verdicts)
