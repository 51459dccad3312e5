"""One pipeline for every recipe and every executor: the same kinds of files, side by side where that is possible."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from called import pairs_text, prefzoo

from prefzoo.errors import UserError
from prefzoo.evals.boards.run_files import SWEEP, read_run
from prefzoo.experiment import pipeline
from prefzoo.experiment.executors import Resources
from prefzoo.experiment.groups import train_stages
from prefzoo.experiment.request import Request
from prefzoo.experiment.stages.stage import Done, Failed, Skipped

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 4, learning_rate: 1e-3, precision: fp32}
sweep: {validation: 0.3}
variants:
  dpo:
  simpo:
evals: {prompts: "instruct:eval:2", max_new_tokens: 4, kl: 2, frontier: 2}
"""
SEEDS = ("--set", "seeds=[0, 1]")
GRID = ("--set", "variants={dpo: {beta: [0.05, 0.5]}, simpo: {beta: [2.0, 5.0]}}")
RUN = {
    "data_audit.json", "data_card.json", "recipe.resolved.yaml", "leaderboard.csv", "leaderboard.md",
    "leaderboard.parquet", "report.html", "round_robin.json", "frontier.csv", "verdict.json", "wall_time.json",
}  # fmt: skip
TRIAL = {
    "result.json", "metrics.jsonl", "evals.json", "annotations.json", "model_outputs.json", "checkpoint/README.md",
    "checkpoint/model.safetensors", "measuring.json", "frontier/step-00000002.json", "frontier/step-00000004.json",
}  # fmt: skip
RESULT = {
    "variant", "loss", "params", "train", "seed", "key", "metrics", "costs", "environment", "weights", "identity",
}  # fmt: skip
COSTS = {
    "seconds", "pairs_per_second", "tokens_per_second", "peak_memory_bytes", "trained_parameters", "memory_halvings"
}  # fmt: skip


@pytest.fixture
def place(in_run_folder: Path) -> Path:
    (in_run_folder / "train.jsonl").write_text(pairs_text(range(16)))
    (in_run_folder / "test.jsonl").write_text(pairs_text(range(20, 24)))
    (in_run_folder / "r.yaml").write_text(RECIPE)
    return in_run_folder


@dataclass(frozen=True)
class Kind:
    """A kind of run: its words, how many trials it trains, and those on its board."""

    words: tuple[str, ...]
    trained: int
    ranked: int
    files: set[str] = field(default_factory=set)


KINDS = {
    "plain": Kind((), 2, 2),
    "seeds": Kind(SEEDS, 4, 4, {SWEEP}),
    "sweep": Kind(GRID, 4, 2, {SWEEP}),
}
RAY = ("--on", "ray")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "executor"),
    [(name, executor) for executor in ((), RAY) for name in KINDS],
    ids=lambda value: value if isinstance(value, str) else "ray" if value else "in order",
)
def test_every_run_leaves_the_same_kinds_of_files_with_the_same_keys(
    place: Path, name: str, executor: tuple[str, ...], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if executor:
        pytest.importorskip("ray")
        monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"CPU": 2}))
    kind, folder = KINDS[name], place / "results" / "tiny"
    assert prefzoo(monkeypatch, "run", "r.yaml", *kind.words, *executor) == 0, capsys.readouterr()
    assert {p.name for p in folder.iterdir() if p.is_file() and p.name[0] != "."} == RUN | kind.files
    assert set(json.loads((folder / "data_audit.json").read_text())) == {"train", "eval"}
    run = read_run(folder)
    trials = [n for n in run.variants if n != "base"]
    assert len(trials) == kind.ranked and len(list(folder.glob("*/result.json"))) == kind.trained
    for trial in trials:
        files = {str(p.relative_to(folder / trial)) for p in (folder / trial).rglob("*") if p.is_file()}
        missing, extra = TRIAL - files, {f for f in files - TRIAL if not f.startswith(("checkpoint/", "samples"))}
        assert not missing and extra <= {"validation.json"}, (trial, missing, extra)
        assert f"# {trial}" in (folder / trial / "checkpoint" / "README.md").read_text()
        result = json.loads((folder / trial / "result.json").read_text())
        assert set(result) == RESULT and set(result["costs"]) >= COSTS, result
    frontier = run.frontier.groupby("variant").step.apply(list).to_dict()
    assert frontier == {trial: [0, 2, 4] for trial in trials}
    assert not list(folder.glob("*/snapshots"))  # neither of those on the board nor of the others
    assert run.unfinished == []
    (folder / "report.html").unlink()  # else there would be nothing to do
    assert prefzoo(monkeypatch, "run", "r.yaml", *kind.words) == 0
    again = capsys.readouterr().out
    assert again.count("already trained with these settings; reused") == kind.trained
    assert again.count("already measured with these settings; reused") == kind.ranked + 1


@pytest.mark.slow
def test_a_grid_of_adapters_trains_side_by_side_with_the_numbers_of_one_after_another(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = ("--set", "train.lora={rank: 2}", *SEEDS)
    grid = ("--set", "variants={dpo: {beta: [0.05, 0.5]}}", *lora)
    assert prefzoo(monkeypatch, "run", "r.yaml", *grid, "--set", "train.side_by_side=on") == 0
    out = capsys.readouterr().out
    for seed in (0, 1):  # which see rows of their own
        assert f"training dpo-beta0.05-s{seed}, dpo-beta0.5-s{seed} side by side: done" in out
    off = ("--set", "train.side_by_side=off", "--results", "alone")
    assert prefzoo(monkeypatch, "run", "r.yaml", *grid, *off) == 0
    assert "side by side" not in capsys.readouterr().out
    results, alone = place / "results" / "tiny", place / "alone" / "tiny"
    for trial in (f"dpo-beta{beta}-s{seed}" for beta in ("0.05", "0.5") for seed in (0, 1)):
        one, other = (json.loads((f / trial / "result.json").read_text()) for f in (results, alone))
        assert one["costs"]["variants_together"] == 2.0 and "variants_together" not in other["costs"]
        for ours, theirs in zip(*(lines(f / trial) for f in (results, alone)), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    one, other = (json.loads((f / SWEEP).read_text()) for f in (results, alone))
    assert one["chosen"] == other["chosen"]
    steps = pd.read_csv(results / "frontier.csv").groupby("variant").step.apply(list).to_dict()
    assert steps == {trial: [0, 2, 4] for trial in one["finals"]}  # snapshots of each member


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_what_fails_is_recorded_alike_and_the_others_go_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loss that diverges in a grid and in a plain run; and a mistake that one training of several meets."""
    from prefzoo.experiment.stages import train

    wild = "{train: {learning_rate: 1e38, weight_decay: 1e38}}"
    few = ("--set", "evals={frontier: 0}", "--set", "train.steps=3")
    assert prefzoo(monkeypatch, "run", "r.yaml", "--set", f"variants={{dpo: {wild}, simpo: }}", *SEEDS, *few) == 3
    board = pd.read_csv(place / "results" / "tiny" / "leaderboard.csv")
    assert "simpo" in set(board.variant) and "dpo" not in set(board.variant)
    failure = json.loads((place / "results" / "tiny" / "dpo-s1" / "failed.json").read_text())
    assert (
        set(failure) == {"variant", "loss", "key", "step", "reason", "own"} and failure["step"] == 2 and failure["key"]
    )
    assert "| failed | dpo |" in (place / "results" / "tiny" / "leaderboard.md").read_text()
    real = train.train

    def short_of_memory(members: Any, *rest: Any) -> Any:
        if members[0].job.loss.name == "dpo":
            raise UserError("dpo: out of memory with one pair at a time")
        return real(members, *rest)

    monkeypatch.setattr(train, "train", short_of_memory)
    assert prefzoo(monkeypatch, "run", "r.yaml", *few, "--results", "two") == 3
    failure = json.loads((place / "two" / "tiny" / "dpo" / "failed.json").read_text())
    assert (failure["step"], failure["key"]) == (0, "") and "one pair at a time" in failure["reason"]
    assert prefzoo(monkeypatch, "run", "r.yaml", *few, "--set", "variants={dpo: }", "--results", "one") == 2
    assert "error: dpo: out of memory with one pair at a time" in capsys.readouterr().err
    monkeypatch.setattr(train, "train", real)
    assert prefzoo(monkeypatch, "run", "r.yaml", *few, "--results", "two") == 0  # tried again without being asked to
    assert not (place / "two" / "tiny" / "dpo" / "failed.json").exists()


@pytest.mark.slow
def test_a_lost_seed_of_a_ranked_variant_is_told_and_is_no_success(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefzoo.experiment.stages import train

    real = train.train

    def lost(members: Any, *rest: Any) -> Any:
        if (members[0].job.loss.name, members[0].job.seed) == ("dpo", 1):
            raise UserError("dpo: no luck")
        return real(members, *rest)

    monkeypatch.setattr(train, "train", lost)
    words = (*SEEDS, "--set", "evals={frontier: 0}", "--set", "train.steps=1")
    assert prefzoo(monkeypatch, "run", "r.yaml", *words) == 3
    told = "Seed dpo-s1 failed (dpo: no luck); the numbers of its variant are over the other seeds."
    assert told in " ".join(capsys.readouterr().out.split())
    folder = place / "results" / "tiny"
    assert told in (folder / "leaderboard.md").read_text()
    assert told in (folder / "report.html").read_text()
    assert read_run(folder).lost == {"dpo-s1": "dpo: no luck"}


@pytest.mark.slow
def test_a_frontier_without_prompts_is_not_ignored_in_silence(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--set", "evals.prompts=null", "--set", "variants={simpo: }", "--set", "train.steps=1")
    assert prefzoo(monkeypatch, "run", "r.yaml", *words) == 0
    assert "frontier: skipped: evals.frontier and evals.prompts are not both set" in capsys.readouterr().out


def test_several_processes_are_not_started_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("prefzoo.experiment.executors.process_state", lambda: SimpleNamespace(num_processes=2))
    with pytest.raises(UserError, match="--on ray: Ray starts the processes; leave out accelerate launch"):
        pipeline.run(Request("r.yaml", (), "results"), resources=Resources("ray"))


@pytest.mark.slow
def test_groups_are_spread_over_workers(place: Path) -> None:
    from types import SimpleNamespace

    from rich.console import Console

    from prefzoo.experiment.check import load_checked
    from prefzoo.experiment.opening import open_experiment

    sets = ("variants={dpo: {beta: [0.05, 0.1, 0.2, 0.5]}}", "train.lora={rank: 2}", "evals.frontier=0")

    def sizes(slots: int, side_by_side: str) -> list[int]:
        request = Request("r.yaml", (*sets, f"train.side_by_side={side_by_side}"), "results")
        experiment = open_experiment(request, load_checked(request), Console(quiet=True))
        executor: Any = SimpleNamespace(device="cpu", processes=1, slots=slots)
        stages = train_stages(experiment, list(experiment.trials.values()), executor)
        return [len(stage.trials) for stage in stages]

    assert sizes(1, "on") == [4] and sizes(3, "on") == [4] and sizes(1, "off") == [1, 1, 1, 1]
    assert sizes(2, "auto") == [2, 2] and sizes(4, "auto") == [1, 1, 1, 1]


def test_results_are_printed_in_words() -> None:
    assert [str(r) for r in (Done(), Done(kept=True), Failed("no"), Skipped("none"))] == [
        "done", "reused", "failed: no", "skipped: none",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_group_pauses_at_a_rung_and_the_better_half_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (
        "--set", "variants={dpo: {beta: [0.05, 0.1, 0.2, 0.5]}}", "--set", "train.lora={rank: 2}",
        "--set", "train.side_by_side=on", "--set", "evals.frontier=0",
    )  # fmt: skip
    early = ("--set", "sweep.early_stopping={factor: 2}", "--results", "early")
    assert prefzoo(monkeypatch, "run", "r.yaml", *words) == 0
    assert prefzoo(monkeypatch, "run", "r.yaml", *words, *early) == 0
    whole, folder = place / "results" / "tiny", place / "early" / "tiny"
    record = json.loads((folder / SWEEP).read_text())
    stopped = {trial["name"]: trial["stopped_after"] for trial in record["trials"]}
    assert sorted(filter(None, stopped.values())) == [2, 2]
    for name, after in stopped.items():
        paused, through = lines(folder / name), lines(whole / name)
        assert len(paused) == (after or 4)
        for one, other in zip(paused, through, strict=False):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-4)
        assert (folder / name / "result.json").exists() == (after is None)
