"""`prefzoo init` writes a recipe that fits the data and passes `check`; packaged recipes are found by their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from called import prefzoo

from prefzoo.recipe.load import load
from prefzoo.runtime.paths import RECIPES, packaged_recipes, recipe_path

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pairs, scored pairs and thumbs, and an empty model folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    pairs = [{"prompt": f"Say {i}", "chosen": f"It is {i}.", "rejected": f"No {i}{i}"} for i in range(40)]
    scored = [{**row, "score_chosen": 2.0, "score_rejected": 1.0} for row in pairs]
    thumbs = [{"prompt": f"Say {i}", "completion": "word " * 400, "label": bool(i % 2)} for i in range(600)]
    for name, rows in (("pairs", pairs), ("scored", scored), ("thumbs", thumbs)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize(
    ("data", "losses", "batch", "max_length"),
    [
        ("pairs.jsonl", ["dpo", "simpo", "ipo"], 2, 256),
        ("scored.jsonl", ["dpo", "simpo", "ipo", "margin_dpo"], 2, 256),
        ("thumbs.jsonl", ["kto", "bco", "apo_zero_unpaired"], 32, 1024),
    ],
)
def test_the_recipe_fits_the_data(
    place: Path, monkeypatch: pytest.MonkeyPatch, data: str, losses: list[str], batch: int, max_length: int
) -> None:
    assert prefzoo(monkeypatch, "init", "My Recipe.yaml", "--model", "model", "--data", data) == 0
    recipe = load(place / "My Recipe.yaml")
    assert (recipe.name, recipe.model, recipe.data.train) == ("my-recipe", "./model", data)
    assert list(recipe.variants) == losses and recipe.train.batch == batch and recipe.data.max_length == max_length
    text = (place / "My Recipe.yaml").read_text()
    assert all("#" in line or ":" in line for line in text.splitlines())
    for line in text.splitlines():  # every suggestion is a line that can be uncommented
        if line.startswith("  # ") and ": " in line and "`" not in line and not line[4:].startswith(("40", "600")):
            (place / "more.yaml").write_text(text.replace(line, line.replace("# ", "", 1)))
            load(place / "more.yaml")


def test_paths_start_at_the_recipes_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "sub").mkdir()
    words = ("--model", "model", "--data", "pairs.jsonl", "--eval", "scored.jsonl")
    assert prefzoo(monkeypatch, "init", "sub/r.yaml", *words) == 0
    recipe = load(place / "sub" / "r.yaml")
    assert (recipe.model, recipe.data.train, recipe.data.eval) == ("../model", "../pairs.jsonl", "../scored.jsonl")


def test_rows_that_cannot_be_used_are_counted_and_left_out(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    rows = (place / "pairs.jsonl").read_text()
    (place / "pairs.jsonl").write_text(f'{{"prompt": "q", "chosen": "a", "rejected": ""}}\n{rows}no json\n')
    assert prefzoo(monkeypatch, "init", "r.yaml", "--model", "model", "--data", "pairs.jsonl") == 0
    reasons = "1 row (not JSON: Expecting value at column …), 1 row (rejected is empty)"
    assert f"pairs.jsonl: {reasons}, left out by data.on_bad_row: drop" in capsys.readouterr().out
    assert load(place / "r.yaml").data.on_bad_row == "drop"
    assert f"on_bad_row: drop  # {reasons}" in (place / "r.yaml").read_text()


def test_columns_of_other_names_are_mapped(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    row = {"ask text": "Is it so?", "nice": "It is so.", "poor": "No, never."}
    (place / "odd.jsonl").write_text(json.dumps(row) + "\n")
    words = ("init", "r.yaml", "--model", "model", "--data", "odd.jsonl")
    assert prefzoo(monkeypatch, *words) == 2
    assert "here, name columns by --columns prompt=NAME,chosen=NAME,rejected=NAME" in capsys.readouterr().err
    assert prefzoo(monkeypatch, *words, "--columns", "prompt=ask text, chosen=nice,rejected=poor") == 0
    assert load(place / "r.yaml").data.columns == {"prompt": "ask text", "chosen": "nice", "rejected": "poor"}
    assert prefzoo(monkeypatch, *words[:1], "other.yaml", *words[2:], "--columns", "prompt") == 2
    assert "--columns: 'prompt' is not a list of NAME=COLUMN" in capsys.readouterr().err


def test_what_is_missing_is_asked_for_on_a_terminal(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert prefzoo(monkeypatch, "init", "r.yaml", "--model", "model") == 2
    assert "error: init: --data is missing, and there is no terminal to ask in; give --data" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = {"Model": "owner/name", "Preference": "pairs.jsonl"}
    monkeypatch.setattr("click.prompt", lambda question, default=None, **_: answers.get(question.split()[0], default))
    assert prefzoo(monkeypatch, "init", "r.yaml") == 0
    recipe = load(place / "r.yaml")
    assert (recipe.model, recipe.data.train, recipe.data.eval) == ("owner/name", "pairs.jsonl", None)
    printed = capsys.readouterr().out
    assert "pairs.jsonl: 40 rows, explicit prompt, plain strings" in printed
    assert "next: prefzoo check r.yaml" in printed


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("taken.yaml",), "taken.yaml: already exists; name another file, or remove it"),
        (("r.txt",), "r.txt: a recipe's name ends in .yaml; write r.yaml"),
        (("gone/r.yaml",), "gone: no such folder; create it first"),
        (("r.yaml", "--data", "none.jsonl"), "none.jsonl: no such file"),
    ],
)
def test_nothing_is_written_where_something_is_wrong(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, words: tuple[str, ...], line: str
) -> None:
    (place / "taken.yaml").write_text("mine")
    given = (*words, "--model", "model", *(() if "--data" in words else ("--data", "pairs.jsonl")))
    assert prefzoo(monkeypatch, "init", *given) == 2
    assert line in capsys.readouterr().err.replace(f"{place}/", "")
    assert (place / "taken.yaml").read_text() == "mine" and not (place / "r.yaml").exists()


@pytest.mark.slow
def test_check_accepts_the_recipe(run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.chdir(run_folder)
    words = ("--model", "model", "--data", "train.jsonl", "--eval", "test.jsonl")
    assert prefzoo(monkeypatch, "init", "mine.yaml", *words) == 0
    assert prefzoo(monkeypatch, "check", "mine.yaml") == 0
    assert "8 pairs" in capsys.readouterr().out


def test_a_packaged_recipe_is_found_by_its_name(place: Path) -> None:
    assert "quickstart" in packaged_recipes() and "recipe.schema" not in packaged_recipes()
    assert recipe_path(Path("quickstart")) == RECIPES / "quickstart.yaml"
    assert load(recipe_path(Path("quickstart"))).name == "quickstart"
    (place / "quickstart").mkdir()
    for path in ("quickstart", "./sub/quickstart", "other"):
        assert recipe_path(Path(path)) == Path(path)
