"""Variants trained in one pass, killed and gone on with: bit for bit, whatever was on disk when it happened."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from one_policy import ignore, train_one
from test_multi_lora import lora_job, policy
from test_resume import Killed, kill

from prefzoo.runtime.signals import Interrupted
from prefzoo.training.checkpoint import Checkpoints
from prefzoo.training.loop import train
from prefzoo.training.member import Member, MemberRun

NAMES = ("bco_pair_shift", "dpo", "tdpo2")


def run(model: Any, folder: Path, *, until: int = 0, stop: Any = None, every: float = 0.0, **settings: Any) -> Any:
    """Trains `NAMES`, `how` being done when `until` steps are; gives weights and logs, and what was said."""
    lines: list[str] = []
    jobs = [lora_job(model, name, **settings) for name in NAMES]
    members = [
        Member(this, folder / name / "metrics.jsonl", Checkpoints(folder / name / "resume", name, every, lines.append))
        for name, this in zip(NAMES, jobs, strict=True)
    ]

    def report(done: int, total: int, note: str) -> None:
        if str(note).startswith(f"step {until}/"):
            stop()

    with suppress(Killed):
        policies = train(members, policy(model, jobs[0]), report)
        weights = [
            [p.detach().clone() for _, p in adapter.named_parameters()]
            for adapter in map(policies.module, range(len(jobs)))
        ]
        return weights, [m.metrics_file.read_bytes() for m in members], lines
    return None


def same(one: Any, two: Any) -> None:
    assert one[1] == two[1]
    for ours, theirs in zip(one[0], two[0], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_killed_group_goes_on_bit_for_bit(dropout: float, tiny_model: Any, tmp_path: Path) -> None:
    lora = {"lora": {"rank": 2, "alpha": 4.0, "dropout": dropout, "targets": ["q_proj", "up_proj"]}}
    whole = run(tiny_model, tmp_path / "whole", every=1e9, **lora)
    for step in (1, 3, 5):
        assert run(tiny_model, tmp_path / "parts", until=step + 1, stop=kill, **lora) is None
    last = run(tiny_model, tmp_path / "parts", **lora)
    assert last[2] == ["resuming after step 5 of 6"] * 3
    same(whole, last)


@pytest.mark.slow
@pytest.mark.parametrize("written", range(13))
def test_killed_between_two_checkpoints(
    written: int, tiny_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three members, any number has already written what the others have not; and it is killed in its next step."""
    whole = run(tiny_model, tmp_path / "whole", every=1e9)
    real, left = Checkpoints.write, [written]

    def until_killed(self: Checkpoints, *args: Any, **kwargs: Any) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        real(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "write", until_killed)
        assert run(tiny_model, tmp_path / "parts") is None
        patched.setattr(MemberRun, "set_learning_rate", lambda *_: kill())
        assert run(tiny_model, tmp_path / "parts") is None
    last = run(tiny_model, tmp_path / "parts")
    assert set(last[2]) <= {f"resuming after step {max(0, written // 3 - 1)} of 6"}
    same(whole, last)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_keeps_all(number: signal.Signals, tiny_model: Any, tmp_path: Path) -> None:
    whole = run(tiny_model, tmp_path / "whole", every=1e9)
    with pytest.raises(Interrupted, match="stopped after step 2 of 6; run the same command to resume from there"):
        run(tiny_model, tmp_path / "parts", until=2, stop=lambda: os.kill(os.getpid(), number), every=1e9)
    assert len([*(tmp_path / "parts").glob("*/resume/step-00000002-*")]) == len(NAMES)
    same(whole, run(tiny_model, tmp_path / "parts", every=1e9))


@pytest.mark.slow
def test_who_is_behind_catches_up(tiny_model: Any, tmp_path: Path) -> None:
    """One member's checkpoints are lost: it begins anew, and the others wait for it."""
    whole = run(tiny_model, tmp_path / "whole", every=1e9)
    run(tiny_model, tmp_path / "parts", until=4, stop=kill)
    shutil.rmtree(tmp_path / "parts" / "dpo" / "resume")
    last = run(tiny_model, tmp_path / "parts")
    assert last[2] == ["resuming after step 3 of 6"] * 2
    assert [len(log.splitlines()) for log in last[1]] == [6, 6, 6]
    for ours, theirs in zip(whole[0], last[0], strict=True):
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
def test_what_trained_in_a_group_goes_on_alone(tiny_model: Any, tmp_path: Path) -> None:
    """Its checkpoints are those of a training alone."""

    whole = run(tiny_model, tmp_path / "whole", every=1e9)
    run(tiny_model, tmp_path / "parts", until=4, stop=kill)
    this, lines = lora_job(tiny_model, "dpo"), list[str]()
    kept = Checkpoints(tmp_path / "parts" / "dpo" / "resume", "dpo", 0.0, lines.append)
    member = policy(tiny_model, this)
    train_one(this, member, tmp_path / "parts" / "dpo" / "metrics.jsonl", ignore, kept)
    assert lines == ["resuming after step 3 of 6"]
    ours = [p for p in member.parameters() if p.requires_grad]
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(ours, whole[0][1], strict=True))


@pytest.mark.slow
def test_a_group_that_stops_on_the_way_goes_on_bit_for_bit(tiny_model: Any, tmp_path: Path) -> None:
    """After `until` steps, as a search stops trials: neither schedule nor rows depend on it."""
    whole = run(tiny_model, tmp_path / "whole", every=1e9)
    jobs = [lora_job(tiny_model, name) for name in NAMES]
    for until in (2, 2, 5):  # the second time there is nothing to do
        members = [
            Member(
                j,
                tmp_path / "parts" / n / "metrics.jsonl",
                Checkpoints(tmp_path / "parts" / n / "resume", n, 1e9, print),
            )
            for n, j in zip(NAMES, jobs, strict=True)
        ]
        train(members, policy(tiny_model, jobs[0]), ignore, until)
        assert [m.metrics["step"] for m in members] == [until] * 3
        assert all(len(m.metrics_file.read_bytes().splitlines()) == until for m in members)
    last = run(tiny_model, tmp_path / "parts", every=1e9)
    assert last[2] == ["resuming after step 5 of 6"] * 3
    same(whole, last)
