"""A run says what it reuses, trains again and leaves over, and loses no result of other settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo

from prefzoo.experiment import archive
from prefzoo.experiment.differences import changes

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, max_length: 300}
train: {batch: 4, steps: 2, learning_rate: 1e-3, precision: fp32}
variants:
  simpo: {gamma: 0.5}
  sft:
evals: {prompts: "instruct:eval:2", max_new_tokens: 2, kl: 0}
"""


@pytest.fixture
def place(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (run_folder / "r.yaml").write_text(RECIPE)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    # what takes long and has tests of its own
    monkeypatch.setattr("prefzoo.experiment.pipeline.write_report", lambda folder: folder / "report.html")
    monkeypatch.setattr("prefzoo.experiment.pipeline.play_round_robin", lambda *_, **__: "")
    monkeypatch.setattr("prefzoo.engine.base_model.release_memory", lambda **_: None)
    return run_folder


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`prefzoo run r.yaml --set ...`: what it prints."""

    def call(*sets: str, words: tuple[str, ...] = ()) -> str:
        options = [word for text in sets for word in ("--set", text)]
        assert prefzoo(monkeypatch, "run", "r.yaml", *options, *words) == 0
        return capsys.readouterr().out

    return call


def archives(place: Path) -> list[Path]:
    return archive.archives_of(place / "results" / "tiny")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name[0] != "."}


@pytest.mark.slow
def test_results_of_other_settings_are_archived_whole_and_named_with_what_changed(place: Path, run: Any) -> None:
    assert "results/tiny:" not in run()  # there is nothing yet
    before = files_of(place / "results" / "tiny")
    out = run("variants.simpo.gamma=0.3", "train.learning_rate=2e-3")
    assert "trained again: simpo (gamma 0.5 -> 0.3, train.learning_rate 0.001 -> 0.002)" in out
    assert "trained again: sft (train.learning_rate 0.001 -> 0.002)" in out
    (kept,) = archives(place)
    assert files_of(kept) == before and f"archived: results/{kept.name}" in out
    assert "reused: simpo, sft\n" in run("variants.simpo.gamma=0.3", "train.learning_rate=2e-3")
    assert archives(place) == [kept]  # once is enough


@pytest.mark.slow
def test_going_back_takes_the_earlier_training_from_its_archive(place: Path, run: Any) -> None:
    run()
    weights = (place / "results" / "tiny" / "simpo" / "checkpoint" / "model.safetensors").read_bytes()
    run("variants.simpo.gamma=0.3")
    (earlier,) = archives(place)
    out = run()
    assert f"reused: simpo (trained as {earlier.name}/simpo)" in out and "training simpo" not in out
    assert (place / "results" / "tiny" / "simpo" / "checkpoint" / "model.safetensors").read_bytes() == weights
    assert len(archives(place)) == 2


@pytest.mark.slow
def test_more_variants_and_seeds_overwrite_nothing_and_make_no_archive(place: Path, run: Any) -> None:
    run()
    out = run("variants.dpo=null")
    assert "reused: simpo, sft\n" in out and "new: dpo\n" in out
    out = run("variants.dpo=null", "seeds=[0, 1]")
    assert "reused: simpo-s0 (trained as simpo)" in out and "new: simpo-s1, sft-s1, dpo-s1" in out
    assert out.count(": done") and "training simpo-s0" not in out and "training simpo-s1" in out
    result = json.loads((place / "results" / "tiny" / "simpo-s0" / "result.json").read_text())
    assert result["variant"] == "simpo-s0" and not archives(place)


@pytest.mark.slow
def test_variants_that_the_recipe_lost_are_named_archived_and_reused_when_they_return(place: Path, run: Any) -> None:
    run()
    out = run("variants={sft: null}")
    assert "orphaned: simpo (not in the recipe" in out and len(archives(place)) == 1
    board = (place / "results" / "tiny" / "leaderboard.md").read_text()
    assert "| simpo |" not in board and "left over in the folder and not ranked: simpo" in board
    assert "left over in the folder and not ranked: simpo" in " ".join(out.split())
    assert "| simpo |" in (archives(place)[0] / "leaderboard.md").read_text()
    out = run()
    assert "reused: simpo, sft\n" in out and len(archives(place)) == 1


@pytest.mark.slow
def test_other_evaluation_settings_keep_the_weights_and_archive_the_board(place: Path, run: Any) -> None:
    run()
    out = run("evals.max_new_tokens=3")
    assert "reused: simpo, sft\n" in out and "training" not in out.replace("training pairs", "")
    assert "measured again: base, simpo, sft (evals.max_new_tokens 2 -> 3)" in out and len(archives(place)) == 1


@pytest.mark.slow
def test_replace_overwrites_and_says_so(place: Path, run: Any) -> None:
    run()
    out = run("variants.simpo.gamma=0.3", words=("--replace",))
    assert "--replace: the earlier results are overwritten" in out and not archives(place)


@pytest.mark.slow
def test_the_leaderboard_shows_archives_as_history_and_copies_once(
    place: Path, run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    run("variants.simpo.gamma=0.3")
    assert prefzoo(monkeypatch, "leaderboard", "results", "--json") == 0
    (group,) = json.loads(capsys.readouterr().out)
    (earlier,) = archives(place)
    assert sorted((row["run"], row["variant"]) for row in group["rows"]) == [
        ("tiny", "sft"), ("tiny", "simpo"), (earlier.name, "simpo"),
    ]  # fmt: skip
    both = {(row["run"], row["variant"]) for row in group["history"]}  # within a second of each other
    assert both == {(earlier.name, "simpo"), ("tiny", "simpo")}


@pytest.mark.slow
def test_an_interrupted_archive_is_written_again_and_nothing_is_lost(
    place: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    before = files_of(place / "results" / "tiny")
    with monkeypatch.context() as patched:
        patched.setattr("prefzoo.experiment.archive._linked_or_copied", _stopped)
        assert prefzoo(monkeypatch, "run", "r.yaml", "--set", "train.learning_rate=2e-3") == 130
    assert files_of(place / "results" / "tiny") == before and not archives(place)
    run("train.learning_rate=2e-3")
    assert files_of(archives(place)[0]) == before


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_one_stage_of_an_array_does_not_overwrite_what_no_archive_holds(
    place: Path, run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    changed = ("run", "r.yaml", "--set", "variants.simpo.gamma=0.3", "--stage")
    assert prefzoo(monkeypatch, *changed, "train:simpo") == 2
    assert "simpo holds results of other settings; archive them first by --stage reference" in capsys.readouterr().err
    assert prefzoo(monkeypatch, *changed, "reference") == 0 and len(archives(place)) == 1
    assert prefzoo(monkeypatch, *changed, "train:simpo") == 0 and len(archives(place)) == 1


def test_changes_are_in_the_order_of_the_new_settings_and_leave_out_what_is_unset_in_both() -> None:
    before = {"a": 1, "b": {"c": 0.5, "d": None}, "gone": "x"}
    now = {"b": {"c": 0.25, "e": None}, "a": 1, "new": [1, 2]}
    assert changes(before, now) == ["b.c 0.5 -> 0.25", "new unset -> [1, 2]", "gone x -> unset"]


@pytest.mark.slow
def test_check_prints_the_same_and_touches_nothing(
    place: Path, run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run()
    before = files_of(place / "results")
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", "variants={simpo: {gamma: 0.3}, dpo: null}") == 0
    out = capsys.readouterr().out
    assert "trained again: simpo (gamma 0.5 -> 0.3)" in out and "new: dpo" in out and "orphaned: sft" in out
    assert "archived first: the earlier results" in out and files_of(place / "results") == before
