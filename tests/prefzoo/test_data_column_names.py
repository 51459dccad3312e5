"""Columns in capitals are read, and columns that fit no format get the cure of pairs and of single answers."""

from __future__ import annotations

import pytest

from prefzoo.data.schemas.normalise import read_examples
from prefzoo.errors import UserError


@pytest.mark.parametrize(
    ("names", "schema", "folded"),
    [
        (("Prompt", "Chosen", "Rejected"), "explicit prompt", "Prompt, Chosen, Rejected"),
        (("PROMPT", "Chosen", "rejected"), "explicit prompt", "PROMPT, Chosen"),
        (("Prompt", "Chosen Text", "Rejected-Text"), "other names", "Prompt, Chosen Text, Rejected-Text"),
        (("Prompt", "Completion", "Label"), "single labelled answers", "Prompt, Completion, Label"),
        ((" prompt", "chosen", "rejected"), "explicit prompt", " prompt"),
    ],
)  # fmt: skip
def test_columns_in_capitals_are_read_and_named(names: tuple[str, ...], schema: str, folded: str) -> None:
    values = ("Name a river.", "The Rhine.", True) if schema.startswith("single") else ("Name a river.", "Rhine", "No")
    read = read_examples([dict(zip(names, values, strict=True))], "d")
    assert read.schema == schema
    assert f"; read in lower case: {folded}" in read.words
    assert read.examples[0].prompt == "Name a river."


def test_names_that_a_schema_reads_as_they_are_stay() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "Score": 3}
    assert read_examples([row], "d").folded == ()


@pytest.mark.parametrize("form", [None, "explicit prompt"])
def test_two_columns_that_differ_in_capitals_alone_are_not_guessed_at(form: str | None) -> None:
    with pytest.raises(UserError, match="no column 'chosen' for chosen; it has Chosen, Prompt, Rejected, prompt"):
        read_examples([{"Prompt": "q", "prompt": "p", "Chosen": "a", "Rejected": "b"}], "d", form=form)


def test_columns_that_fit_no_format_get_the_cure_of_single_answers_too() -> None:
    with pytest.raises(UserError) as raised:
        read_examples([{"frage": "q", "antwort": "a", "daumen": 1}], "d")
    (line,) = raised.value.lines
    assert "data.columns: {prompt: NAME, chosen: NAME, rejected: NAME}" in line
    assert "{prompt: NAME, completion: NAME, label: NAME}" in line
    with pytest.raises(UserError, match="no column 'label' for label; it has .*data.columns.label: NAME"):
        read_examples([{"prompt": "q", "completion": "a", "daumen": 1}], "d")
