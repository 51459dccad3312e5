"""What a run costs in joules and dollars: measured or absent, never noise; on boards, pages and in the estimate."""

from __future__ import annotations

import json
import logging
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from called import prefzoo

from prefzoo.errors import UserError
from prefzoo.evals.boards.costs import with_price
from prefzoo.evals.boards.leaderboard import build
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.report.facts import facts
from prefzoo.experiment.plan_types import Disk, RunEstimate
from prefzoo.recipe.load import load
from prefzoo.runtime import energy
from prefzoo.runtime.energy import Power, measured_power

MINIMAL = "name: tiny\nmodel: some/model\ndata: {train: pairs.jsonl}\nvariants: {dpo: }\n"


class Monitor:
    """A stand-in for ZeusMonitor on a machine with a GPU and a processor with counters."""

    gpu: dict[int, float] = {0: 100.0}
    cpu: dict[int, float] | None = {0: 20.0}
    fault: Exception | None = None

    def __init__(self) -> None:
        logging.getLogger("zeus").warning("what nobody asked for")
        if self.fault:
            raise self.fault

    def begin_window(self, key: str) -> None:
        pass

    def end_window(self, key: str) -> Any:
        return SimpleNamespace(gpu_energy=self.gpu, cpu_energy=self.cpu, dram_energy=None)


@pytest.fixture
def zeus(monkeypatch: pytest.MonkeyPatch) -> type[Monitor]:
    module = ModuleType("zeus.monitor")

    class Own(Monitor):
        pass

    module.ZeusMonitor = Own  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zeus", ModuleType("zeus"))
    monkeypatch.setitem(sys.modules, "zeus.monitor", module)
    monkeypatch.setattr(energy, "find_spec", lambda name: ModuleSpec(name, None))
    ticks = iter([10.0, 14.0])
    monkeypatch.setattr(energy.time, "monotonic", lambda: next(ticks))
    return Own


def watts() -> float | None:
    with measured_power() as power:
        assert power.watts is None and power.joules(3.0) == {}
    return power.watts


def test_the_counters_of_all_devices_are_added(zeus: type[Monitor], capsys: pytest.CaptureFixture[str]) -> None:
    with measured_power() as power:
        pass
    assert power.watts == 30.0 and power.joules(8.0) == {"joules": 240.0}  # 120 J in 4 s
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("gpu", "cpu"), [({}, None), ({0: 0.0}, None), ({}, {})])
def test_without_counters_there_is_no_number(zeus: type[Monitor], gpu: dict[int, float], cpu: Any) -> None:
    zeus.gpu, zeus.cpu = gpu, cpu
    assert watts() is None


def test_a_driver_that_fails_costs_the_number_alone(zeus: type[Monitor], capsys: pytest.CaptureFixture[str]) -> None:
    zeus.fault = RuntimeError("no permission")
    assert watts() is None and capsys.readouterr() == ("", "")


def test_without_the_package_there_is_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    assert watts() is None and capsys.readouterr() == ("", "")


def test_dollars_follow_from_the_price() -> None:
    assert with_price({"seconds": 1800.0}, 12.0) == {"seconds": 1800.0, "dollars": 6.0}
    assert with_price({"seconds": 1800.0}, None) == {"seconds": 1800.0} and with_price({}, 12.0) == {}


def model() -> Measured:
    return Measured([1.0, -1.0, 2.0], [], [], [], [], [], {})


def test_the_board_has_a_column_for_what_is_known() -> None:
    models = {"base": model(), "dpo": model(), "ipo": model()}
    costs = {"dpo": {"seconds": 90.0, "joules": 2000.0, "dollars": 0.3}, "ipo": {"seconds": 80.0, "dollars": 0.2}}
    board = build(models, costs)
    wide = board.wide().set_index("variant")
    assert wide.loc["dpo", ["train_seconds", "train_joules", "train_dollars"]].tolist() == ["90", "2000", "0.300"]
    assert wide.loc["ipo", "train_joules"] == "-" and wide.loc["base", "train_dollars"] == "-"
    plain = build(models, {"dpo": {"seconds": 90.0}, "ipo": {"seconds": 80.0}}).wide()
    assert "train_seconds" in plain and not {"train_joules", "train_dollars"} & {*plain.columns}


DISK = Disk({"all": 0.0}, "all", 0.0, 1e30)


def test_the_estimate_names_what_the_time_costs() -> None:
    known = RunEstimate({"training": 7200.0}, {}, [], [], [], DISK, {}, price=12.0, watts=500.0)
    assert known.lines()[-2] == "cost: about $24.00, at $12 an hour; about 1,000.0 Wh, at 500 W"
    assert (known.dollars, known.joules) == (24.0, 3.6e6)
    unknown = RunEstimate({"training": 7200.0}, {}, [], [], [], DISK, {})
    assert not any(line.startswith("cost") for line in unknown.lines()) and unknown.dollars is unknown.joules is None


def test_the_page_names_both(tmp_path: Path) -> None:
    result = SimpleNamespace(costs={"seconds": 1800.0, "joules": 2500.0}, environment={}, seed=0, train={}, metrics={})
    run = SimpleNamespace(
        recipe={"model": "m", "data": {"train": "t"}, "price_per_hour": 4}, folder=tmp_path,
        variants={"dpo": SimpleNamespace(result=result, folder=tmp_path, steps=[])},
    )  # fmt: skip
    about = facts(run, "3 pairs", "")  # type: ignore[arg-type]
    assert about["Energy of training"] == "2,500 J" and about["Cost of training"] == "$2.000 at $4 an hour"


@pytest.mark.parametrize(
    ("price", "says"),
    [
        ("-1", "price_per_hour: must be greater than 0 (is -1)"),
        ("0", "price_per_hour: must be greater than 0 (is 0)"),
        ("cheap", "price_per_hour: must be a number (is 'cheap')"),
        (".inf", "price_per_hour: must be a finite number (is inf)"),
    ],
)
def test_a_wrong_price_is_one_line(tmp_path: Path, price: str, says: str) -> None:
    (tmp_path / "r.yaml").write_text(MINIMAL + f"price_per_hour: {price}\n")
    with pytest.raises(UserError) as caught:
        load(tmp_path / "r.yaml")
    (line,) = caught.value.lines
    assert says in line
    (tmp_path / "r.yaml").write_text(MINIMAL + "price_per_hour: 12\n")
    assert load(tmp_path / "r.yaml").price_per_hour == 12.0


@pytest.mark.slow
def test_a_run_records_both(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fifty(Power):
        @property
        def watts(self) -> float | None:  # type: ignore[override]
            return 50.0

        @watts.setter
        def watts(self, value: float | None) -> None:
            pass

    monkeypatch.setattr(energy, "Power", Fifty)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    words = ("r.yaml", "--set", "price_per_hour=3600", "--set", "variants={dpo: }", "--set", "train.steps=2")
    assert prefzoo(monkeypatch, "run", *words) == 0
    folder = run_folder / "results" / "tiny"
    costs = json.loads((folder / "dpo" / "result.json").read_text())["costs"]
    assert costs["joules"] == pytest.approx(50 * costs["seconds"])
    long = pd.read_csv(folder / "leaderboard.csv")
    row = long[long.metric == "train_dollars"].iloc[0]
    assert row.value == pytest.approx(costs["seconds"]) and "train_joules" in set(long.metric)
    assert "Cost of training" in (folder / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "200")
    assert prefzoo(monkeypatch, "compare", str(folder)) == 0
    assert "cost, $" in capsys.readouterr().out
    assert prefzoo(monkeypatch, "check", *words, "--set", "train.steps=3") == 0
    assert "at $3600 an hour" in capsys.readouterr().out
