"""Judges from other packages: the example of docs/extending.md as a user meets it, and plug-ins that are broken."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from called import prefzoo
from jsonschema import Draft202012Validator

from prefzoo.cli.complete import fields
from prefzoo.errors import UserError
from prefzoo.evals.judges import Answer, Comparison, PromptRow, load_judge
from prefzoo.recipe import json_schema, judge
from prefzoo.recipe.load import dump, load
from prefzoo.recipe.yaml import RawRecipe
from prefzoo.runtime import plugins

RECIPE = "name: tiny\nmodel: some/model\ndata: {train: pairs.jsonl, eval: pairs.jsonl}\nvariants: {dpo: }\n"
PLAIN = """
from pathlib import Path
from typing import Literal
from prefzoo.evals.judges import JudgeSettings
from prefzoo.evals.judges.verifier import Verifier

class Settings(JudgeSettings):
    kind: Literal["plain"]
    def load(self, folder: Path):
        return Verifier()

class Nameless(JudgeSettings):
    pass

NUMBER = 3
"""


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Entry points as installed packages would declare them; those of the two examples from the start."""
    text = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    section = text.split("## Adding a judge\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (name, path) = re.findall(r'^(\w+) = "(.*)"$', section, re.MULTILINE)[0]
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "brevity.py").write_text(code)
    (tmp_path / "plain_judge.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint(name, path, judge.GROUP), EntryPoint("plain", "plain_judge:Settings", judge.GROUP)]
    for module in (judge, plugins):
        monkeypatch.setattr(module, "entry_points", lambda group: points if group == judge.GROUP else [])
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for cache in (judge.kinds, judge._adapter):
        cache.cache_clear()
    yield points
    for cache in (judge.kinds, judge._adapter):
        cache.cache_clear()


def written(evals: str) -> Path:
    Path("r.yaml").write_text(f"{RECIPE}evals: {evals}\n")
    return Path("r.yaml")


def test_the_example_judges_as_a_recipe_says(
    offered: list[EntryPoint], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load(written("{judge: {kind: brevity, words: 2}}"))
    assert recipe.resolved()["evals"]["judge"] == {"kind": "brevity", "words": 2}
    Path("again.yaml").write_text(dump(recipe))
    assert load("again.yaml").evals == recipe.evals
    judge = load_judge(recipe.evals.judge, recipe.folder)
    two, four = Answer("two words", True, 2), Answer("these are four words", True, 4)
    assert judge.name == "brevity:2" and judge.free and judge.scores_answers
    assert [v.preference for v in judge.compare([Comparison(PromptRow("1", "p"), four, two)])] == [2.0]
    Path("pairs.jsonl").write_text(json.dumps({"prompt": "p", "chosen": two.text, "rejected": four.text}) + "\n")
    assert prefzoo(monkeypatch, "judge", "r.yaml") == 0
    assert "agrees with the label: 100.0%" in capsys.readouterr().out


def test_all_its_faults_are_listed_with_their_lines(offered: list[EntryPoint]) -> None:
    path = written("\n  judge:\n    kind: brevity\n    words: 0\n    length: 3")
    with pytest.raises(UserError) as caught:
        load(path)
    assert caught.value.lines == (
        "r.yaml:8: evals.judge.words: must be greater than 0 (is 0)",
        "r.yaml:9: evals.judge.length: no such field; there are kind, words",
    )
    with pytest.raises(UserError, match="kind: server, kind: alpaca_eval, kind: panel or kind: brev"):
        load(written("{judge: {kind: brevty}}"))


def test_the_schema_and_completion_know_it(offered: list[EntryPoint]) -> None:
    schema = json_schema.recipe_schema([])
    assert schema["$defs"]["BrevitySettings"]["description"].startswith("The answer whose number of words")
    checker = Draft202012Validator(schema["$defs"]["Evals"] | {"$defs": schema["$defs"]})
    for evals, valid in [("{judge: {kind: brevity, words: 9}}", True), ("{judge: {kind: brevity, words: 0}}", False)]:
        assert checker.is_valid(RawRecipe(written(evals)).data["evals"]) == valid
    kinds = [item.value for item in fields(None, None, "evals.judge.kind=")]  # type: ignore[arg-type]
    assert kinds == [f"evals.judge.kind={kind}" for kind in judge.kinds()]


def test_a_kind_without_settings_has_one_spelling(offered: list[EntryPoint]) -> None:
    for text in ("plain", "{kind: plain}"):
        recipe = load(written(f"{{judge: {text}}}"))
        assert recipe.evals.judge == "plain" and load_judge(recipe.evals.judge, Path()).needs_checks
    with pytest.raises(UserError, match="'brevity' needs settings; write a mapping, {kind: brevity, ...}"):
        load_judge("brevity", Path())
    with pytest.raises(UserError, match="there are verifier, plain, my_judge.py:better, and mappings with kind: rewar"):
        load_judge("gpt-4", Path())


@pytest.mark.parametrize(
    ("name", "path", "fault"),
    [
        ("server", "plain_judge:Settings", "the kind 'server' is taken; rename it"),
        ("other", "plain_judge:Settings", 'its settings need `kind: Literal["other"]`, the name of the entry point'),
        ("nameless", "plain_judge:Nameless", 'its settings need `kind: Literal["nameless"]`, the name of the entry p'),
        ("number", "plain_judge:NUMBER", "it is not a subclass of JudgeSettings"),
        ("gone", "nowhere_at_all:Settings", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    ],
)
def test_a_broken_plug_in_is_reported_and_left_out(
    offered: list[EntryPoint], name: str, path: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    offered.append(EntryPoint(name, path, judge.GROUP))
    assert list(judge.kinds()) == [*judge.BUILT_IN, "brevity", "plain"]
    assert capsys.readouterr().err.startswith(f"prefzoo: entry point {name} = {path} fails: {fault}")
    assert judge.kinds()["server"].__name__ == "ServerSettings"
