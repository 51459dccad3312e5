"""A loss of the user's that raises fails its own variant, with the line of its file, and takes no other with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from called import prefzoo

from prefzoo import losses
from prefzoo.errors import VariantFailed
from prefzoo.evals.boards.run_files import read_run
from prefzoo.runtime.plugins import describe_error
from prefzoo.training.loss_call import call_on_made_up_pairs

MINE = """\
from dataclasses import dataclass
from prefzoo.losses import Positive, loss
import torch

@dataclass
class Steps:
    done: int

    @classmethod
    def start(cls):
        return cls(0)

@loss(paper="mine")
def at_once(policy, reference, *, beta: Positive = 0.1):
    return policy.margin[99]

@loss(paper="mine")
def later(policy, reference, state: Steps, *, beta: Positive = 0.1):
    if state.done >= 2:
        raise RuntimeError("an odd\\nstep")
    return -torch.nn.functional.logsigmoid(beta * (policy.margin - reference.margin)), Steps(state.done + 1)

@loss(paper="mine")
def detached(policy, reference, *, beta: Positive = 0.1):
    return policy.margin.detach()

@loss(paper="mine")
def mean(policy, *, beta: Positive = 0.1):
    return policy.margin.mean()

@loss(paper="mine")
def inplace(policy, reference, *, beta: Positive = 0.1):
    policy.chosen.mul_(beta)
    reference.rejected.add_(1)
    return reference.margin - policy.margin

@loss(paper="mine")
def number(policy, *, beta: Positive = 0.1):
    return 0.5

@loss(paper="mine")
def leaves(policy, *, beta: Positive = 0.1):
    raise SystemExit("bye")

class Odd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, slope):
        raise ArithmeticError("no slope")

@loss(paper="mine")
def slopeless(policy, *, beta: Positive = 0.1):
    return Odd.apply(policy.chosen)
"""


@pytest.fixture
def folder(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    (run_folder / "my.py").write_text(MINE)
    return run_folder


def line_of(text: str) -> int:
    """The number of the line of the plug-in's file that holds the text."""
    return next(n for n, line in enumerate(MINE.splitlines(), 1) if text in line)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("at_once", f"my.py:{line_of('margin[99]')}: IndexError: index 99 is out of bounds"),
        ("leaves", f"my.py:{line_of('bye')}: SystemExit: bye; fix it there"),
        ("slopeless", f"my.py:{line_of('no slope')}: ArithmeticError: no slope; fix it there"),
        ("detached", "its values carry no gradient back to the policy, so nothing would be learned; compute"),
        (
            "mean",
            f"my.py:{line_of('def mean') - 1}: loss mean returned shape () for 2 pairs; it must return one value",
        ),
        (
            "inplace",
            "it changes policy.chosen, reference.rejected in place, which metrics and the next loss read too",
        ),
        ("number", f"my.py:{line_of('def number') - 1}: loss number returned float; it must return a tensor"),
    ],
)
def test_two_made_up_pairs_show_what_is_wrong(folder: Path, name: str, reason: str) -> None:
    loss = losses.get(f"my.py:{name}", folder)
    with pytest.raises(VariantFailed) as caught:
        call_on_made_up_pairs(loss, loss.Params(), batch=4)
    (line,) = caught.value.lines
    assert line.startswith(f"{name}, called on two made-up pairs: ") and reason in line and "\n" not in line


@pytest.mark.parametrize("name", [*losses.names(), "dpo + 0.2*sft", "kto + bco"])
def test_every_loss_can_be_called_on_them(name: str) -> None:
    loss = losses.get(name)
    assert torch.tensor(call_on_made_up_pairs(loss, loss.Params(), batch=8)).isfinite()


def run(monkeypatch: pytest.MonkeyPatch, variants: str, *sets: str) -> int:
    words = [word for text in (f"variants={variants}", "train.steps=4", *sets) for word in ("--set", text)]
    return prefzoo(monkeypatch, "run", "r.yaml", *words)


@pytest.mark.slow
@pytest.mark.parametrize("sets", [(), ("train.lora={rank: 2}", "train.side_by_side=on")], ids=["alone", "side by side"])
def test_the_others_go_on(
    folder: Path, sets: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = '{first: {loss: "my.py:at_once"}, late: {loss: "my.py:later"}, dpo: }'
    assert run(monkeypatch, variants, *sets) == 3
    out = " ".join(capsys.readouterr().out.split())
    late = f"later: my.py:{line_of('an odd')}: RuntimeError: an odd step; fix it there"
    assert f"late failed at step 3: {late}" in out and "Traceback" not in out
    assert ("late, dpo side by side" in out) == bool(sets) and "cannot train side by side" not in out
    results = Path("results/tiny")
    stored = {name: json.loads((results / name / "failed.json").read_text()) for name in ("first", "late")}
    assert (stored["first"]["step"], stored["late"]["step"]) == (0, 3) and stored["late"]["reason"] == late
    assert stored["late"]["key"] and not stored["first"]["key"]  # the latter costs nothing to try again
    for page in ("leaderboard.md", "report.html"):
        text = (results / page).read_text()
        assert "RuntimeError: an odd step" in text and "IndexError: index 99 is out of bounds" in text
    assert read_run(results).variants["dpo"].measured is not None
    assert len((results / "dpo" / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.slow
def test_an_edited_loss_is_another_loss(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = '{late: {loss: "my.py:later"}}'
    assert run(monkeypatch, variants, "seeds=[0, 1]") == 3  # the base alone is on the board
    assert "late-s0 failed at step 3: later: my.py" in capsys.readouterr().out
    assert "late failed (step 3: later: my.py" in Path("results/tiny/leaderboard.md").read_text()
    for _ in range(2):
        capsys.readouterr()
        assert run(monkeypatch, variants) == 3
    assert "failed before with these settings" in capsys.readouterr().out
    (folder / "my.py").write_text(MINE.replace(">= 2", ">= 400"))
    losses._registry._PLUGINS.loaded.clear()  # as a new process starts
    assert run(monkeypatch, variants) == 0
    assert "training late: done" in capsys.readouterr().out
    assert run(monkeypatch, variants) == 0
    again = capsys.readouterr().out
    assert "reused: late" in again and "nothing to do" in again


def test_the_place_of_an_error_is_the_users_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_API_KEY", "secret-of-mine")
    (tmp_path / "mine.py").write_text("import json\n\ndef read():\n    return json.loads('{secret-of-mine')\n")
    names: dict[str, Callable[[], object]] = {}
    exec(compile((tmp_path / "mine.py").read_text(), str(tmp_path / "mine.py"), "exec"), names)
    with pytest.raises(ValueError, match="property name") as caught:
        names["read"]()
    assert describe_error(caught.value).startswith("mine.py:4: JSONDecodeError: Expecting property name")
    assert describe_error(ValueError("has secret-of-mine\nin it")) == "ValueError: has *** in it"
    assert describe_error(ValueError()) == "ValueError"
    assert describe_error(ValueError("use another one.")) == "ValueError: use another one"
    with pytest.raises(SyntaxError) as broken:
        compile("a = (", str(tmp_path / "mine.py"), "exec")
    assert describe_error(broken.value).startswith("mine.py:1: SyntaxError: ")
