from __future__ import annotations

from typing import Any

import pytest

from prefzoo.data.schemas import describe, normalise
from prefzoo.errors import UserError


def says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASK, YES, NO = says("user", "is it?"), says("assistant", "yes"), says("assistant", "no")


@pytest.mark.parametrize(
    ("row", "name", "prompt", "chosen", "rejected"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "explicit prompt, plain strings", "q", "a", "b"),
        ({"prompt": [ASK], "chosen": [YES], "rejected": [NO]}, "explicit prompt, conversational", [ASK], [YES], [NO]),
        ({"chosen": [ASK, YES], "rejected": [ASK, NO]}, "implicit prompt, conversational", [ASK], [YES], [NO]),
        # a text prompt that the messages repeat is not said twice
        (
            {"prompt": "is it?", "chosen": [ASK, YES], "rejected": [ASK, NO]},
            "explicit prompt, conversational", [ASK], [YES], [NO],
        ),
        ({"prompt": "q", "chosen": [YES], "rejected": [NO]}, "explicit prompt, conversational", "q", [YES], [NO]),
        # the cut is before the blank of the last shared word boundary, not inside "kit"/"king"
        ({"chosen": "Now I see a kit", "rejected": "Now I see a king"}, "implicit prompt, plain strings",
         "Now I see a", " kit", " king"),
        ({"chosen": "why is that?\n\nyes", "rejected": "why is that?\n\nyet"}, "implicit prompt, plain strings",
         "why is that?", "\n\nyes", "\n\nyet"),
        # answers in text are the assistant's where the prompt is messages
        ({"prompt": [ASK], "chosen": "yes", "rejected": "no"}, "explicit prompt, conversational", [ASK], [YES], [NO]),
    ],
)  # fmt: skip
def test_schemas(row: dict[str, Any], name: str, prompt: Any, chosen: Any, rejected: Any) -> None:
    assert describe([row]) == name
    (pair,) = normalise([row], "d")
    assert (pair.prompt, pair.chosen, pair.rejected, pair.row) == (prompt, chosen, rejected, 0)


def test_leading_messages_both_share_are_the_prompt() -> None:
    system = says("system", "be brief")
    (pair,) = normalise([{"chosen": [system, ASK, YES], "rejected": [system, ASK, NO]}], "d")
    assert pair.prompt == [system, ASK]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"chosen": "  ", "rejected": "b"}, "chosen is empty; remove the row"),
        ({"chosen": "a", "rejected": ""}, "rejected is empty; remove the row"),
        ({"chosen": [ASK, says("assistant", "")], "rejected": [ASK, NO]}, "chosen is empty; remove the row"),
        ({"chosen": [], "rejected": [NO]}, "chosen is empty; remove the row"),
        ({"chosen": "a", "rejected": "a"}, "chosen equals rejected; remove the row"),
        ({"chosen": 3, "rejected": "a"}, "chosen is int, not text or a list of messages"),
        ({"chosen": "a", "rejected": None}, "rejected is missing"),
        ({"prompt": None, "chosen": "a", "rejected": "b"}, "prompt is missing"),
        ({"chosen": ["a"], "rejected": ["b"]}, "chosen is a list of something other than messages"),
        ({"chosen": [{"role": "user", "content": None}], "rejected": [NO]}, "other than messages"),
        ({"chosen": "a", "rejected": [NO]}, "of different types"),
        ({"prompt": "q", "chosen": [ASK, YES], "rejected": [ASK, NO]}, "is not what chosen and rejected begin with"),
        ({"chosen": "yes", "rejected": "no"}, "there is no prompt: chosen and rejected have nothing in common"),
        ({"chosen": "Yes, it is", "rejected": "Yes, but"}, "only 'Yes,' in common at their beginning; add a prompt"),
        ({"chosen": [YES], "rejected": [NO]}, "begin with their answers, without a prompt; add a prompt column"),
        ({"chosen": [ASK, YES, ASK], "rejected": [ASK, NO]}, "chosen ends with a message of 'user'"),
        ({"chosen": "So Q?\n\nAssistant: a", "rejected": "So Q?\n\nAssistant:"}, "only the beginning of the other"),
    ],
)
def test_broken_rows(row: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError) as e:
        normalise([row], "d.jsonl")
    (line,) = e.value.lines
    assert line.startswith("d.jsonl: row 1: ") and fault in line


def test_a_prompt_in_some_rows_is_wanted_in_all() -> None:
    rows = [{"chosen": "q a", "rejected": "q b"}, {"prompt": "q", "chosen": "a", "rejected": "b"}]
    with pytest.raises(UserError, match="row 1: prompt is missing"):
        normalise(rows, "d")


def test_five_faults_are_named_and_the_rest_counted_by_kind() -> None:
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    equal, empty, number = {**good, "chosen": "b"}, {**good, "rejected": " "}, {**good, "chosen": 3}
    with pytest.raises(UserError) as e:
        normalise([good, *[equal] * 1200, *[empty] * 30, number], "d")
    assert len(e.value.lines) == 6
    assert e.value.lines[0].startswith("d: row 2: ")
    assert e.value.lines[-1] == (
        "d: 1,231 rows are refused: 1,200 x chosen equals rejected, 30 x rejected is empty, 1 x chosen is int, not text or "
        "a list of messages; fix them, or leave such rows out: data.on_bad_row: drop"
    )
