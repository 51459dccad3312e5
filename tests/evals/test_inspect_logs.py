"""Logs of Inspect AI in the same table as benchmarks run here, paired by sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from called import prefzoo

from prefzoo.errors import UserError
from prefzoo.evals.metrics.inspect_logs import read_logs
from prefzoo.evals.stats.intervals import paired_difference


def log(model: str, scores: list[Any], epochs: int = 1, **more: Any) -> dict[str, Any]:
    """A log as Inspect writes it, as far as it is read."""
    samples = [
        {"id": i, "epoch": e + 1, "input": f"question {i}", "target": "a", "scores": {"match": {"value": value}}}
        for e in range(epochs)
        for i, value in enumerate(scores)
    ]
    about = {"task": "pkg/arith", "model": model}
    return {"version": 2, "status": "success", "eval": about, "samples": samples, **more}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_scores_are_read_as_inspect_reads_them(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", log("org/m", ["C", "I", "P", "N", True, 0.25, "yes", "0.5"]))
    ((name, measured),) = read_logs([file]).items()
    benchmark = measured.benchmarks["arith"]
    assert name == "org__m" and [r["score"] for r in benchmark["samples"]] == [1, 0, 0.5, 0, 1, 0.25, 1, 0.5]
    assert benchmark["value"] == pytest.approx(4.25 / 8) and benchmark["n"] == 8


def test_epochs_are_one_row_a_sample_and_scorers_are_benchmarks(tmp_path: Path) -> None:
    content = log("m", ["C", "I"])
    content["samples"] += [{**s, "epoch": 2, "scores": {"match": {"value": "I"}}} for s in content["samples"]]
    ((_, one),) = read_logs([write(tmp_path / "a.json", content)]).items()
    assert [r["score"] for r in one.benchmarks["arith"]["samples"]] == [0.5, 0.0] and one.benchmarks["arith"]["n"] == 2
    for sample in content["samples"]:
        sample["scores"]["f1"] = {"value": 0.3}
    ((_, two),) = read_logs([write(tmp_path / "a.json", content)]).items()
    assert set(two.benchmarks) == {"arith_match", "arith_f1"}
    assert two.benchmarks["arith_f1"]["value"] == pytest.approx(0.3)


def test_models_are_paired_by_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    one = ["C" if x else "I" for x in rng.random(60) < 0.5]
    other = ["C" if x == "C" or rng.random() < 0.4 else "I" for x in one]
    shuffled = log("o/new", other)
    shuffled["samples"] = [shuffled["samples"][i] for i in rng.permutation(60)]
    write(tmp_path / "logs" / "1.json", log("o/old", one))
    write(tmp_path / "logs" / "2.json", shuffled)
    monkeypatch.chdir(tmp_path)
    assert prefzoo(monkeypatch, "eval", "--inspect-logs", "logs", "--out", "out") == 0
    assert "base: o__old" in capsys.readouterr().out
    long = pd.read_csv("out/leaderboard.csv").set_index(["variant", "metric"])
    row = long.loc[("o__new", "arith_delta")]
    gap = paired_difference(*(np.array([x == "C" for x in scores], dtype=float) for scores in (other, one)))
    assert row.value == pytest.approx(gap.value) and row.high - row.low < 0.3
    assert prefzoo(monkeypatch, "compare", "logs/1.json", "logs/2.json", "--format", "json") == 0
    rows = {(r["variant"], r["metric"]): r for r in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["o__new", "arith_delta"]["value"] == pytest.approx(gap.value)
    assert prefzoo(monkeypatch, "compare", "logs/1.json", "logs/2.json", "--baseline", "o__new") == 0
    shown = capsys.readouterr().out
    assert "base: o__new" in shown and "paired by document; p after Holm" in " ".join(shown.split())
    assert prefzoo(monkeypatch, "compare", "logs/1.json", "logs/2.json", "--sort", "x", "--format", "html") == 2
    assert "--sort, --format html: has no effect for result files of other tools" in capsys.readouterr().err
    assert prefzoo(monkeypatch, "eval", "--inspect-logs", "logs", "--base", "o__neu") == 2
    assert "no results of that model; did you mean 'o__new'?" in capsys.readouterr().err
    assert prefzoo(monkeypatch, "eval", "--inspect-logs", "logs", "--judge", "verifier") == 2


FAULTS: list[tuple[str, Any, str]] = [
    ("a.json", "{", "is not JSON"),
    ("a.json", {"results": {}}, "has no eval.task and eval.model; give a JSON log of Inspect"),
    ("a.json", [], "has no eval.task and eval.model"),
    ("a.json", log("m", ["C"], status="error"), "its status is 'error'; finish it by `inspect eval-retry`"),
    ("a.json", log("m", []), "has no samples to compare models by; run Inspect without --no-log-samples"),
    ("a.json", log("m", ["well"]), "sample 0: the score 'well' is not a number; give each sample one"),
    ("a.json", log("m", [{"x": 1}]), "sample 0: the score \"{'x': 1}\" is not a number"),
    ("a.eval", "PK", "is Inspect's binary log; `inspect log convert --to json --output-dir FOLDER LOG` writes one"),
]


@pytest.mark.parametrize(("name", "content", "says"), FAULTS)
def test_files_that_are_none(tmp_path: Path, name: str, content: Any, says: str) -> None:
    file = write(tmp_path / name, content)
    with pytest.raises(UserError) as caught:
        read_logs([file])
    (line,) = caught.value.lines
    assert line.startswith(f"{file}: ") and says in line


def test_samples_without_a_score_and_folders_without_a_log(tmp_path: Path) -> None:
    bare = log("m", ["C"])
    bare["samples"][0]["scores"] = None
    with pytest.raises(UserError, match="no sample has a score; `inspect score` adds them"):
        read_logs([write(tmp_path / "a.json", bare)])
    with pytest.raises(UserError, match="no such file or folder"):
        read_logs([tmp_path / "gone"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \*.json in it"):
        read_logs([tmp_path / "empty"])


def test_the_leaderboard_gathers_folders_of_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, scores in (("a", ["C", "I"] * 20), ("b", ["C", "C"] * 20)):
        write(tmp_path / "results" / "logs" / f"{model}.json", log(model, scores))
    write(tmp_path / "results" / "judged" / "annotations.json", [{"instruction": "no log"}])
    write(tmp_path / "results" / "bench" / "results_of_mine.json", {"results": "none of lm-eval's"})
    monkeypatch.chdir(tmp_path)
    assert prefzoo(monkeypatch, "leaderboard") == 0
    assert "Measured by other tools: logs (base: a)" in capsys.readouterr().out
    assert prefzoo(monkeypatch, "leaderboard", "--json") == 0
    (board,) = json.loads(capsys.readouterr().out)
    assert board["folder"] == "logs" and {row["variant"] for row in board["rows"]} == {"base", "b"}
    assert prefzoo(monkeypatch, "leaderboard", "--write") == 0
    text = (tmp_path / "results" / "README.md").read_text()
    assert "### Measured by other tools: logs" in text and "| b |" in text
    assert prefzoo(monkeypatch, "leaderboard", "--check") == 0
    write(tmp_path / "results" / "logs" / "c.json", {**log("c", ["C"] * 40), "status": "error"})
    assert prefzoo(monkeypatch, "leaderboard") == 2
    assert "its status is 'error'; finish it by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        ({"match": {"value": float("nan")}}, "sample 0: the score 'nan' is not a number"),
        ({"match": {"value": float("inf")}}, "sample 0: the score 'inf' is not a number"),
        ({"match": {"value": "nan"}}, "sample 0: the score 'nan' is not a number"),
        ("C", "sample 0: its scores are not as Inspect writes them; give a JSON log of Inspect"),
        ({"match": "C"}, "sample 0: its scores are not as Inspect writes them"),
    ],
)
def test_scores_of_another_form(tmp_path: Path, scores: Any, says: str) -> None:
    content = log("m", ["C", "I"])
    content["samples"][0]["scores"] = scores
    with pytest.raises(UserError) as told:
        read_logs([write(tmp_path / "a.json", content)])
    assert says in told.value.lines[0]


def test_folders_are_compared_and_samples_without_a_score_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "logs" / "a.json", log("a", ["C", "I"] * 20))
    lacking = log("b", ["C", "C"] * 20)
    lacking["samples"][3]["scores"] = {}
    write(tmp_path / "logs" / "b.json", lacking)
    write(tmp_path / "logs" / "logs.json", {"a.eval": {"version": 2}})  # a listing of Inspect's
    monkeypatch.chdir(tmp_path)
    assert prefzoo(monkeypatch, "compare", "logs") == 0
    out = capsys.readouterr().out
    assert "1 of 40 samples of arith have no score for b; left out." in out and "p < 0.001" in " ".join(out.split())
    assert "No variant" not in out
    assert prefzoo(monkeypatch, "eval", "--inspect-logs", "logs", "--out", "out") == 0
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.resolved.yaml").write_text("")
    assert prefzoo(monkeypatch, "compare", "run", "logs") == 2
    assert "run: holds no logs of Inspect or results of lm-eval; compare runs in another" in capsys.readouterr().err


def test_the_leaderboard_puts_folders_of_one_model_each_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for model in ("a", "b"):
        write(tmp_path / "lm" / model / "log.json", log(model, ["C", "I"] * 20))
    monkeypatch.chdir(tmp_path)
    assert prefzoo(monkeypatch, "leaderboard", "lm", "--json") == 0
    (board,) = json.loads(capsys.readouterr().out)
    assert board["folder"] == "lm" and {row["variant"] for row in board["rows"]} == {"base", "b"}
    write(tmp_path / "lm" / "c.eval", "PK")
    assert prefzoo(monkeypatch, "leaderboard", "lm") == 2
    assert "c.eval: is Inspect's binary log" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("gone.json", None, "gone.json: no such file or folder; give a run's folder, a variant's in one, a results_"),
        ("other.json", "[]", "other.json: neither a log of Inspect nor a result file of lm-eval; give a run's folder"),
        ("other.json", "{}", "other.json: neither a log of Inspect nor a result file of lm-eval; give a run's folder"),
        ("text.json", "{", "text.json: is not JSON (Expecting property name enclosed in double quotes: line 1 column"),
    ],
)
def test_a_file_of_no_known_kind_is_told_all_that_is_read(
    name: str, content: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_text(content)
    assert prefzoo(monkeypatch, "compare", name) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "a results_*.json of lm-eval, a log of Inspect, or a folder that holds some (`prefzoo eval --annota" in err
