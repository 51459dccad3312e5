"""Answers to earlier messages: in rows of their own (OpenAssistant, PRISM), or in trees."""

from __future__ import annotations

from typing import Any

import pytest

from prefzoo.data.examples import Pair
from prefzoo.data.schemas import read_examples
from prefzoo.errors import UserError


def says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


REPLIES = (("good", 0.0), ("better left", 2.0), ("fair", 1.0))
ASKED, SAID, MORE = says("user", "is it?"), says("assistant", "good"), says("user", "sure?")


def message(name: str, parent: str | None, text: str, role: str = "assistant", rank: Any = None) -> dict[str, Any]:
    return {"message_id": name, "parent_id": parent, "text": text, "role": role, "rank": rank}


def pairs_of(rows: list[dict[str, Any]], **more: Any) -> list[tuple[Any, Any, Any, int]]:
    examples = read_examples(rows, "d", **more).examples
    return [
        (e.prompt, e.chosen[0]["content"], e.rejected[0]["content"], e.row) for e in examples if isinstance(e, Pair)
    ]


FLAT = [
    message("q", None, "is it?", "prompter"),
    *(message(f"a{i}", "q", text, rank=rank) for i, (text, rank) in enumerate(REPLIES)),
    message("r", "a0", "sure?", "prompter"),
    message("b", "r", "quite", rank=0),
    message("c", "r", "hardly", rank=1),
    message("d", "r", "not ranked"),
    message("s", "a1", "nobody ranked the replies to this", "prompter"),
    message("e", "s", "alone", rank=0),
]


def node(text: str, role: str = "assistant", rank: Any = None, replies: Any = ()) -> dict[str, Any]:
    return {"text": text, "role": role, "rank": rank, "replies": list(replies)}


TREE = node("is it?", "prompter", replies=[
    node("good", rank=0, replies=[
        node("sure?", "prompter", replies=[node("quite", rank=0), node("hardly", rank=1), node("not ranked")]),
    ]),
    node("better left", rank=2),
    node("fair", rank=1),
])  # fmt: skip


def test_replies_of_a_message_are_ranked_after_the_conversation_up_to_it() -> None:
    expected = [([ASKED], "good", "better left", 0), ([ASKED, SAID, MORE], "quite", "hardly", 4)]
    assert pairs_of(FLAT) == expected
    assert pairs_of(FLAT[::-1]) == [(p, c, r, len(FLAT) - 1 - row) for p, c, r, row in expected[::-1]]
    assert [c + r for _, c, r, _ in pairs_of(FLAT, pairs="ranked")] == [
        "goodfair", "goodbetter left", "fairbetter left", "quitehardly",
    ]  # fmt: skip
    assert read_examples(FLAT, "d").counts["skipped: fewer than two rated replies to a message"] == 1


def test_trees_are_read_as_their_messages_are() -> None:
    rows = [{"message_tree_id": "t", "prompt": node("alone", "prompter")}, {"message_tree_id": "u", "prompt": TREE}]
    assert pairs_of(rows) == [(p, c, r, 1) for p, c, r, _ in pairs_of(FLAT)]


def test_a_circle_of_parents_ends() -> None:
    circle = [
        message("p", "q", "is it?", "prompter"),
        message("q", "p", "yes", rank=0),
        message("r", "p", "no", rank=1),
    ]
    assert [(c, r) for _, c, r, _ in pairs_of(circle)] == [("yes", "no")]


def test_turns_of_a_conversation_follow_the_response_that_was_taken() -> None:
    names = ("conversation_id", "turn", "user_prompt", "model_response", "score", "if_chosen")
    rows = [
        dict(zip(names, values, strict=True))
        for values in (
            ("c", 1, "sure?", "quite", 80, True),
            ("c", 0, "is it?", "bad", 90, False),
            ("k", 0, "what?", "that", 50, True),
            ("c", 0, "is it?", "good", 60, True),
            ("c", 1, "sure?", "hardly", 20, False),
            ("c", 0, "is it?", "no", None, False),
        )
    ]
    assert pairs_of(rows) == [([ASKED], "bad", "good", 1), ([ASKED, SAID, MORE], "quite", "hardly", 0)]
    assert [e.scores for e in read_examples(rows, "d").examples if isinstance(e, Pair)] == [(90, 60), (80, 20)]


@pytest.mark.parametrize(
    "value", ["Be kind.", ["Be kind."], [{"text": "Be kind."}], {"role": "system", "content": "Be kind."}]
)
def test_a_system_message_is_read_in_every_spelling(value: Any) -> None:
    (pair,) = read_examples([{"prompt": "is it?", "chosen": "yes", "rejected": "no", "system": value}], "d").examples
    assert pair.prompt == [says("system", "Be kind."), ASKED]


@pytest.mark.parametrize(
    "value", [7, {"kind": True}, [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]]
)
def test_another_system_cell_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"row 1: system is (int|dict|list), not the text of a system message; fix"):
        read_examples([{"prompt": "is it?", "chosen": "yes", "rejected": "no", "system": value}], "d")


@pytest.mark.parametrize(
    ("prompt", "chosen", "expected"),
    [
        ("A post.\nTL;DR:", "TL;DR: short", " short"),
        ("A post.\nTL;DR: ", "\nTL;DR: short", " short"),
        ("TL;DR:", "TL;DR: short", "TL;DR: short"),  # it is the whole prompt
        ("A post.\nIt ends here", "It ends here, too", "It ends here, too"),
    ],
)
def test_a_cue_that_both_answers_repeat_is_taken_once(prompt: str, chosen: str, expected: str) -> None:
    row = {"prompt": prompt, "chosen": chosen, "rejected": chosen.replace("short", "long").replace("too", "now")}
    (pair,) = read_examples([row], "d", form="explicit prompt").examples
    assert isinstance(pair, Pair) and pair.chosen == expected


def test_a_cue_that_one_answer_repeats_stays() -> None:
    row = {"prompt": "A post.\nTL;DR:", "chosen": "TL;DR: short", "rejected": "long"}
    (pair,) = read_examples([row], "d").examples
    assert isinstance(pair, Pair) and pair.chosen == "TL;DR: short"


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ("Human: is it?", [ASKED]),
        ("user: is it?\nassistant: good\nuser: sure?", [ASKED, SAID, MORE]),
        ("Human: is it? Assistant: good Human: sure? Assistant:", [ASKED, SAID, MORE]),
        ("Be brief. USER: is it? ASSISTANT:", [says("system", "Be brief."), ASKED]),
        ("Question: is it?", None),  # a text may begin so and be no transcript
        ("Mend this log.\nUSER: is it?", None),
    ],
)
def test_prompts_written_as_transcripts_before_plain_answers(prompt: str, turns: Any) -> None:
    (pair,) = read_examples([{"prompt": prompt, "chosen": "yes", "rejected": "no"}], "d").examples
    assert pair.prompt == (turns or prompt)


@pytest.mark.parametrize(("preference", "chosen"), [(1.2, "a"), (1.9, "b"), (1, "a"), ("2.0", "b")])
def test_a_mean_of_votes_prefers_one_answer(preference: Any, chosen: str) -> None:
    row = {"instruction": "is it?", "output_1": "a", "output_2": "b", "preference": preference}
    (pair,) = read_examples([row], "d").examples
    assert isinstance(pair, Pair) and pair.chosen == chosen


def test_as_many_votes_for_both_are_a_tie() -> None:
    row = {"instruction": "is it?", "output_1": "a", "output_2": "b", "preference": 1.5}
    with pytest.raises(UserError, match=r"1 skipped: no answer is preferred \(a tie\)"):
        read_examples([row], "d")


def test_of_two_columns_of_answers_none_is_guessed_to_be_the_labelled_one() -> None:
    row = {"question": "is it?", "solution": "It is.", "is_correct": 1}
    assert read_examples([row], "d").schema == "labelled answers of other names"
    with pytest.raises(UserError, match="fit no format"):
        read_examples([{**row, "answer": "4"}], "d")


def test_no_column_is_suggested_that_holds_no_text() -> None:
    with pytest.raises(UserError) as e:
        read_examples([{"prompt": "is it?", "response": "yes", "if_chosen": True}], "d")
    assert "did you mean" not in str(e.value)
