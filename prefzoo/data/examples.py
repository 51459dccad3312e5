"""What every schema turns its rows into: pairs of answers, or single labelled answers, as text or messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]  # role and content, and whatever else a chat template reads: tool_calls, name, reasoning
Text = str | list[Message]


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt, the first preferred; each text is a string or a list of role/content messages.

    Attributes:
        row: index of the row in its data set, from 0.
        scores: the data's scores of chosen and rejected (columns `score_chosen`, `score_rejected`), in its own unit;
            None where it has none.
        quantiles: of chosen and rejected, the share of the column `ref_rewards` (rewards of the reference's own answers
            to the prompt) that is at most the score; None without the column.
        tools: the functions that the assistant may call, as JSON schemas, for the chat template; None without any.
        template: the row's own variables for the chat template, such as `enable_thinking`; None without any.
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
    """One answer to a prompt, and whether it is a good one; each text is a string or a list of messages.

    Attributes:
        label: whether the answer is a desirable one.
        row: index of the row in its data set, from 0.
        tools, template: as of a `Pair`.
    """

    prompt: Text
    completion: Text
    label: bool
    row: int
    tools: list[dict[str, Any]] | None = None
    template: dict[str, Any] | None = None


Example = Pair | LabelledAnswer
