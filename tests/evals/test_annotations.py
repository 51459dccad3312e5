"""Published annotation files: the same numbers as alpaca-eval, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from called import prefzoo

from prefzoo.errors import UserError
from prefzoo.evals.boards.annotated import notes
from prefzoo.evals.judges.alpaca_code import alpaca_eval_imported
from prefzoo.evals.judges.annotations import Annotations, check_aligned, read, win_rates


def rows(model: str, preference: list[Any], base: str = "base") -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"task {i}", "output_1": "x" * 10, "output_2": "y" * (5 + i % 7), "generator_1": base,
            "generator_2": model, "annotator": "judge", "preference": p,
        }
        for i, p in enumerate(preference)
    ]  # fmt: skip


def annotations(preference: list[Any]) -> Annotations:
    return Annotations("m", "base", "judge", pd.DataFrame(rows("m", preference)))


def test_worked_by_hand() -> None:
    rates = win_rates(annotations([2, 1, 1.5, 0, 1.9, None, -1]))
    # kept: 1, 0, .5, .5, .9 of 5 = 58 %; discrete: win, loss, tie, tie, win = 60 %
    assert rates["win_rate"] == pytest.approx(58) and rates["discrete_win_rate"] == pytest.approx(60)
    assert (rates["n_wins"], rates["n_wins_base"], rates["n_draws"]) == (2, 1, 2)
    assert (rates["n_total"], rates["n_missing"], rates["avg_length"]) == (5, 2, 8)
    spread = np.array([1, 0, 0.5, 0.5, 0.9])
    assert rates["standard_error"] == pytest.approx(100 * spread.std(ddof=1) / math.sqrt(5))


@pytest.mark.parametrize("seed", range(5))
def test_equal_to_alpaca_evals_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    odd = [0, 1.5, 1, 2, None, -1, 0.4, 2.3, 2.6, 1.4999, 1.5001]
    preference = [*rng.uniform(1, 2, 200).tolist(), *rng.choice(np.array(odd, dtype=object), 60).tolist()]
    ours = win_rates(annotations(preference))
    with alpaca_eval_imported():
        from alpaca_eval.metrics import get_winrate

        theirs = get_winrate(annotations(preference).rows)
    assert {k: ours[k] for k in theirs} == pytest.approx({k: float(v) for k, v in theirs.items()}, abs=1e-9)


def test_files_and_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "judge").mkdir(parents=True)
        (tmp_path / name / "judge" / "annotations.json").write_text(json.dumps(rows(name, [1, 2, None])))
    (tmp_path / "more.json").write_text(json.dumps(rows("c", [1, 2, 1]) + rows("d", [2, 2, 2])))
    assert [a.model for a in read([tmp_path])] == ["a", "b"]
    read_back = read([tmp_path / "a", tmp_path / "more.json"])
    assert [(a.model, a.baseline, a.annotator, len(a.rows)) for a in read_back] == [
        (m, "base", "judge", 3) for m in ("a", "c", "d")
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "x.json: is not JSON (JSONDecodeError"),
        ("[]", "x.json: must be a list of rows, each with instruction, output_1"),
        ('[{"instruction": "a", "output_1": "b"}]', "rows have no output_2, generator_1, generator_2, preference;"),
        (json.dumps(rows("m", [1], "b1") + rows("m", [1], "b2")), "x.json: 2 baselines (b1, b2); keep one in a file"),
        (json.dumps([*rows("m", [1]), {**rows("m", [1])[0], "output_2": None}]), "row 2: output_2 is null; give its"),
        (json.dumps(rows("m", [1, 1]) * 2), "m: 4 rows, while m has 2 instructions: 2 repeated, like 'task 0'; keep"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read([tmp_path / "x.json"])
    assert says in str(caught.value) and len(caught.value.lines) == 1


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no annotations.json in this folder or below; name a file"):
        read([tmp_path])
    with pytest.raises(UserError, match="none.json: no such file or folder; name an annotations.json"):
        read([tmp_path / "none.json"])
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(rows("m", [1])))
    with pytest.raises(UserError, match="m: annotated in 2 places; keep one"):
        read([tmp_path])


def test_misaligned_outputs_are_refused_with_both_counts() -> None:
    tasks = [f"task {i}" for i in range(40)]
    check_aligned({"a": tasks, "b": tasks[::-1], "c": tasks[:38]})  # any order; 5% may be missing
    with pytest.raises(UserError) as caught:
        check_aligned({"a": tasks, "b": tasks[:25], "c": [*tasks[:39], "other"], "d": [*tasks, tasks[3]]})
    assert caught.value.lines == (
        "b: 25 rows, while a has 40 instructions: 15 missing, like 'task 25'; annotate them first",
        "c: 40 rows, while a has 40 instructions: 1 unknown, like 'other'; compare over one set",
        "d: 41 rows, while a has 40 instructions: 1 repeated, like 'task 3'; keep one of each",
    )


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / f"{name}.json").write_text(json.dumps(rows(name, rng.uniform(1, 2, 50).tolist())))
    (tmp_path / "lost.json").write_text(json.dumps(rows("lost", [None] * 5 + [1.0] * 45)))
    monkeypatch.chdir(tmp_path)
    assert (
        prefzoo(monkeypatch, "eval", "--annotations", "a.json", "b.json", "c.json", "lost.json", "--out", "o.csv") == 0
    )
    out = capsys.readouterr().out
    assert "judged by judge" in out and "from a pool of 4, length term pooled" in out
    assert "lost: 5 of 50 preferences are missing: withheld" in out
    kept = pd.read_csv("o.csv", index_col="model")
    assert kept.loc["a", "n_total"] == 50 and 0 < kept.loc["a", "length_controlled_winrate"] < 100
    assert math.isnan(kept.loc["lost", "win_rate"]) and kept.index[-1] == "lost"


def test_the_same_warning_of_many_models_is_one_line() -> None:
    warnings = [f"length control changes it by {v:+.1f} points" for v in (11, -14.6, 12, 10.5, 13, 10.1)]
    table = pd.DataFrame(
        {
            "warnings": [*warnings[:5], f"the same answer to 9 of 10 prompts; {warnings[5]}", ""],
            "annotator": "judge", "difficulty": "the pool's",
        },
        index=[*"abcdef", "sound"],
    )  # fmt: skip
    *_, first, second = notes(table)
    assert first == (
        "6 models: length control changes it by … points: b (-14.6), e (+13.0), c (+12.0), a (+11.0), d (+10.5) "
        "and 1 more (column `warnings` of --out)"
    )
    assert second == "f: the same answer to 9 of 10 prompts" and len(notes(table)) == 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "eval: nothing to evaluate; give runs or checkpoints and a --suite, or --annotations"),
        (["--annotations", "a.json", "--out", "o.txt"], "--out o.txt: unknown kind of file '.txt'; use .csv"),
        (["--annotations", "a.json", "--difficulties", "a.csv"], "a.csv: cannot be read"),
        (["--annotations", "a.json", "--difficulties", "d.csv", "--order", "d.csv"], "d.csv: --order needs a JSON"),
        (
            ["--annotations", "a.json", "--difficulties", "d.csv"],
            "d.csv: refers to instructions up to number 7, but there are 3",
        ),
        (["--annotations", "a.json", "--difficulties", "e.csv"], "e.csv: no column instruction_difficulty or diffic"),
        (["--annotations", "a.json", "--difficulties", "f.csv"], "f.csv: no column instruction or index; say which"),
        (["--annotations", "a.json", "--difficulties", "g.csv"], "difficulties: 1 given, and 2 of 3 instructions have"),
        (["--annotations", "a.json", "--difficulties", "h.csv"], "instruction 'task 0' has 2 difficulties; keep one"),
        (["--annotations", "a.json", "--gamed", "d.csv"], "d.csv: no column model, preference, std_delta_len; gamed"),
    ],
)
def test_mistakes(
    tmp_path: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(rows("a", [1, 2, 1])))
    (tmp_path / "d.csv").write_text("index,difficulty\n7,0.5\n")
    (tmp_path / "e.csv").write_text("index,x\n0,0.5\n")
    (tmp_path / "f.csv").write_text("difficulty\n0.5\n")
    (tmp_path / "g.csv").write_text("instruction,difficulty\ntask 0,0.5\n")
    (tmp_path / "h.csv").write_text("instruction,difficulty\ntask 0,0.5\ntask 0,0.6\n")
    monkeypatch.chdir(tmp_path)
    assert prefzoo(monkeypatch, "eval", *words) == 2
    err = capsys.readouterr().err
    assert says in err and "Traceback" not in err
