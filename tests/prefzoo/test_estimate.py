"""What a run would take: works in units, their times from runs and short measurements, and the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from called import prefzoo

from prefzoo.experiment import estimate as module
from prefzoo.experiment import measurements, plan_types
from prefzoo.experiment.plan import plan_of
from prefzoo.experiment.plan_types import GENERATION, JUDGING, LOADING, PAIRS, REFERENCE, TRAINING, Disk
from prefzoo.runtime.durations import duration
from prefzoo.runtime.rates import Rates

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 2, steps: 3, learning_rate: 1e-4, precision: fp32}
variants: {dpo: , low: {loss: simpo, train: {lora: {rank: 2}}}}
evals: {prompts: "instruct:eval:2", max_new_tokens: 16, kl: 2}
"""
JUDGE = "def better(instruction, output_1, output_2):\n    return 1\n"


@pytest.fixture
def place(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    (run_folder / "r.yaml").write_text(RECIPE)
    return run_folder


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.04, "0 s"), (0.36, "0.4 s"), (45.4, "45 s"), (59.7, "1 min"), (200, "3 min 20 s"),
        (540, "9 min"), (1500, "25 min"), (3595, "1 h"), (12_000, "3 h 20 min"), (7200, "2 h"),
        (291_459, "3 d 9 h"), (172_800, "2 d"),
    ],
)  # fmt: skip
def test_durations_are_written_as_people_write_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_a_run_took_counts_more_than_a_measurement_and_the_newest_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path))
    rates = Rates("weights")
    assert rates.get("training") is None
    rates.record("training", 8.0, 4, "trial")
    assert rates.get("training") == (2.0, "trial")
    rates.record("training", 6.0, 2)
    rates.record("training", 20.0, 2, "trial")
    rates.record("training", 8.0, 0)
    assert Rates("weights").get("training") == (3.0, "run")
    assert Rates("other weights").get("training") is None
    with pytest.raises(ValueError, match="it failed"), rates.timed("training", 1):
        raise ValueError("it failed")
    assert rates.get("training") == (3.0, "run")


def test_a_small_run_is_not_measured_and_has_a_row_for_each_part(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measurements.Measurement, "take", lambda *_: pytest.fail("it was measured"))
    monkeypatch.setattr(plan_types, "FEW", 1e9)
    assert prefzoo(monkeypatch, "check", "r.yaml") == 0
    assert "time here: a few seconds (roughly, from the size of the model)" in capsys.readouterr().out
    monkeypatch.setattr(plan_types, "FEW", 0.0)
    assert prefzoo(monkeypatch, "check", "r.yaml") == 0
    table = capsys.readouterr().out.partition("time here")[2]
    for row in (LOADING, REFERENCE, TRAINING, PAIRS, GENERATION, "total", "disk:"):
        assert row in table, row
    assert "2 trainings" in table
    assert "2 prompts of 3 models, at most 16 tokens" in table
    assert JUDGING not in table  # the verifier takes no time
    assert prefzoo(monkeypatch, "check", "r.yaml", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["time"]["total"] == pytest.approx(sum(v for k, v in plan["time"].items() if k != "total"))
    assert plan["disk"]["stays"]["best"] < plan["disk"]["stays"]["all"] < plan["disk"]["peak"]


@pytest.mark.slow
def test_a_larger_run_is_measured_once_and_then_known(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORTH", 0.0)
    (place / "mine.py").write_text(JUDGE)
    overrides = ["evals.judge='mine.py:better'"]
    first = plan_of(Path("r.yaml"), overrides).estimate
    assert first.known_from == ["measured in a few steps"]
    assert not first.rough
    assert not first.unknown
    assert all(first.seconds[row] > 0 for row in (REFERENCE, TRAINING, PAIRS, GENERATION, JUDGING))
    monkeypatch.setattr(measurements, "train", lambda *_: pytest.fail("it was measured again"))
    monkeypatch.setattr(measurements, "generate", lambda *_, **__: pytest.fail("it was measured again"))
    again = plan_of(Path("r.yaml"), overrides).estimate
    assert {row: again.seconds[row] for row in (TRAINING, GENERATION)} == {
        row: first.seconds[row] for row in (TRAINING, GENERATION)
    }


@pytest.mark.slow
@pytest.mark.parametrize("gpu", [False, True])
def test_on_a_gpu_only_a_longer_run_is_measured(gpu: bool, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[object] = []
    monkeypatch.setattr(module, "WORTH", 1.0)
    monkeypatch.setattr(module, "has_gpu", lambda: gpu)
    monkeypatch.setattr(module, "speed", lambda **_: 1e12)
    monkeypatch.setattr(measurements.Measurement, "take", lambda _, works: measured.append(works))
    roughly = plan_of(Path("r.yaml"), []).estimate.total
    assert 1.0 < roughly < module.ON_GPU and bool(measured) is not gpu


@pytest.mark.slow
def test_what_a_measurement_cannot_do_is_computed_roughly(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORTH", 0.0)

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(measurements, "train", full)
    estimate = plan_of(Path("r.yaml"), []).estimate
    assert estimate.rough == [TRAINING]
    assert estimate.seconds[TRAINING] > 0


@pytest.mark.slow
def test_a_run_prints_the_table_before_it_trains_and_later_knows_what_it_took(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "r.yaml").write_text(RECIPE.replace("steps: 3", "steps: 6").replace(", low:", "}\n#"))
    assert prefzoo(monkeypatch, "run", "r.yaml") == 0
    out = capsys.readouterr().out
    assert out.index("time here: ") < out.index("training dpo")
    known = plan_of(Path("r.yaml"), ["name=other"]).estimate
    assert known.known_from == ["from earlier runs"]
    finished = plan_of(Path("r.yaml"), []).estimate
    assert finished.lines()[0] == "time: nothing is left to train or to measure"


def test_the_disk_offers_what_keep_would_leave_and_warns_where_it_is_too_small() -> None:
    stays = {"all": 2.6e9, "adapters": 0.0, "best": 0.52e9, "none": 0.0}
    disk = Disk(stays, "all", 4.2e9, 38e9)
    assert disk.lines() == [
        "disk: 2.6 GB of weights stay, 4.2 GB at most while it runs; 38 GB are free",
        "  keep: best leaves 0.5 GB, keep: none leaves nothing",
    ]
    assert disk.warnings() == []
    assert "disk: 4.2 GB are needed at most and 3.0 GB are free" in Disk(stays, "all", 4.2e9, 3e9).warnings()[0]
    assert len(Disk({**stays, "all": 5e6}, "all", 1e7, 38e9).lines()) == 1
