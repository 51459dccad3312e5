"""The Python API: its names, how light it is, losses as functions, a run as a call, and the example script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from pydoc import plaintext, render_doc
from typing import Any

import pytest
import torch

import prefzoo
from prefzoo.evals.boards import comparison

ROOT = Path(__file__).parents[2]


def batch(chosen: float = -10.0, rejected: float = -20.0) -> prefzoo.LogProbs:
    lengths = torch.tensor([5, 5])
    return prefzoo.LogProbs(torch.full((2,), chosen), torch.full((2,), rejected), lengths, lengths)


def test_the_names_are_pinned_and_have_docstrings() -> None:
    assert prefzoo.__all__ == ["Answers", "LogProbs", "UserError", "compare", "loss", "run"]
    for name in prefzoo.__all__:
        assert getattr(prefzoo, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'losss'"):
        prefzoo.losss  # noqa: B018


def test_help_says_what_each_function_takes_and_returns() -> None:
    for name, returns in (("run", "RunFiles"), ("loss", "LossFunction"), ("compare", "RunComparison")):
        assert getattr(prefzoo, name).__annotations__["return"] == returns
        text = render_doc(getattr(prefzoo, name), renderer=plaintext)
        assert f"-> '{returns}'" in text or f"-> {returns}" in text
        assert "Args:" in text and "Returns:" in text and "Raises:" in text


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'pandas', 'transformers', 'evals', 'rich', 'click', 'pydantic'}"
    code = f"import prefzoo, sys; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_loss_is_a_function_of_log_probs() -> None:
    policy, reference = batch(-10.0, -20.0), batch(-12.0, -15.0)  # h = 10 - 3 = 7
    dpo = prefzoo.loss("dpo", beta=0.1)
    assert dpo(policy, reference).tolist() == pytest.approx([torch.log1p(torch.exp(torch.tensor(-0.7))).item()] * 2)
    assert "log" in str(dpo.__doc__) and dpo.__name__ == "dpo"
    both = prefzoo.loss("dpo + 0.2*sft", dpo={"beta": 0.1})(policy, reference)
    assert both.tolist() == pytest.approx((dpo(policy, reference) + 0.2 * prefzoo.loss("sft")(policy)).tolist())
    with pytest.raises(ValueError, match="dpo compares with a reference"):
        dpo(policy)


@pytest.mark.parametrize(
    ("name", "params", "says"),
    [
        ("dpoo", {}, "did you mean 'dpo'"),
        ("dpo", {"beta": -1.0}, r"loss dpo: beta: must be greater than 0 \(is -1.0\); its default is 0.1"),
        ("dpo", {"betta": 0.1}, "loss dpo: betta: no such parameter of dpo, which has beta; did you mean 'beta'"),
    ],
)
def test_a_wrong_loss_is_one_line(name: str, params: dict[str, Any], says: str) -> None:
    with pytest.raises(prefzoo.UserError, match=says):
        prefzoo.loss(name, **params)


def test_a_function_in_place_of_a_name_is_answered_with_a_template() -> None:
    with pytest.raises(prefzoo.UserError, match=r"takes a loss's name(?s:.*)\n  def mine\(policy, reference"):

        @prefzoo.loss  # type: ignore[arg-type]
        def mine(policy: prefzoo.LogProbs) -> torch.Tensor:
            return policy.margin


def test_compare_forwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "compare", lambda *given, by_seed: (*given, by_seed))
    result = prefzoo.compare("results/a", Path("b"), baseline="dpo", metrics=["words"])
    assert result == (
        [Path("results/a"), Path("b")], "dpo", ["words"], None, False, None, False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_is_a_call(run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    before = sorted(p.name for p in run_folder.iterdir())
    fields = {
        "name": "called",
        "model": "model",
        "data": {"train": "train.jsonl"},
        "variants": {"simpo": {"beta": 2.5}},
    }
    trained = prefzoo.run(fields, overrides={"train.steps": 2, "train.precision": "fp32"}, results="out", quiet=True)
    assert len(trained.variants["simpo"].steps) == 2 and trained.recipe["variants"]["simpo"]["beta"] == 2.5
    assert "".join(capsys.readouterr()) == ""
    assert sorted(p.name for p in run_folder.iterdir()) == sorted([*before, "cache", "out"])  # no recipe is left behind
    with pytest.raises(prefzoo.UserError, match="no such file: .*absent.jsonl|absent.jsonl"):
        prefzoo.run({**fields, "data": {"train": "absent.jsonl"}})


def run_example(folder: Path, *words: str) -> str:
    env = {**os.environ, "PREFZOO_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "from_python.py"), *words], cwd=folder, env=env, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_example_runs(run_folder: Path) -> None:
    words = ["--model", "model", "--train", "train.jsonl", "--eval", "test.jsonl", "--steps", "2"]
    shown = run_example(run_folder, *words)
    for part in ("dpo: [", "slope in the chosen", "simpo: ", "pairs/s, 2 steps", "variant"):
        assert part in shown


@pytest.mark.slow
def test_the_example_runs_with_its_model_and_pairs(tmp_path: Path) -> None:
    rows = (ROOT / "prefzoo" / "data" / "packaged" / "instruct_eval.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "few.jsonl").write_text("\n".join(rows[:4]), encoding="utf-8")
    shown = run_example(tmp_path, "--eval", "few.jsonl", "--steps", "2")
    for name in ("dpo", "ipo", "simpo"):
        assert f"{name}: " in shown
    assert shown.count("pairs/s, 2 steps") == 3
    for name in ("dpo", "ipo"):
        log = tmp_path / "results" / "from-python" / name / "metrics.jsonl"
        first = json.loads(log.read_text().splitlines()[0])
        assert abs(first["rewards/margins"]) < 0.1 and first["rewards/accuracies"] == pytest.approx(0.5, abs=0.5)
