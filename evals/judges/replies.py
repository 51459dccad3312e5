"""Parse a judging model's reply from a server into a preference."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from prefzoo.evals.judges.judge_prompt import LETTERS, read_grade, read_verdict
from prefzoo.evals.judges.position_swap import FIRST
from prefzoo.evals.judges.protocol import Outcome
from prefzoo.runtime.redaction import redact

CUT = "the reply was cut"
SHOWN = 40  # most characters of an unreadable reply in a message
THINKING = re.compile(r"<(think|thinking)>.*?</\1>", re.DOTALL)
UNFINISHED = re.compile(r"<think(?:ing)?>")


@dataclass(frozen=True)
class Reply:
    """The reply to one call.

    Attributes:
        text: the reply.
        first: log-probs in nats of the likeliest alternatives for the first token, by token; empty if unknown.
        prompt_tokens: number of tokens of the prompt.
        answer_tokens: number of tokens of the reply.
        cut: whether the reply ended at the limit on its tokens.
    """

    text: str
    first: dict[str, float]
    prompt_tokens: int
    answer_tokens: int
    cut: bool = False


def without_thinking(text: str) -> str:
    """Return a reply without its reasoning (`<think>` or `<thinking>`); empty if the reasoning is cut off."""
    opened = THINKING.sub("", text)
    _, closed, rest = opened.rpartition("</think>")
    if closed:  # the chat template opened it, so the reply has only the end tag
        return rest
    return "" if UNFINISHED.search(opened) else opened


def parse(completion: Any, secret: str) -> Reply:
    """Read a chat completion, and remove the API key, which some servers repeat in their text.

    Raises:
        AttributeError, IndexError, TypeError: the value is not a chat completion.
    """
    choice = completion.choices[0]
    offered = getattr(choice.logprobs, "content", None) if getattr(choice, "logprobs", None) else None
    first = {t.token: t.logprob for t in offered[0].top_logprobs or ()} if offered else {}
    first = {token: float(p) for token, p in first.items() if isinstance(p, int | float) and math.isfinite(p)}
    usage = completion.usage
    text, cut = choice.message.content, getattr(choice, "finish_reason", None) == "length"
    if text is None and cut:  # some servers return reasoning separately, and it used up all tokens
        text = ""
    if not isinstance(text, str):
        raise TypeError("a reply without text")
    text, first = redact(text, secret), {t: p for t, p in first.items() if redact(t, secret) == t}
    asked, answered = (getattr(usage, name, 0) or 0 for name in ("prompt_tokens", "completion_tokens"))
    return Reply(text, first, asked, answered, cut)


def preference(reply: Reply, *, arena: bool = False) -> Outcome:
    """Return the preference that a reply states, or the reason for a missing one. Ignore the model's reasoning.

    If the reply is a single letter, and the server gave log-probs, return the mean preference over the possible
    verdicts, weighted by their probabilities.

    Args:
        reply: the reply.
        arena: whether its verdict is one of Arena-Hard's, in brackets.
    """
    text = without_thinking(reply.text)
    stated = read_grade(text) if arena else read_verdict(text)
    if stated is None and reply.cut:
        return f"{CUT} after {reply.answer_tokens} tokens, before a verdict; raise evals.judge.max_tokens"
    if stated is None:
        return f"unknown verdict {text.strip()[-SHOWN:] if arena else text.strip()[:SHOWN]!r}"
    if arena:
        return stated
    mass = dict.fromkeys(LETTERS, 0.0)
    for token, logprob in reply.first.items():
        if token.strip() in mass:
            mass[token.strip()] += math.exp(logprob)
    if reply.text.strip() not in LETTERS or not mass[reply.text.strip()] or not mass["A"] * mass["B"]:
        return stated
    return FIRST + sum((LETTERS[k] - FIRST) * p for k, p in mass.items()) / sum(mass.values())
