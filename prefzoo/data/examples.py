"""The examples that schemas build from rows: pairs of answers or single labelled answers, as text or messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]  # role, content, and other fields that a chat template reads: tool_calls, name, reasoning
Text = str | list[Message]


@dataclass(frozen=True)
class Pair:
    """A prompt with a chosen and a rejected answer; each text is a string or a list of role/content messages.

    Attributes:
        row: index of the row in its data set, from 0.
        scores: the data set's scores of chosen and rejected, in its own unit; None if the row has no scores.
        quantiles: for chosen and rejected, the share of the column `ref_rewards` (rewards of the reference's own
            answers to the prompt) that is at most the answer's score; None without the column.
        tools: the functions that the assistant may call, as JSON schemas for the chat template; None if there are none.
        template: the row's own variables for the chat template, such as `enable_thinking`; None if it has none.
    """

    prompt: Text
    chosen: Text
    rejected: Text
    row: int
    scores: tuple[float, float] | None = None
    tools: list[dict[str, Any]] | None = None
    template: dict[str, Any] | None = None
    quantiles: tuple[float, float] | None = None


@dataclass(frozen=True)
class LabelledAnswer:
    """A prompt with one answer that is labelled as good or bad; each text is a string or a list of messages.

    Attributes:
        label: whether the answer is desirable.
        row: index of the row in its data set, from 0.
        tools, template: see `Pair`.
    """

    prompt: Text
    completion: Text
    label: bool
    row: int
    tools: list[dict[str, Any]] | None = None
    template: dict[str, Any] | None = None


Example = Pair | LabelledAnswer
