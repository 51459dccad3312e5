"""A whole run under a judge of the user's own: its verdicts rank, its files are AlpacaEval's."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from called import prefzoo

from prefzoo.errors import UserError
from prefzoo.evals.boards.run_files import TEXTS
from prefzoo.evals.judges.alpaca_code import alpaca_eval_imported
from prefzoo.evals.judges.annotations import read, win_rates
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow, Verdict
from prefzoo.evals.stats.length_control import length_controlled
from prefzoo.experiment.stages.judge import verdicts_of

RECIPE = """\
name: judged
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 2, learning_rate: 1e-2, precision: fp32}
variants:
  dpo:
  simpo:
evals: {prompts: prompts.jsonl, judge: "own.py:longer", max_new_tokens: 6}
"""
OWN = """
def longer(instruction, output_1, output_2):
    return 1.5 + 0.5 * ((len(output_2) > len(output_1)) - (len(output_2) < len(output_1)))
def moody(instruction, output_1, output_2):
    raise TimeoutError("no time")
"""


@pytest.fixture
def place(in_run_folder: Path) -> Path:
    prompts = [{"prompt": f"Tell {i}"} for i in range(6)]
    (in_run_folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    (in_run_folder / "own.py").write_text(OWN)
    (in_run_folder / "r.yaml").write_text(RECIPE)
    return in_run_folder


@pytest.mark.slow
def test_the_judge_ranks_and_alpaca_eval_agrees(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "prefzoo.runtime.run_folders._commit", lambda: "abc1234"
    )  # the tests may run outside a checkout
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    folder = place / "results" / "judged"
    board = pd.read_csv(folder / "leaderboard.csv", dtype=TEXTS)  # a hash of digits alone is no number
    mine = board[(board.variant == "simpo") & (board.metric == "win_rate")].iloc[0]
    assert mine.judge.startswith("function:own.py:longer@") and mine.n == 6
    assert (mine.loss, mine.seed, mine.baseline, mine.missing) == ("simpo", 0, "base", 0)
    assert mine.suite.startswith("prompts.jsonl@") and mine.commit == "abc1234"
    lc = board[board.metric == "win_rate_lc"].set_index("variant")
    pool = length_controlled(read([folder / name / "annotations.json" for name in ("dpo", "simpo")]))
    assert lc.value.to_dict() == pytest.approx({name: pool[name].value / 100 for name in ("dpo", "simpo")}, abs=1e-6)
    assert lc.note.str.startswith("difficulty from a pool of 2").all() and set(lc.judge) == {mine.judge}
    assert pd.read_parquet(folder / "leaderboard.parquet").columns.tolist() == board.columns.tolist()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "No round robin in this run" in page and "wrote no audit" not in page
    assert json.loads((folder / "data_audit.json").read_text())["eval"]["kept"] == 8
    assert not (folder / "round_robin.json").exists()  # a judge of pairs is not asked unasked
    rows = json.loads((folder / "simpo" / "annotations.json").read_text())
    with alpaca_eval_imported():
        from alpaca_eval.metrics import get_winrate

        theirs = get_winrate(rows)
    assert theirs["win_rate"] == pytest.approx(100 * mine.value) and theirs["n_total"] == 6
    assert all(row["annotator"] == mine.judge and row["generator_1"] == "base" for row in rows)
    (read_back,) = read([folder / "simpo" / "annotations.json"])
    assert win_rates(read_back)["win_rate"] == pytest.approx(theirs["win_rate"])
    out = capsys.readouterr().out
    assert f"to look at it: {Path('results') / 'judged' / 'report.html'}" in out
    assert "a win rate against the base" in out or "No variant beats the base" in out


@pytest.mark.slow
def test_a_judge_that_never_answers_gives_no_number(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "evals.judge=own.py:moody") == 3
    out = capsys.readouterr().out
    assert re.search(r"verdicts are missing \(\d x own.py:\d+: TimeoutError: no time\); more than 5%: the number", out)
    board = pd.read_csv(place / "results" / "judged" / "leaderboard.csv", dtype=TEXTS)
    lost = board[board.metric == "win_rate"].iloc[0]
    assert lost.missing > 0 and lost.note == f"withheld: {lost.missing} of 6 missing"
    assert math.isnan(board[board.metric == "win_rate"].iloc[0].value)
    rows = json.loads((place / "results" / "judged" / "dpo" / "annotations.json").read_text())
    assert {row["missing"].rpartition(".py:")[2].partition(": ")[2] for row in rows} <= {"", "TimeoutError: no time"}


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ("evals.judge=verifier", "evals.judge: verifier scores only prompts with checks, and 6 of 6 have none (the fi"),
        ("evals.judge=own.py:nobody", "evals.judge: own.py has no function 'nobody'"),
        ("evals.prompts=twice.jsonl", "evals.prompts: 1 of 3 prompts are repeated; keep one of each"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(
    place: Path, sets: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "twice.jsonl").write_text("".join(json.dumps({"prompt": p}) + "\n" for p in "aba"))
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", sets) == 2
    captured = capsys.readouterr()
    assert says in captured.err and "training dpo" not in captured.out


def test_a_judge_that_falls_away_after_training_costs_only_its_own_number() -> None:
    class Down:
        def compare(self, asked: list[Comparison], report: object = None) -> list[Verdict]:
            raise UserError("judge x: no connection; start the server")

    two = [Comparison(PromptRow("1", "p"), Answer("a", True, 1), Answer("b", True, 1))] * 2
    outcomes = verdicts_of(Down(), two, lambda done, total, note: None)  # type: ignore[arg-type]
    assert [v.missing for v in outcomes] == ["judge x: no connection; start the server"] * 2
