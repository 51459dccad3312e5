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
        ({"chosen": "I see a kit", "rejected": "I see a king"}, "implicit prompt, plain strings",
         "I see a", " kit", " king"),
        ({"chosen": "why?\n\nyes", "rejected": "why?\n\nyet"}, "implicit prompt, plain strings",
         "why?", "\n\nyes", "\n\nyet"),
        ({"chosen": "yes", "rejected": "no"}, "implicit prompt, plain strings", "", "yes", "no"),
        # the shared first word of the answers stays in the answers
        (
            {"chosen": "\n\nHuman: hi\n\nAssistant: I do", "rejected": "\n\nHuman: hi\n\nAssistant: I am"},
            "implicit prompt, plain strings", "\n\nHuman: hi\n\nAssistant:", " I do", " I am",
        ),
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
        ({"prompt": [ASK], "chosen": "a", "rejected": "b"}, "prompt is a list of messages, but"),
        ({"chosen": [ASK, YES, ASK], "rejected": [ASK, NO]}, "chosen ends with a message of 'user'"),
        ({"chosen": "Q?\n\nAssistant: a", "rejected": "Q?\n\nAssistant:"}, "only the beginning of the other"),
    ],
)
def test_broken_rows(row: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError) as e:
        normalise([row], "d.jsonl")
    (line,) = e.value.lines
    assert line.startswith("d.jsonl: row 1: ") and fault in line


def test_a_prompt_in_some_rows_is_wanted_in_all() -> None:
    rows = [{"chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": "b"}]
    with pytest.raises(UserError, match="row 1: prompt is missing"):
        normalise(rows, "d")


def test_all_faults_at_once_up_to_twenty() -> None:
    good, bad = {"chosen": "a", "rejected": "b"}, {"chosen": "a", "rejected": "a"}
    with pytest.raises(UserError) as e:
        normalise([good, *[bad] * 25], "d")
    assert len(e.value.lines) == 21
    assert e.value.lines[0].startswith("d: row 2: ") and e.value.lines[-1] == "d: and 5 more rows like these"
