"""A judging model's reply over HTTP, and the preference that it states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from prefzoo.evals.judges.judge_prompt import LETTERS, read_verdict
from prefzoo.evals.judges.position_swap import FIRST
from prefzoo.evals.judges.protocol import Outcome
from prefzoo.runtime.redaction import redact


@dataclass(frozen=True)
class Reply:
    """What a call returned: its text, the log-probs of the first token's likeliest alternatives, and tokens used."""

    text: str
    first: dict[str, float]
    prompt_tokens: int
    answer_tokens: int


def parse(completion: Any, secret: str) -> Reply:
    """Return what matters of a chat completion, without the API key, which some servers repeat in their text.

    Raises:
        AttributeError, IndexError, TypeError: it is no chat completion.
    """
    choice = completion.choices[0]
    offered = getattr(choice.logprobs, "content", None) if getattr(choice, "logprobs", None) else None
    first = {t.token: t.logprob for t in offered[0].top_logprobs or ()} if offered else {}
    first = {token: float(p) for token, p in first.items() if isinstance(p, int | float) and math.isfinite(p)}
    usage = completion.usage
    text = choice.message.content
    if not isinstance(text, str):
        raise TypeError("a reply without text")
    text, first = redact(text, secret), {t: p for t, p in first.items() if redact(t, secret) == t}
    return Reply(text, first, getattr(usage, "prompt_tokens", 0) or 0, getattr(usage, "completion_tokens", 0) or 0)


def preference(reply: Reply) -> Outcome:
    """Return the stated preference, or why there is none.

    Where the reply is the verdict's letter alone, the preference is weighted by the verdicts' probabilities.
    """
    stated = read_verdict(reply.text)
    if stated is None:
        return f"unknown verdict {reply.text.strip()[:40]!r}"
    mass = dict.fromkeys(LETTERS, 0.0)
    for token, logprob in reply.first.items():
        if token.strip() in mass:
            mass[token.strip()] += math.exp(logprob)
    if reply.text.strip() not in LETTERS or not mass[reply.text.strip()] or not mass["A"] * mass["B"]:
        return stated
    return FIRST + sum((LETTERS[k] - FIRST) * p for k, p in mass.items()) / sum(mass.values())
