"""Single answers to a prompt, each with a label."""

from __future__ import annotations

from prefzoo.data.examples import LabelledAnswer
from prefzoo.data.rows import Row
from prefzoo.data.schemas.registry import schema


def _detect(columns: frozenset[str]) -> str:
    return "has completion, and not chosen" if "completion" in columns and "chosen" not in columns else ""


@schema("single labelled answers", columns=("prompt", "completion", "label"), detect=_detect)
def labelled_answer(row: Row, index: int) -> LabelledAnswer:
    """Take prompt, completion and label as they are."""
    return LabelledAnswer(row["prompt"], row["completion"], row["label"], index)
