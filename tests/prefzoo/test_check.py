"""What `prefzoo check` accepts, `prefzoo run` does not refuse: both call the same checks, and these are all of them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from called import prefzoo
from first_fast import first_fast

from prefzoo.engine import models
from prefzoo.evals.judges.protocol import Answer, Comparison, Judge, Progress, PromptRow, Verdict
from prefzoo.experiment.plausible import sampling_warning
from prefzoo.experiment.stages import judge as stages_judge
from prefzoo.recipe.load import load

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 2, steps: 1, learning_rate: 1e-4, precision: fp32}
variants: {dpo: }
evals: {prompts: "instruct:eval:2", max_new_tokens: 16, kl: 0}
"""
MINE = """\
from prefzoo.losses import Positive, loss

@loss(paper="mine")
def broken(policy, *, beta: Positive = 0.1):
    return policy.nothing

def raises(instruction, output_1, output_2):
    return {}["the judge's own words"]

def better(instruction, output_1, output_2):
    return 1.5
"""
CHECKED_PROMPT = {"prompt": "Say it.", "checks": [{"kind": "no_comas"}]}
REFUSED = [
    ("data.train=gone.jsonl", "data.train: no such file: .*/gone.jsonl; paths in a recipe are relative to the recipe"),
    ("data.eval=gone.jsonl", "data.eval: no such file: .*/gone.jsonl; paths"),
    ("evals.prompts=gone.jsonl", "evals.prompts: no such file: .*/gone.jsonl; paths"),
    ("evals.prompts='instruct:test'", "no such split"),
    ("sweep={validation: gone.jsonl}", "sweep.validation: no such file: .*/gone.jsonl; paths"),
    ("data.eval=train.jsonl", "data.eval: train.jsonl has the same pairs as data.train, train.jsonl; a model cannot"),
    ("data.eval=shuffled.jsonl", "data.eval: shuffled.jsonl has the same pairs as data.train, train.jsonl; a model"),
    ("data.max_length=12", "no pair is left at max_length 12"),
    ("model=./gone", "no such folder"),
    ("evals.benchmarks=[knowlege]", "evals.benchmarks: no suite 'knowlege'; did you mean 'knowledge'"),
    ("train.trackers=[tensorbord]", "train.trackers: no tracker 'tensorbord'; did you mean 'tensorboard'"),
    ("evals.judge=gpt-4", r"evals.judge: no such judge: 'gpt-4'; .*\{kind: server, url: ..., model: gpt-4\}"),
    ("evals.judge=server", r"evals.judge: 'server' needs settings; write a mapping, \{kind: server, ...\}"),
    ("evals.judge=gone.py:better", "evals.judge: gone.py:better: no such file"),
    ("evals.judge={kind: model, model: ./gone}", "evals.judge: model ./gone: no such folder"),
    ("evals.judge={kind: server, url: here, model: m}", "evals.judge.url: must be an http address"),
    (
        "evals.judge={kind: server, url: 'https://example.com/v1', model: m, key: MY_KEY}",
        "evals.judge: the environment variable MY_KEY is empty; export the key of example.com",
    ),
    ("evals.prompts=plain.jsonl", "evals.judge: verifier scores only prompts with checks, and 1 of 1 have none"),
    ("evals.prompts=misspelt.jsonl", "check 'no_comas': no such kind; did you mean 'no_commas'?"),
    ("evals={prompts: twice.jsonl, judge: 'my.py:better'}", "evals.prompts: 1 of 2 prompts are repeated"),
    ("variants={odpo: }", "variants.odpo: odpo reads the columns score_chosen and score_rejected"),
]


@pytest.fixture
def place(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    monkeypatch.setattr("prefzoo.evals.suites.tasks.lm_eval_manager", lambda: SimpleNamespace(all_tasks=[]))
    (run_folder / "r.yaml").write_text(RECIPE)
    (run_folder / "my.py").write_text(MINE)
    lines = (run_folder / "train.jsonl").read_text().splitlines(keepends=True)
    (run_folder / "shuffled.jsonl").write_text("".join(reversed(lines)))
    long = [line.replace("Say", f"Say {40 * 'Z'}") for line in lines[:4]]
    (run_folder / "long.jsonl").write_text("".join(long + lines[4:]))
    (run_folder / "some.jsonl").write_text("".join(lines[2:4]) + (run_folder / "test.jsonl").read_text())
    (run_folder / "plain.jsonl").write_text('{"prompt": "Say 3"}\n')
    (run_folder / "twice.jsonl").write_text('{"prompt": "Say it."}\n' * 2)
    (run_folder / "misspelt.jsonl").write_text(json.dumps(CHECKED_PROMPT) + "\n")
    return run_folder


@pytest.mark.parametrize(("setting", "line"), REFUSED)
def test_check_and_run_refuse_alike(
    place: Path, setting: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []
    for command in ("check", "run"):
        assert prefzoo(monkeypatch, command, "r.yaml", "--set", setting) == 2
        printed.append(capsys.readouterr().err)
    assert printed[0] == printed[1] and re.search(line, printed[0]), printed
    assert printed[0].startswith("error: ") and printed[0].count("\n") == 1


def test_all_faults_of_names_and_files_are_listed_at_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["data.eval=gone.jsonl", "evals.benchmarks=[knowlege]", "train.trackers=[tensorbord]"]
    words = [word for text in sets for word in ("--set", text)]
    assert prefzoo(monkeypatch, "check", "r.yaml", *words) == 2
    assert capsys.readouterr().err.count("error: ") == len(sets)


def test_what_is_wrong_with_a_judge_has_its_line(place: Path) -> None:
    (place / "r.yaml").write_text(RECIPE.replace("evals: {", "evals: {judge: gpt-4, "))
    with pytest.raises(Exception, match="^r.yaml:6: evals.judge: no such judge: 'gpt-4'"):
        load("r.yaml")


PLUG_INS = [
    ("variants={dpo: , mine: {loss: 'my.py:broken'}}", "variants.mine: broken, called on two made-up pairs: my.py:5: "),
    ("evals.judge=my.py:raises", 'evals.judge: my.py:8: KeyError: "the judge\'s own words"'),
]


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "line"), PLUG_INS)
def test_a_plug_in_that_raises_is_called_before_anything_is_trained(
    place: Path, setting: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("check", "run"):
        assert prefzoo(monkeypatch, command, "r.yaml", "--set", setting) == 3
        out = capsys.readouterr().out
        assert f"fails: {line}" in out and "Traceback" not in out
        assert command == "check" or out.index(line) < out.index("training dpo")
    assert prefzoo(monkeypatch, "check", "r.yaml", "--json", "--set", setting) == 3
    assert list(json.loads(capsys.readouterr().out)["failing"]) == [line.split(":", maxsplit=1)[0]]


@pytest.mark.slow
def test_check_asks_no_server(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("prefzoo.evals.judges.server.ServerJudge._send", lambda *_: pytest.fail("a server was asked"))
    judge = "evals.judge={kind: server, url: 'http://localhost:1/v1', model: m, temperature: 9.0}"
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", judge) == 0
    assert "warning: evals.judge.temperature: 9 is outside of 0 to 2" in capsys.readouterr().out
    assert not (place / "results").exists()


WARNED = [
    (
        "train.learning_rate=5e5",
        "train.learning_rate: 500,000 is outside of 1e-09 to 0.0002: 2e-7 to 2e-5 is",
    ),
    (
        "variants={dpo: {train: {learning_rate: 0.01}}, ipo: {train: {learning_rate: 0.01}}, simpo: }",
        "variants dpo, ipo: train.learning_rate: 0.01 is outside of 1e-09 to 0.0002: 2e-7 to 2e-5 is",
    ),
    ("train.lora={rank: 2, dropout: 0.9}", "train.lora.dropout: 0.9 is outside of 0 to 0.5"),
    ("variants={dpo: {beta: 100.0}}", "variants.dpo.beta: 100 is outside of 0.0002 to 0.5: 0.001, 0.003, 0.005, "),
    ("variants={dpo: {beta: [0.1, 100.0]}}", "variants.dpo.beta: 100 is outside of"),
    ("variants={two: {loss: dpo + sft, dpo: {beta: 9.0}}}", "variants.two.dpo.beta: 9 is outside of"),
    ("train.batch=64", "train.batch: 64 is more than the 8 rows there are; a step sees some of them twice"),
    ("train={epochs: 100.0, precision: fp32, batch: 2}", "train.epochs: 100 epochs, 100 passes, is outside of 0 to"),
    ("train.steps=800", "train.steps: 800 steps of 2 rows, 200 passes, is outside of 0 to 10: one to three passes"),
    (
        "data={train: long.jsonl, max_length: 40}",
        "data.train: of the 8 rows of long.jsonl, 4 are dropped and 0 are cut",
    ),
    ("evals.max_new_tokens=4", "evals.max_new_tokens: 4 is outside of 16 to"),
    ("data.eval=some.jsonl", "data.eval: some.jsonl: 2 of 10 pairs have a prompt of the training data (the first is "),
    ("evals={prompts: plain.jsonl, judge: 'my.py:better'}", "evals.prompts: plain.jsonl: 1 of 1 prompts have a prompt"),
    ("evals={judge: 'my.py:better'}", "evals.judge: has no effect without evals.prompts; add prompts to answer"),
]


@pytest.mark.parametrize(("setting", "line"), [*WARNED[:2], *first_fast(WARNED[2:])])
def test_absurd_values_are_warned_of(
    place: Path, setting: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", setting) == 0
    assert f"warning: {line}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_plain_recipe_has_no_warning_and_run_repeats_those_of_check(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "check", "r.yaml") == 0
    assert "warning" not in capsys.readouterr().out
    words = ("r.yaml", "--set", "train.learning_rate=0.01", "--set", "evals={kl: 0}")
    printed = []
    for command in ("check", "run"):
        assert prefzoo(monkeypatch, command, *words) == 0
        printed.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")])
    assert printed[0] == printed[1] and len(printed[0]) == 1
    assert sampling_warning(9.0).startswith("--temperature: 9 is outside of 0 to 2") and not sampling_warning(1.0)


@pytest.mark.slow
def test_a_judge_that_raises_leaves_what_was_measured_and_its_own_words(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    far = ("--set", "train.learning_rate=0.01")  # equal answers are ties, which no judge is asked about
    assert prefzoo(monkeypatch, "run", "r.yaml", *far, "--set", "evals.judge=my.py:raises") == 3
    why = 'x my.py:8: KeyError: "the judge\'s own words"); more than 5%: the number is withheld'
    out = capsys.readouterr().out
    folder = place / "results" / "tiny"
    board = (folder / "leaderboard.md").read_text()
    for text in (out, board):
        assert why in text and "nothing was measured" not in text and "No variant can be ranked" not in text
    assert json.loads((folder / "verdict.json").read_text())["metric"] == "preference_accuracy"
    assert (
        html.escape(why, quote=True).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
        in (folder / "report.html").read_text()
    )
    rows = json.loads((folder / "dpo" / "annotations.json").read_text())
    assert {row["missing"] for row in rows} - {""} == {'my.py:8: KeyError: "the judge\'s own words"'}
    words = ("--set", "evals.judge=my.py:raises", "--set", "data.eval=null")
    assert prefzoo(monkeypatch, "run", "r.yaml", *far, *words) == 3
    assert "No variant can be ranked: the judge gave too few verdicts." in capsys.readouterr().out
    assert prefzoo(monkeypatch, "run", "r.yaml", *far, "--set", "evals.judge=my.py:better") == 0


@pytest.mark.parametrize(
    "words",
    [
        ("judge", "r.yaml", "--set", "evals.judge=my.py:raises"),
        ("eval", "model", "other", "--suite", "plain.jsonl", "--max-new-tokens", "2", "--judge", "my.py:raises"),
    ],
)
def test_a_judge_that_raises_is_no_success_elsewhere(
    place: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny, tokenizer = models.load("model", place)
    tiny.lm_head.weight.data *= -1
    models.save(tiny, tokenizer, place / "other", main=True)
    assert prefzoo(monkeypatch, *words) == 3
    assert 'my.py:8: KeyError: "the judge\'s own words"' in " ".join(capsys.readouterr().out.split())


def test_a_packages_judge_that_raises_is_a_reason_too() -> None:
    class Broken(Judge):
        name = "broken"

        def forecast(self, comparisons: Sequence[Comparison]) -> str:
            raise ArithmeticError("no price")

        def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
            raise SystemExit(4) if len(comparisons) > 1 else ArithmeticError("no verdict")

    class Short(Broken):
        def compare(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Verdict]:
            return []

    one = Comparison(PromptRow("1", "p"), Answer("a", True, 1), Answer("b", True, 1))
    for judge, asked, reason in ((Broken(), 1, "ArithmeticError: no verdict"), (Broken(), 2, "SystemExit: 4")):
        outcomes = stages_judge.verdicts_of(judge, [one] * asked, lambda done, total, note: None)
        assert [v.missing.split(": ", 1)[1] for v in outcomes] == [reason] * asked
    (short,) = stages_judge.verdicts_of(Short(), [one], lambda done, total, note: None)
    assert short.missing == "judge broken gave 0 verdicts for 1 comparisons"
    assert "no price" in stages_judge._forecast(Broken(), [one])
