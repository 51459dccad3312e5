"""The things that audits look for in the rows of a data set, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Drop = Literal["contradictions", "leaks", "duplicates", "refusals", "conflicts"]
FEW_TOKENS = 5  # scored tokens, the end of the turn included, below which an answer is short
SAME_START = 8  # tokens that two answers begin with alike


@dataclass(frozen=True)
class Kind:
    """One thing that an audit looks for.

    Attributes:
        words: what is the case in such a row.
        reason: why a row is left out, with its cure behind a semicolon; `{other}` stands for the second row.
        drop: the word of `data.drop` that leaves such rows out; None if no word does.
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
        "one of its answers is judged the other way in another row of the same prompt",
        "a contradiction; {other} judges one of its answers the other way",
        "contradictions",
    ),
    "circle": Kind(
        "other rows of the same prompt prefer its answers the other way round, in a circle",
        "a contradiction; {other} and others prefer its answers the other way round, in a circle",
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
