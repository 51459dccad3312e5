"""Single answers to a prompt with a label, good or bad, as KTO reads them."""

from __future__ import annotations

import re
from typing import Any

from prefzoo.data.examples import LabelledAnswer
from prefzoo.data.rows import Row
from prefzoo.data.schemas.build import SYSTEM_COLUMNS, build_answer, read_number
from prefzoo.data.schemas.conversations import read_answered
from prefzoo.data.schemas.other_names import PROMPT_COLUMNS, prompt_column, read_prompt
from prefzoo.data.schemas.preference_pairs import USER, YES
from prefzoo.data.schemas.registry import schema
from prefzoo.errors import UserError

GOOD = (
    "true",
    "yes",
    "y",
    "t",
    "good",
    "up",
    "thumbs up",
    "thumb up",
    "👍",
    "desirable",
    "positive",
    "chosen",
    "like",
    "accept",
)
BAD = (
    "false",
    "no",
    "n",
    "f",
    "bad",
    "down",
    "thumbs down",
    "thumb down",
    "👎",
    "undesirable",
    "negative",
    "rejected",
    "dislike",
    "reject",
)
SKIN = re.compile("[\U0001f3fb-\U0001f3ff\ufe0f]")  # skin tones of emoji, and the mark that shows one as a picture
LABELS = ("label", "kto_tag", "labels", "feedback", "thumbs", "thumb", "is_good", "desirable", "is_desirable")
VERIFIED = ("is_correct", "correct")  # beside these, `answer` may be the reference solution
COMPLETIONS = ("completion", "response", "output", "answer", "generation", "solution")
CONVERSATIONS = ("messages", "conversations")
QUESTION = "What is the capital of France?"


def read_label(value: Any, column: str = "label") -> bool:
    """Return whether a label means a good answer, in any known spelling.

    Args:
        value: true or false, 1 or 0 (or -1), "true", "yes", "good", "thumbs up", 👍, and their opposites.
        column: the name of its column, for messages.

    Raises:
        UserError: the value is none of these.
    """
    number = float(value) if isinstance(value, bool) else read_number(value)
    if number in (1, 0, -1):
        return number == 1
    text = " ".join(SKIN.sub("", str(value)).lower().replace("_", " ").replace("-", " ").split())
    if text in GOOD or text in BAD:
        return text in GOOD
    raise UserError(f"{column} is {value!r}; it must be true (a good answer) or false")


def detect_labelled(columns: frozenset[str]) -> str:
    """Return why columns are those of single labelled answers; empty if they are not."""
    return "has completion, and not chosen" if "completion" in columns and "chosen" not in columns else ""


@schema(
    "single labelled answers", columns=("prompt", "completion", "label"), detect=detect_labelled,
    optional=SYSTEM_COLUMNS, example={"prompt": QUESTION, "completion": "Paris.", "label": True},
)  # fmt: skip
def labelled_answer(row: Row, index: int) -> LabelledAnswer:
    """Take prompt, completion and label; a label is true or false, 1 or 0, "yes" or "no", thumbs up or down."""
    return build_answer(row, index, row["prompt"], row["completion"], read_label(row["label"]))


def _detect_other_names(columns: frozenset[str]) -> str:
    answers = columns & {*COMPLETIONS}
    labels = columns & {*LABELS} or (len(answers) == 1 and columns & {*VERIFIED})
    fits = answers and labels and not columns & {"chosen", "rejected"}
    own = {"prompt", "completion", "label"} <= columns or not prompt_column(columns)
    return "has a prompt, one answer and a label" if fits and not own else ""


@schema(
    "labelled answers of other names", columns=(), detect=_detect_other_names, before=("single labelled answers",),
    optional=(*PROMPT_COLUMNS, *COMPLETIONS, *LABELS, *VERIFIED, *SYSTEM_COLUMNS),
    example={"instruction": "Name the capital of", "input": "France", "output": "Paris.", "kto_tag": True},
)  # fmt: skip
def other_labelled_answer(row: Row, index: int) -> LabelledAnswer:
    """Take the answer from response, output or answer, and the label from kto_tag, feedback or thumbs (Alpaca)."""
    answer, label = (next(name for name in names if name in row) for names in (COMPLETIONS, (*LABELS, *VERIFIED)))
    return build_answer(row, index, read_prompt(row), row[answer], read_label(row[label], label))


def _detect_conversations(columns: frozenset[str]) -> str:
    fits = columns & {*CONVERSATIONS} and columns & {*LABELS} and not columns & {"completion", "chosen", "rejected"}
    others = columns & {"rejected_response", "rejected_messages"} or (
        prompt_column(columns) and columns & {*COMPLETIONS}
    )
    return "has messages and a label" if fits and not others else ""


@schema(
    "labelled conversations", columns=(), detect=_detect_conversations,
    optional=(*CONVERSATIONS, *LABELS, *SYSTEM_COLUMNS), example={"messages": [USER, YES], "label": True},
)  # fmt: skip
def labelled_conversation(row: Row, index: int) -> LabelledAnswer:
    """Take the last message as the answer and those before it as the prompt (LLaMA-Factory, ms-swift)."""
    name, label = (next(n for n in names if row.get(n) is not None) for names in (CONVERSATIONS, LABELS))
    messages = read_answered(row[name], name)
    return build_answer(row, index, messages[:-1], messages[-1:], read_label(row[label], label))
