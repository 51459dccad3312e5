"""Schemas are registered, detected by columns, preferred or refused by name, and offered by installed packages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from prefzoo.data.examples import LabelledAnswer, Pair
from prefzoo.data.schemas import describe, normalise, registry, schema
from prefzoo.data.sources import read_rows
from prefzoo.errors import UserError
from prefzoo.recipe.sections import Data
from prefzoo.runtime import plugins

ROW = {"question": "q", "good": "a", "bad": "b"}
PLUGIN = """
from prefzoo.data import Pair, schema

@schema("offered", columns=("question", "good", "bad"))
def mine(row, index):
    return Pair(row["question"], row["good"], row["bad"], index)

undecorated = print
"""


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test registers, and which entry points it saw."""
    monkeypatch.setattr(registry, "_SCHEMAS", dict(registry._SCHEMAS))
    registry._load_entry_points.cache_clear()
    yield
    registry._load_entry_points.cache_clear()


def to_pair(row: dict[str, Any], index: int) -> Pair:
    return Pair(row["question"], row["good"], row["bad"], index)


def test_adding_a_schema_is_one_function_as_contributing_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    section = text.split("## Adding a data schema\n")[1].split("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(compile(example, "contributed.py", "exec"), {"__name__": "contributed"})
    assert normalise([ROW], "d") == [Pair("q", "a", "b", 0)]
    assert describe([ROW]) == "question with two answers, plain strings"


def test_a_schema_has_its_own_columns(tmp_path: Path) -> None:
    schema("mine", columns=("question", "good", "bad"))(to_pair)
    (tmp_path / "d.jsonl").write_text(json.dumps({"ask": "q", "good": "a", "bad": "b"}))
    rows = read_rows("d.jsonl", tmp_path, {"question": "ask"})
    assert normalise(rows, "d") == [Pair("q", "a", "b", 0)]


def test_a_recipe_may_map_the_columns_of_every_schema() -> None:
    mapping = {"train": "x", "columns": {"inquiry": "ask"}}
    with pytest.raises(ValidationError, match="'prompt', 'chosen', 'rejected', 'score_chosen'"):
        Data.model_validate(mapping)
    schema("mine", columns=("inquiry", "good", "bad"))(to_pair)
    assert Data.model_validate(mapping).columns == {"inquiry": "ask"}


def test_a_recipe_names_the_format_of_every_schema() -> None:
    mapping = {"train": "x", "format": "minee"}
    with pytest.raises(ValidationError, match="no such format .is 'minee'.; .prefzoo data --formats. lists all"):
        Data.model_validate(mapping)
    schema("mine", columns=("question", "good", "bad"))(to_pair)
    with pytest.raises(
        ValidationError, match="no such format .is 'minee'.; .prefzoo data --formats. lists all; did you mean 'mine'"
    ):
        Data.model_validate(mapping)
    assert Data.model_validate({"train": "x", "format": "mine"}).format == "mine"
    assert normalise([{**ROW, "prompt": "p", "chosen": "c", "rejected": "r"}], "d", "mine") == [Pair("q", "a", "b", 0)]


def test_a_detected_schema_names_the_columns_that_it_misses(tmp_path: Path) -> None:
    schema("mine", columns=("question", "good", "bad"), detect=lambda c: "has good" if "good" in c else "")(to_pair)
    (tmp_path / "d.jsonl").write_text(json.dumps({"qestion": "q", "good": "a", "bad": "b"}))
    with pytest.raises(UserError, match="^d.jsonl: no column 'question' for question; .* did you mean 'qestion'"):
        read_rows("d.jsonl", tmp_path)


def test_two_schemas_that_fit_are_named_in_one_line_with_their_reasons() -> None:
    schema("tools", columns=("tools",))(to_pair)
    with pytest.raises(UserError) as e:
        normalise([{"prompt": "q", "chosen": "a", "rejected": "b", "tools": []}], "d.jsonl")
    (line,) = e.value.lines
    assert line.startswith("d.jsonl: fits 2 schemas, 'explicit prompt' (it has a prompt, and chosen or rejected) and ")
    assert "'tools' (it has tools); name one, like data.format: explicit prompt, remove the columns" in line


def test_a_schema_that_comes_before_another_is_chosen() -> None:
    before = ("explicit prompt",)
    schema("tools", columns=("tools",), before=before)(lambda row, i: Pair("with tools", "a", "b", i))
    assert normalise([{"prompt": "q", "chosen": "a", "rejected": "b", "tools": []}], "d") == [
        Pair("with tools", "a", "b", 0)
    ]


def test_two_schemas_that_each_come_before_the_other_are_named() -> None:
    schema("one", columns=("question",), before=("two",))(to_pair)
    schema("two", columns=("question",), before=("one",))(to_pair)
    with pytest.raises(UserError, match="fits 2 schemas, 'one' .* and 'two'"):
        normalise([ROW], "d")


def test_columns_that_fit_no_schema_are_named() -> None:
    with pytest.raises(UserError, match="^d: its columns bad, good, question fit no format; .prefzoo data --formats"):
        normalise([ROW], "d")


def labelled_if_bad(row: dict[str, Any], index: int) -> Pair | LabelledAnswer:
    return LabelledAnswer("q", "a", True, index) if row["bad"] else Pair("q", "a", "b", index)


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        (lambda row, i: Pair(row["question"], "", "b", i), "d: row 1: chosen is empty; remove the row"),
        (lambda row, i: LabelledAnswer("q", "a", 1, i), "d: row 1: label is 1; it must be true"),
        (
            lambda row, i: Pair(row["q"], "a", "b", i),
            "d: row 1: schema 'mine' fails: FILE: KeyError: 'q'; fix",
        ),
        (lambda row, i: ("q", "a", "b"), "d: row 1: schema 'mine' gives tuple, not a Pair or a LabelledAnswer"),
        (labelled_if_bad, "d: schema 'mine' makes pairs of some rows and single answers of others"),
    ],
)
def test_what_a_schema_gives_is_checked(function: Any, fault: str) -> None:
    schema("mine", columns=("question", "good", "bad"))(function)
    with pytest.raises(UserError, match="^" + re.escape(fault).replace("FILE", rf"\S*{Path(__file__).name}:\d+")):
        normalise([ROW, {"question": "q", "good": "a"}], "d")


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(
        UserError, match="^schema 'explicit prompt' of .*test_data_schema_registry.py is taken by .*pref"
    ):
        schema("explicit prompt", columns=("question",))(to_pair)


@pytest.mark.parametrize(
    ("attribute", "fault"),
    [("mine", ""), ("undecorated", "it is not decorated with @schema"), ("absent", "AttributeError")],
)
def test_entry_points(
    attribute: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"zoo_schema_module_{attribute}"
    (tmp_path / f"{name}.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("offer", f"{name}:{attribute}", registry.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point] if group == "prefzoo.schemas" else [])
    assert normalise([ROW], "d") == [Pair("q", "a", "b", 0)]
    err = capsys.readouterr().err
    assert err == "" if not fault else f"entry point offer = {name}:{attribute} fails: {fault}" in err
