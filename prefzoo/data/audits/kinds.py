"""The kinds of odd rows that an audit looks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Drop = Literal["contradictions", "leaks", "duplicates", "refusals", "conflicts"]
FEW_TOKENS = 5  # an answer with fewer scored tokens, its end-of-turn included, is short
SAME_START = 8  # first tokens that must be equal for two answers to have the same start


@dataclass(frozen=True)
class Kind:
    """One kind of odd rows.

    Attributes:
        words: a phrase that states what is odd.
        reason: why such a row is left out; details follow a semicolon. `{other}` is replaced by the row that it
            contradicts or repeats.
        drop: the word of `data.drop` that leaves such rows out; None if there is none.
    """

    words: str
    reason: str = ""
    drop: Drop | None = None


KINDS: dict[str, Kind] = {
    "swapped": Kind(
        "another row has the same pair the other way round",
        "a contradiction; {other} has the same pair the other way round",
        "contradictions",
    ),
    "disputed": Kind(
        "another row labels the same answer to the same prompt the opposite way",
        "a contradiction; {other} labels the same answer the opposite way",
        "contradictions",
    ),
    "circle": Kind(
        "rows of the same prompt prefer answers in a circle (A over B, B over C, C over A)",
        "a contradiction; with {other} and others it prefers answers in a circle (A over B, B over C, C over A)",
        "contradictions",
    ),
    "both_sides": Kind("one of its answers is chosen in one row and rejected in another of the same prompt"),
    "leaks": Kind("nearly the same as a row that is tested on", "a leak; nearly the same as {other}", "leaks"),
    "duplicates": Kind(
        "an earlier row has the same prompt and answers", "a duplicate; {other} has the same texts", "duplicates"
    ),
    "conflicts": Kind(
        "the scores rate the rejected answer higher",
        "scores against the label; they rate the rejected answer higher",
        "conflicts",
    ),
    "refusals": Kind("the chosen answer is a refusal", "a refusal; the chosen answer refuses to help", "refusals"),
    "refusals_rejected": Kind("the rejected answer is a refusal"),
    "short": Kind(f"the chosen answer has fewer than {FEW_TOKENS} tokens, its end included"),
    "same_start": Kind(f"both answers begin with the same {SAME_START} tokens or more"),
    "other_language": Kind("the chosen answer is in another language than the prompt"),
}
