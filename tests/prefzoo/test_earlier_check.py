"""A check whose inputs have not changed is shown again without torch; any change leads to a new one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo

from prefzoo.experiment import plan as module
from prefzoo.experiment.plan_types import Disk, Plan, RunEstimate, VariantPlan
from prefzoo.training.memory_need import MemoryNeed

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl}
variants: {dpo: }
evals: {prompts: "instruct:eval:2", judge: {kind: server, url: "http://localhost:1/v1", model: m, key: MINE_TOO}}
"""
WORDS = ("check", "r.yaml")
AGAIN = "nothing has changed since the last check"
Check = Callable[..., bool]


def plan(**changes: Any) -> Plan:
    memory = MemoryNeed(2.0**30, 2.0**31, 2.0**40, on_gpu=False, scoring=False)
    variant = VariantPlan("dpo", 3, 2, 80.0, 1.5, 1, ("a grid",), memory)
    disk = Disk({"all": 8e9, "none": 0.0}, "all", 2e9, 1e30)
    estimate = RunEstimate({"training": 99.0}, {"training": "1 training"}, [], [], ["from earlier runs"], disk, {}, 3.0)
    values = {"name": "tiny", "model": "model", "parameters": 5, "rows": 4, "unit": "pairs", "schema": "pairs"}
    more = {"lost": {"too long": 1}, "variants": {"dpo": variant}, "seconds": 1.5, "trials": 1, "seeds": 1}
    return Plan(**values, **more, early_stopping=False, sweep=False, estimate=estimate, notes=("odd",), **changes)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "r.yaml").write_text(RECIPE)
    (tmp_path / "model").mkdir()
    for name in ("model/config.json", "train.jsonl", "ddp.yaml"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    for name in ("MINE_TOO", "SOME_TOKEN"):
        monkeypatch.setenv(name, "1")  # and restored after the test, whatever it becomes
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def checks_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Call `check`, and return whether it opened the inputs."""
    calls: list[Plan] = []
    monkeypatch.setattr(module, "plan_of", lambda *_: calls.append(plan()) or calls[-1])

    def call(*more: str) -> bool:
        before = len(calls)
        assert prefzoo(monkeypatch, *WORDS, *more) == 0
        return len(calls) > before

    return call


def test_the_same_check_shows_the_same_with_what_is_free_now(
    checks_anew: Check, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checks_anew()
    first = capsys.readouterr()
    monkeypatch.setattr("prefzoo.experiment.plan_types.free_memory", lambda: 2.0**30)
    monkeypatch.setattr("prefzoo.experiment.plan_types.free_disk", lambda folder: 1e9)
    assert not checks_anew()
    again = capsys.readouterr()
    assert AGAIN in again.err and AGAIN not in first.err
    assert "1024.0 GiB are free" in first.out and "too little" not in first.out
    assert "1.0 GiB are free; too little" in again.out
    assert "warning: odd\n" in again.out and "warning: disk: 2.0 GB are needed" in again.out
    assert "while other processes" in first.out and "while other processes" not in again.out
    kept = [line for line in first.out.splitlines() if "free" not in line and "total" not in line]
    assert kept == [line for line in again.out.splitlines() if line in kept]
    assert not checks_anew("--json")
    assert json.loads(capsys.readouterr().out)["warnings"][0] == "odd"
    assert checks_anew("--fresh") and not checks_anew()


CHANGES: dict[str, Callable[[Path], object]] = {
    "recipe": lambda place: (place / "r.yaml").write_text(f"{RECIPE}seed: 1\n"),
    "data": lambda place: (place / "train.jsonl").write_text("{}\n"),
    "model": lambda place: (place / "model" / "config.json").write_text("{ }"),
    "run": lambda place: (place / "results" / "tiny").mkdir(parents=True) or _touch(place / "results/tiny/run.json"),
    "times": lambda place: (place / "cache" / "rates").mkdir() or _touch(place / "cache/rates/rates.jsonl"),
    "key": lambda place: os.environ.update(MINE_TOO="2"),
    "token": lambda place: os.environ.update(SOME_TOKEN="2"),
    "broken cache": lambda place: [path.write_text("{") for path in (place / "cache" / "checks").iterdir()],
}


def _touch(path: Path) -> None:
    path.write_text("{}")


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_leads_to_a_new_check(change: str, place: Path, checks_anew: Check) -> None:
    assert checks_anew() and not checks_anew()
    CHANGES[change](place)
    assert checks_anew()


def test_other_options_are_other_checks_and_a_changed_profile_counts(checks_anew: Check, place: Path) -> None:
    assert checks_anew()
    assert checks_anew("--set", "seed=2")
    assert checks_anew("--results", "elsewhere")
    assert checks_anew("--launch", "ddp.yaml") and not checks_anew("--launch", "ddp.yaml")
    (place / "ddp.yaml").write_text("{ }")
    assert checks_anew("--launch", "ddp.yaml")


def test_a_check_in_which_a_plug_in_fails_is_not_cached(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "plan_of", lambda *_: plan(failing={"metric mine": "it raised"}))
    assert prefzoo(monkeypatch, *WORDS) == 3
    assert not list((place / "cache" / "checks").glob("*.json"))


@pytest.mark.slow
def test_an_unchanged_check_imports_no_torch(checks_anew: Check) -> None:
    assert checks_anew()
    code = (
        "import sys; sys.argv = ['prefzoo', 'check', 'r.yaml']; from prefzoo.cli import main; main(); "
        "print([name for name in ('torch', 'pandas', 'numpy', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
