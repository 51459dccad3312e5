"""`prefzoo eval` on runs and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from called import prefzoo

from prefzoo.errors import UserError
from prefzoo.experiment.evaluate import models_of


@pytest.fixture
def place(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of two variants, and its base beside it as a checkpoint."""
    run = tmp_path / "results" / "mine"
    for at in ("model", "results/mine/dpo/checkpoint", "results/mine/ipo/checkpoint"):
        tiny_model.save_pretrained(tmp_path / at)
        tiny_tokenizer.save_pretrained(tmp_path / at)
        tiny_model.lm_head.weight.data *= -1  # so that they differ
    (run / "recipe.resolved.yaml").write_text("name: mine\nmodel: model\n")
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_and_the_baseline(place: Path) -> None:
    run = Path("results/mine")
    assert {k: Path(v).name for k, v in models_of([run], None).items()} == {
        "base": "model", "dpo": "checkpoint", "ipo": "checkpoint"
    }  # fmt: skip
    assert list(models_of([Path("model"), run / "dpo" / "checkpoint"], None)) == ["base", "dpo"]
    assert models_of([Path("model")], "some/hub")["base"] == "some/hub"


@pytest.mark.slow
def test_a_run_on_prompts_with_a_round_robin(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("results/mine", "--suite", "instruct:eval:4", "--max-new-tokens", "4", "--round-robin", "--out", "out")
    assert prefzoo(monkeypatch, "eval", *words) == 0
    assert "every model against every other" in capsys.readouterr().out
    board = pd.read_csv(place / "out" / "leaderboard.csv")
    assert set(board[board.metric == "win_rate"].variant) == {"dpo", "ipo"}
    assert board[board.metric == "win_rate"].suite.str.match(r"instruct:eval:4@[0-9a-f]{16}$").all()
    assert set(board[board.metric == "win_rate"].baseline) == {"base"}
    played = json.loads((place / "out" / "round_robin.json").read_text())
    assert len(played["wins"]) == len(played["variants"]) == len(played["scores"])
    assert (place / "out" / "round_robin.md").read_text().startswith("| variant | Bradley-Terry")
    assert {p.name for p in (place / "out" / "dpo").iterdir()} == {
        "annotations.json", "evals.json", "model_outputs.json"
    }  # fmt: skip


@pytest.mark.slow
def test_checkpoints_on_a_benchmark(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "two.jsonl").write_text('{"question": "Say", "choices": ["a", "b"], "label": 0}\n' * 2)
    (place / "two.yaml").write_text(
        "task: two\ndataset_path: json\ndataset_kwargs: {data_files: {test: two.jsonl}}\noutput_type: multiple_choice\n"
        "test_split: test\ndoc_to_text: '{{question}}'\ndoc_to_target: label\ndoc_to_choice: '{{choices}}'\n"
        "metric_list: [{metric: acc}]\n"
    )
    suites = ("--suite", "arithmetic", "--suite", "two.yaml")
    assert prefzoo(monkeypatch, "eval", "model", "results/mine/dpo/checkpoint", *suites) == 0
    board = pd.read_csv(place / "results" / "eval" / "leaderboard.csv")
    assert (
        set(board[board.metric == "arithmetic"].variant) == set(board[board.metric == "two"].variant) == {"base", "dpo"}
    )
    assert list(board[board.metric == "arithmetic_delta"].variant) == ["dpo"]
    assert board[board.metric == "two"].suite.str.match(r"two.yaml@[0-9a-f]{16}$").all()
    kept = (place / "results" / "eval" / "dpo" / "benchmarks" / "arithmetic.jsonl").read_text().splitlines()
    assert len(kept) == 240 and set(json.loads(kept[0])) == {"doc_id", "doc_hash", "score"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["results/mine"], "eval: nothing to evaluate; give runs or checkpoints and a --suite"),
        (["results", "--suite", "instruct:eval:2"], "results: neither a run's folder (recipe.resolved.yaml) nor a che"),
        (["results/mine", "--suite", "none.jsonl"], "none.jsonl"),
        (
            ["results/mine", "--suite", "instruct:eval:2", "--suite", "train.jsonl"],
            "are both sets of prompts; give one",
        ),
        (
            ["results/mine", "--suite", "instruct:eval:2", "--engine", "vllm"],
            "--engine: vllm is not installed; pip ins",
        ),
        (["results/mine", "--suite", "instruct:eval:2", "--judge", "verifer"], "did you mean 'verifier'?"),
        (["results/mine", "--suite", "instruct:eval:2", "--judge", "{kind: server, model: m}"], "--judge: url: Field"),
        (["results/mine", "--suite", "instruct:eval:2", "--judge", "{kind"], "--judge: not YAML; write verifier, my_"),
        (["results/mine", "model", "results/mine/dpo/checkpoint", "--suite", "x"], "dpo: the name of two targets, or"),
    ],
)
def test_mistakes(
    place: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "eval", *words) == 2
    err = capsys.readouterr().err
    assert says in err and "Traceback" not in err


def test_a_base_that_cannot_be_found_and_a_run_that_is_not_finished(place: Path) -> None:
    (place / "results" / "empty").mkdir()
    (place / "results" / "empty" / "recipe.resolved.yaml").write_text("model: m")
    with pytest.raises(UserError, match="results/empty: a run without a finished variant; run its recipe first"):
        models_of([Path("results/empty")], None)


def test_a_relative_base_that_is_elsewhere(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "results" / "mine" / "recipe.resolved.yaml").write_text("model: ./gone")
    assert prefzoo(monkeypatch, "eval", "results/mine", "--suite", "instruct:eval:2") == 2
    assert "no such folder" in (err := capsys.readouterr().err) and "; name the baseline by --base" in err


@pytest.mark.slow
def test_against_published_answers(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "own.py").write_text("def longer(instruction, one, two):\n    return 1 + (len(two) > len(one))\n")
    ask = ("--suite", "instruct:eval:4", "--max-new-tokens", "4", "--judge", "own.py:longer")
    assert prefzoo(monkeypatch, "eval", "results/mine", *ask, "--out", "one") == 0
    outputs = json.loads((place / "one/base/model_outputs.json").read_text())
    file = place / "theirs.json"
    file.write_text(json.dumps([{"instruction": r["instruction"], "output": r["output"]} for r in outputs[::-1]]))
    assert prefzoo(monkeypatch, "eval", "results/mine", *ask, "--out", "two", "--base", "theirs.json") == 0
    rates = [
        pd.read_csv(place / at / "leaderboard.csv").query("metric == 'win_rate'").set_index("variant").value.to_dict()
        for at in ("one", "two")
    ]
    assert rates[0] == rates[1] and set(rates[0]) == {"dpo", "ipo"}  # the same answers, by a model or from a file
    capsys.readouterr()
    first = outputs[0]["instruction"]
    for rows, says in (
        (outputs[1:], f"no answer to 1 prompts (3 answers in the file, 4 prompts), like {first[:60]!r}"),
        ([*outputs, outputs[0]], "1 instructions occur twice (5 answers in the file, 4 prompts)"),
        ([{"output": "x"}], "not AlpacaEval outputs (KeyError: 'instruction'); rows need instruction and output"),
    ):
        file.write_text(json.dumps(rows))
        assert prefzoo(monkeypatch, "eval", "results/mine", *ask, "--base", "theirs.json") == 2
        assert says in capsys.readouterr().err
    assert prefzoo(monkeypatch, "eval", "results/mine", "--suite", "arithmetic", "--base", "theirs.json") == 2
    assert "models are compared only on prompts" in capsys.readouterr().err


def test_a_single_checkpoint_is_measured_under_its_own_name_and_reported(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target, words = "results/mine/dpo/checkpoint", ("--max-new-tokens", "4", "--out", "alone")
    assert models_of([Path(target)], None) == {"dpo": str((place / target).resolve())}
    assert prefzoo(monkeypatch, "eval", target, "--suite", "instruct:eval:3", *words) == 0
    shown = capsys.readouterr().out
    assert f"dpo: {place / target}" in shown and "no baseline; add --base MODEL" in shown
    assert "dpo is alone: there is no baseline to compare it with." in shown and "trained to its end" not in shown
    board = pd.read_csv(place / "alone" / "leaderboard.csv")
    assert set(board.variant) == {"dpo"} and "win_rate" not in set(board.metric)
    assert prefzoo(monkeypatch, "report", "alone") == 0
    assert "dpo is alone" in (place / "alone" / "report.html").read_text()


@pytest.mark.slow
def test_the_folder_of_an_evaluation_has_a_page(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("model", "results/mine/dpo/checkpoint", "--suite", "instruct:eval:3", "--max-new-tokens", "4")
    assert prefzoo(monkeypatch, "eval", *words, "--out", "both") == 0
    assert f"base: {place / 'model'}\n" in capsys.readouterr().out
    assert prefzoo(monkeypatch, "report", "both", "--out", "page.html") == 0
    page = (place / "page.html").read_text()
    assert "the models existed already" in page and "instruct:eval:3" in page
    assert prefzoo(monkeypatch, "report", "results") == 2
    assert "not a run's folder (recipe.resolved.yaml is missing) and not an evaluation's" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "ignored", "mode"),
    [
        (["--annotations", "a.json", "--suite", "instruct:eval:2"], "--suite", "--annotations"),
        (["--annotations", "a.json", "--judge", "verifier", "--base", "b"], "--judge, --base", "--annotations"),
        (["model", "--lm-eval-results", "x", "--suite", "knowledge"], "--suite", "--lm-eval-results"),
        (["model", "--suite", "knowledge", "--gamed", "g.csv"], "--gamed", "--suite"),
    ],
)
def test_no_option_is_ignored(
    words: list[str], ignored: str, mode: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "eval", *words) == 2
    assert f"eval: {ignored}: has no effect with {mode}" in capsys.readouterr().err


@pytest.mark.slow
def test_equality_and_labels_beside_prompts(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [{"prompt": f"Say {i}"} for i in range(24)]
    (place / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    pairs = [{"prompt": f"Say {i}", "chosen": "a" * (4 if i % 6 else 1), "rejected": "bb"} for i in range(25)]
    (place / "labels.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    (place / "own.py").write_text(
        "def longer(instruction, output_1, output_2):\n    return 1 + float(len(output_2) > len(output_1))\n"
    )
    words = ("results/mine", "--suite", "prompts.jsonl", "--judge", "own.py:longer", "--max-new-tokens", "4")
    more = ("--equivalence", "30", "--judge-labels", "labels.jsonl", "--out", "out")
    assert prefzoo(monkeypatch, "eval", *words, *more) == 0
    out = capsys.readouterr().out
    assert "--judge-labels: 1 of 25 pairs left out: about other prompts than --suite" in out
    verdict = json.loads((place / "out" / "verdict.json").read_text())
    assert verdict["equivalence"]["points"] == 30 and "within 30 points" in out
    assert json.loads((place / "out" / "dpo" / "judge_labels.json").read_text())["labels"]
    assert "win_rate_rg" in set(pd.read_csv(place / "out" / "leaderboard.csv").metric)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--judge-labels", "labels.jsonl"), "--judge-labels: nothing is judged; name prompts by --suite"),
        (("--equivalence", "0"), "--equivalence: must be above 0 and at most 50 points (is 0)"),
        (("--equivalence", "few"), "--equivalence: must be above 0 and at most 50 points (is few)"),
    ],
)
def test_wrong_options_of_equality_and_labels(
    place: Path, words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "eval", "results/mine", "--suite", "arithmetic", *words) == 2
    assert says in capsys.readouterr().err
