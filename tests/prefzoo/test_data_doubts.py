"""Rows that fit a schema by the names of their columns: what they hold is read as it is meant, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from prefzoo.data.examples import Pair
from prefzoo.data.schemas import read_examples
from prefzoo.errors import UserError

ASK = {"role": "user", "content": "is it so, in your view?"}
ANSWERS = {"chosen": "The best answer is yes", "rejected": "The best answer is no"}


def pair(row: dict[str, Any], **more: Any) -> Pair:
    (one,) = read_examples([row], "d", **more).examples
    assert isinstance(one, Pair)
    return one


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "p", "answer_a": "yes", "answer_b": "no", "chosen": "a", "rejected": "b"},
        {"prompt": "p", "response_1": "yes", "response_2": "no", "chosen": "response_2", "rejected": "response_1"},
        {"question": "p", "Answer A": "yes", "Answer B": "no", "chosen": "B", "rejected": "A"},
        {"instruction": "p", "output-0": "yes", "output-1": "no", "chosen": "1", "rejected": "0"},
    ],
)
def test_names_of_columns_are_no_answers(row: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="chosen and rejected name other columns, like .* in row 1"):
        read_examples([row] * 3, "d")


def test_short_answers_are_answers() -> None:
    assert pair({"prompt": "p", "source": "s", "chosen": "a", "rejected": "b"}).chosen == "a"
    rows = [{"prompt": "p", "answer_a": "yes", "answer_b": "no", "chosen": c, "rejected": "x"} for c in ("a", "b")]
    assert len(read_examples(rows, "d").examples) == 2


@pytest.mark.parametrize("held", ["Is it so, in your view?", [ASK], [{"from": "human", "value": ASK["content"]}]])
def test_a_column_that_seems_to_hold_the_prompt_is_named(held: Any) -> None:
    with pytest.raises(UserError, match=r"post seems to hold it; set data.columns.prompt: post, .* data.format"):
        read_examples([{"post": held, **ANSWERS}], "d")
    assert pair({"post": held, **ANSWERS}, form="implicit prompt").prompt == "The best answer is"
    assert pair({"post": held, **ANSWERS}, columns={"prompt": "post"}).chosen != " yes"


def test_a_prompt_that_never_changes_beside_a_text_that_does_is_named() -> None:
    rows = [
        {"instruction": "Summarise.", "text": f"The long story {i} of it", "chosen": "a", "rejected": "b"}
        for i in range(3)
    ]
    with pytest.raises(UserError, match=r"every instruction is the same \('Summarise.'\), and text, which is not read"):
        read_examples(rows, "d")
    assert len(read_examples(rows, "d", form="alpaca").examples) == 3
    assert len(read_examples([{**row, "text": "The same story"} for row in rows], "d").examples) == 3
    assert len(read_examples([{**row, "instruction": row["text"]} for row in rows], "d").examples) == 3


def test_a_common_beginning_is_the_prompt_beside_names_and_short_texts() -> None:
    assert pair({"source": "org/set", "id": "x", **ANSWERS}).prompt == "The best answer is"


def test_turns_before_a_prompt_are_read_in_every_spelling() -> None:
    before = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    for history in ([["hi", "hello"]], before, '[["hi", "hello"]]'):
        read = pair({"prompt": "is it?", "history": history, "chosen": "yes", "rejected": "no"})
        assert read.prompt == [*before, {"role": "user", "content": "is it?"}]
    assert pair({"prompt": "is it?", "history": [], "chosen": "yes", "rejected": "no"}).prompt == "is it?"
    with pytest.raises(UserError, match="history is not a list of pairs of question and answer, or of messages"):
        pair({"prompt": "is it?", "history": "a long story", "chosen": "yes", "rejected": "no"})


@pytest.mark.parametrize("name", ["dialog", "context_messages", "prompt_messages"])
def test_messages_of_a_column_of_their_own_are_the_prompt(name: str) -> None:
    assert pair({name: [ASK], **ANSWERS}).prompt == [ASK]


def test_the_system_message_has_several_names() -> None:
    read = pair({"system_message": "be brief", "prompt": "is it?", "chosen": "yes", "rejected": "no"})
    assert read.prompt == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "is it?"}]


def test_one_text_in_a_list_is_a_text_and_several_are_refused() -> None:
    assert pair({"prompt": "p", "chosen": ["yes"], "rejected": ["no"]}).chosen == "yes"
    with pytest.raises(UserError, match="rejected is a list of 2 texts, where one is needed; make a row of each"):
        pair({"prompt": "p", "chosen": ["yes"], "rejected": ["no", "never"]})


@pytest.mark.parametrize("name", ["image", "video", "audio", "images"])
def test_pictures_and_sounds_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"the row has {name}, and only text can be trained on"):
        pair({"question": "what is shown?", name: {"path": "x.jpg"}, "chosen": "a cat", "rejected": "a dog"})


def test_a_dialogue_as_text_is_mapped() -> None:
    with pytest.raises(UserError, match=r"if it holds the prompt as text, set data.columns.prompt: dialogue"):
        pair({"dialogue": "is it so?", **ANSWERS})
    assert pair({"dialogue": "is it so?", **ANSWERS}, columns={"prompt": "dialogue"}).prompt == "is it so?"
