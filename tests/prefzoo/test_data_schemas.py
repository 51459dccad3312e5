from __future__ import annotations

import random
from typing import Any

import pytest

from prefzoo.data.examples import Pair
from prefzoo.data.faults import Faults
from prefzoo.data.schemas import describe, normalise, read_examples
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
        ({"chosen": [3], "rejected": ["b"]}, "chosen is a list of something other than messages"),
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
        "d: 1,231 rows are refused: 1,200 x chosen equals rejected, 30 x rejected is empty, 1 x chosen is int, not "
        "text or a list of messages; fix them, or leave such rows out: data.on_bad_row: drop"
    )


@pytest.mark.parametrize("seed", range(50))
def test_prompts_that_differ_in_white_space_are_joined_and_counted(seed: int) -> None:
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcäöé漢字123", k=draw.randint(1, 5))) for _ in range(draw.randint(4, 8))]

    def spaced() -> str:
        return "".join(w + draw.choice([" ", "\n", "  ", "\t", " \n"]) for w in words).rstrip() + draw.choice("\n  ")

    first, second = spaced(), spaced()
    rows = [
        {"chosen": [says("user", first), YES], "rejected": [says("user", second), NO]},
        {"chosen": f"{first.rstrip()}: yes", "rejected": f"{second.rstrip()}: no"},
    ]
    talked, text = (read_examples([row], "d") for row in rows)
    assert talked.examples == [Pair([says("user", first)], [YES], [NO], 0)]
    assert text.examples == [Pair(f"{first.rstrip()}:", " yes", " no", 0)]
    assert talked.counts["whose two prompts differ in white space, joined"] == (first != second)
    assert text.counts["whose two prompts differ in white space, joined"] == (first.rstrip() != second.rstrip())


@pytest.mark.parametrize(
    ("chosen", "rejected", "fault"),
    [
        ([ASK, YES], [says("user", "was it?"), NO], "message 1 is user's 'is it?' against user's 'was it?'"),
        ([says("system", "a"), ASK, YES], [ASK, NO], "message 1 is system's 'a' against user's 'is it?'"),
        ([ASK, YES, says("user", "sure?"), YES], [ASK, YES, says("user", "so?"), NO], "message 3 is user's 'sure?'"),
    ],
)
def test_prompts_that_really_differ_are_one_line_with_the_row(chosen: Any, rejected: Any, fault: str) -> None:
    good = {"chosen": [ASK, YES], "rejected": [ASK, NO]}
    with pytest.raises(UserError) as e:
        normalise([good, {"chosen": chosen, "rejected": rejected}], "d")
    (line,) = e.value.lines
    assert line.startswith("d: row 2: chosen and rejected have different prompts: ") and fault in line


def test_a_conversation_that_goes_on_differently_stays_in_the_answers() -> None:
    more = says("user", "sure?")
    (pair,) = normalise([{"chosen": [ASK, YES, more, YES], "rejected": [ASK, NO, says("user", "why?"), NO]}], "d")
    assert isinstance(pair, Pair) and pair.prompt == [ASK] and len(pair.chosen) == len(pair.rejected) == 3


def test_rows_that_cannot_be_used_are_left_out_where_asked() -> None:
    good = {"prompt": "q", "chosen": "a", "rejected": "b"}
    faults = Faults("d", "drop")
    data = read_examples([{**good, "chosen": " "}, good, {**good, "chosen": "b"}], "d", faults=faults)
    assert data.examples == [Pair("q", "a", "b", 1)]
    assert [bad.place for bad in faults.rows] == ["d: row 1", "d: row 3"]
    assert faults.counts() == {"dropped: chosen is empty": 1, "dropped: chosen equals rejected": 1}
    with pytest.raises(UserError, match="^d: no row is left of 2 .2 dropped: chosen is empty.; fix the rows"):
        read_examples([{**good, "chosen": " "}] * 2, "d", faults=Faults("d", "drop"))


def test_a_column_that_the_format_does_not_read_cannot_be_mapped() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    with pytest.raises(UserError, match="^d: data.columns.better: format 'explicit prompt' reads no such column$"):
        read_examples([row], "d", {"better": "chosen"})


def test_empty_prompts_are_counted() -> None:
    empty, filled = {"prompt": "", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": "b"}
    assert read_examples([empty, filled], "d").counts == {"with an empty prompt": 1}


def test_no_prompt_in_any_row_is_an_error_that_names_the_column_which_may_hold_it() -> None:
    row = {"prompt": "", "query": "is it?", "chosen": "a", "rejected": "b"}
    with pytest.raises(
        UserError, match="^d: every prompt is empty; name the column .* like data.columns.prompt: query$"
    ):
        read_examples([row, row], "d")
    assert len(read_examples([row, row], "d", turns=False).examples) == 2  # a base model may go on from nothing
