"""A judging model's reply over HTTP, and the preference that it states."""

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
SHOWN = 40  # characters of a reply that is no verdict
THINKING = re.compile(r"<(think|thinking)>.*?</\1>", re.DOTALL)
UNFINISHED = re.compile(r"<think(?:ing)?>")


@dataclass(frozen=True)
class Reply:
    """What a call returned: its text, the log-probs of the first token's likeliest alternatives, and tokens used.

    `cut`: whether it ended at the limit on its tokens.
    """

    text: str
    first: dict[str, float]
    prompt_tokens: int
    answer_tokens: int
    cut: bool = False


def without_thinking(text: str) -> str:
    """Return a reply without what its model thinks first, in `<think>` or `<thinking>`; all of it if it never ends."""
    opened = THINKING.sub("", text)
    _, closed, rest = opened.rpartition("</think>")
    if closed:  # the template opened it
        return rest
    return "" if UNFINISHED.search(opened) else opened


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
    text, cut = choice.message.content, getattr(choice, "finish_reason", None) == "length"
    if text is None and cut:  # some servers keep the thinking apart, and it took all there was
        text = ""
    if not isinstance(text, str):
        raise TypeError("a reply without text")
    text, first = redact(text, secret), {t: p for t, p in first.items() if redact(t, secret) == t}
    asked, answered = (getattr(usage, name, 0) or 0 for name in ("prompt_tokens", "completion_tokens"))
    return Reply(text, first, asked, answered, cut)


def preference(reply: Reply, *, arena: bool = False) -> Outcome:
    """Return the stated preference, or why there is none; what a judge thinks before its verdict is passed over.

    Where the reply is the verdict's letter alone, the preference is weighted by the verdicts' probabilities.

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
