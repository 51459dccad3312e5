"""The one protocol of all judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class PromptRow:
    """A prompt and what can be checked about its answer. `checks` are `{"kind": …, **params}`."""

    id: str
    prompt: str
    checks: tuple[dict[str, Any], ...] = ()
    topic: str | None = None


@dataclass(frozen=True)
class Answer:
    """A generated answer. `finished` says that the model ended it by itself, before the limit on tokens."""

    text: str
    finished: bool
    tokens: int


class Judge(Protocol):
    """Scores one answer in [0, 1]; equal scores are a tie."""

    @property
    def name(self) -> str:
        """Identity of the judge, as it stands on every row of a table."""

    def score(self, row: PromptRow, answer: Answer) -> float:
        """How good the answer is, from 0 to 1."""
