"""A check after a change of settings reads what earlier checks found of model, data and machine, and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from called import pairs_text, prefzoo

from prefzoo import losses
from prefzoo.data.tokens import TokenAnswer, TokenPair
from prefzoo.experiment import estimate, facts, plan, unchanged
from prefzoo.experiment.plausible import _knob_range, _losses_of
from prefzoo.experiment.request import Request
from prefzoo.recipe.load import load
from prefzoo.training.loss_call import call_on_made_up_pairs

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 2, steps: 3, learning_rate: 1e-4, precision: fp32}
variants:
  dpo:
  low: {loss: simpo, train: {lora: {rank: 2}}}
  lower: {loss: ipo, train: {lora: {rank: 2}}}
evals: {prompts: "instruct:eval:2", max_new_tokens: 16, kl: 2, benchmarks: [perplexity]}
"""
MINE = """\
from prefzoo.losses import Positive, loss

@loss(paper="mine")
def mine(policy, *, beta: Positive = 0.1):
    return policy.chosen * beta

def better(instruction, output_1, output_2):
    return 1.5
"""
SETTINGS = [  # after a change of one of these, nothing is loaded
    "train.learning_rate=2e-4", "train.learning_rate=5e5", "variants.dpo.beta=0.2", "train.steps=2", "train.batch=3",
    "train.steps=600", "train.warmup=0.2", "variants.low.train.lora.rank=4", "evals.max_new_tokens=20", "seed=7",
    "variants.sft={}", "name=other",
]  # fmt: skip
Change = Callable[[Path, pytest.MonkeyPatch], object]
LOADED = ("torch", "transformers", "datasets", "accelerate", "peft", "pandas", "scipy")
WITHOUT = f"""\
import sys
sys.modules.update(dict.fromkeys({LOADED!r}))  # any import of one of them raises
from prefzoo.cli import main
main()
"""


@pytest.fixture
def place(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(run_folder)
    (run_folder / "r.yaml").write_text(RECIPE)
    (run_folder / "mine.py").write_text(MINE)
    for module in ("training.memory_estimate", "experiment.plan_types"):
        monkeypatch.setattr(f"prefzoo.{module}.free_memory", lambda: 2.0**40)
    monkeypatch.setattr("prefzoo.experiment.disk.free_disk", lambda folder: 1e15)
    return run_folder


@pytest.fixture
def checked(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Call `check`, and return what it printed, and whether it loaded the model and the data."""
    loads: list[object] = []
    real = plan.check_run

    def check_run(*args: Any) -> Any:
        loads.append(args)
        return real(*args)

    monkeypatch.setattr(plan, "check_run", check_run)

    def call(*words: str) -> tuple[str, bool]:
        before = len(loads)
        code = prefzoo(monkeypatch, "check", "r.yaml", *words)
        printed = capsys.readouterr()
        return f"{code}\n{printed.out}", len(loads) > before

    return call


@pytest.mark.slow
def test_a_change_of_a_setting_loads_nothing(checked: Callable[..., Any]) -> None:
    assert checked()[1]
    first, loaded = checked("--set", SETTINGS[0])
    assert not loaded
    assert (first, True) == checked("--set", SETTINGS[0], "--fresh")


@pytest.mark.slow
def test_a_change_of_settings_loads_nothing_and_shows_what_a_first_check_would(checked: Callable[..., Any]) -> None:
    assert checked()[1]
    for setting in SETTINGS:
        shown, loaded = checked("--set", setting)
        assert not loaded, setting
        first, loaded = checked("--set", setting, "--fresh")
        assert loaded
        assert shown == first, setting


@pytest.mark.slow
def test_a_change_of_settings_imports_no_torch(checked: Callable[..., Any]) -> None:
    checked()
    for setting in SETTINGS:
        words = [sys.executable, "-c", WITHOUT, "check", "r.yaml", "--set", setting]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 0, (setting, done.stderr)
        assert "low: simpo" in done.stdout, setting


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("--set", "variants.dpo.beta=1e30"),
        ("--set", "variants.own={loss: 'mine.py:mine'}"),
        ("--set", "evals.judge='mine.py:better'"),
        ("--set", "data.max_length=200"),
        ("--set", "evals.prompts='instruct:eval:3'"),
        ("--set", "reference=model/"),
    ],
    ids=lambda words: words[1].partition("=")[0],
)
def test_what_must_be_called_or_read_anew_is(words: tuple[str, ...], checked: Callable[..., Any]) -> None:
    assert checked()[1]
    assert checked(*words)[1]


@pytest.mark.slow
def test_how_a_run_stands_is_told_without_loading_it(
    checked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    brief = ("--set", "evals={}", "--set", "train.steps=1")
    assert prefzoo(monkeypatch, "run", "r.yaml", *brief) == 0
    capsys.readouterr()
    checked(*brief)
    for setting in ("train.learning_rate=2e-4", "variants.dpo.beta=0.2", "keep=none"):
        shown, loaded = checked(*brief, "--set", setting)
        assert not loaded and "results/tiny:" in shown
        assert (shown, True) == checked(*brief, "--set", setting, "--fresh")


@pytest.mark.slow
def test_a_run_that_must_be_measured_is_loaded(checked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked()[1]
    assert not checked("--set", "name=third")[1]
    monkeypatch.setattr(estimate, "WORTH", 0.0)
    monkeypatch.setattr("prefzoo.experiment.measurements.Measurement.take", lambda *_: None)
    assert checked("--set", "name=fourth")[1]


def changed(name: str, text: str) -> Change:
    return lambda place, _: (place / name).write_text(text)


def around(name: str, value: Any) -> Change:
    real = unchanged.surroundings
    return lambda _, patch: patch.setattr(unchanged, "surroundings", lambda: {**real(), name: value})


@pytest.mark.parametrize(
    ("change", "dropped"),
    [
        (changed("train.jsonl", pairs_text(range(9))), {"data", "fit"}),
        (changed("test.jsonl", pairs_text(range(9))), {"data", "fit"}),
        (changed("model/config.json", "{}"), {"model", "fit"}),
        (changed("model/chat_template.jinja", "{{ messages }}"), {"data", "fit"}),
        (changed("model/tokenizer.json", "{}"), {"data", "fit"}),
        (around("packages", ["torch-99.dist-info"]), {"machine", "model", "data", "fit"}),
        (around("hardware", ["another processor"]), {"machine", "fit"}),
    ],
    ids=["pairs", "held-out pairs", "model", "template", "tokenizer", "package", "processor"],
)
def test_what_changed_drops_its_own_facts(
    change: Callable[[Path, pytest.MonkeyPatch], object],
    dropped: set[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = Request("r.yaml", (), "results")
    before = facts.keys_of(request, load(Path("r.yaml")), "") or {}
    change(place, monkeypatch)
    after = facts.keys_of(request, load(Path("r.yaml")), "") or {}
    assert len(before) == 4
    assert {kind for kind in before if before[kind] != after[kind]} == dropped


def test_an_adapter_depends_on_its_model(place: Path) -> None:
    (place / "adapter").mkdir()
    config = {"base_model_name_or_path": str(place / "model")}
    (place / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    request, recipe = Request("r.yaml", (), "results"), load(Path("r.yaml"), ["model=adapter"])
    before = facts.keys_of(request, recipe, "") or {}
    (place / "model" / "config.json").write_text("{}")
    after = facts.keys_of(request, recipe, "") or {}
    assert {kind for kind in before if before[kind] != after[kind]} == {"model", "fit"}


@pytest.mark.parametrize(
    "override",
    ["rounds={count: 2}", "reference=other", "train.pair_weights=weight", "model=not/here", "variants.dpo.reference=b"],
)
def test_facts_of_some_recipes_are_not_cached(override: str, place: Path) -> None:
    recipe = load(Path("r.yaml"), [override])
    assert facts.keys_of(Request("r.yaml", (), "results"), recipe, "") is None


@pytest.mark.slow
def test_a_damaged_fact_is_found_again(checked: Callable[..., Any]) -> None:
    assert checked()[1]
    assert not checked("--set", "seed=2")[1]
    for path in Path(os.environ["PREFZOO_CACHE"], "facts").glob("data-*"):
        path.write_text("{")
    assert checked("--set", "seed=3")[1]
    assert not checked("--set", "seed=4")[1]


def test_own_losses_with_plausible_knobs_never_fail() -> None:
    """So that a check need not call them."""
    for name in losses.names():
        loss = losses.get(name)
        values = loss.Params().model_dump()
        for one, knobs, _ in _losses_of(loss, values, ""):
            for knob in knobs:
                plausible = _knob_range(one, knob)
                for value in (plausible.low, plausible.high) if plausible else ():
                    try:
                        params = loss.Params(**{**values, knob: float(value)})
                    except ValueError:  # beyond what the recipe accepts
                        continue
                    mean = call_on_made_up_pairs(loss, params, 4)
                    assert abs(mean) < float("inf"), (name, knob, value)


def test_a_row_is_known_by_its_lengths_and_scores() -> None:
    pair = TokenPair([1, 2, 3], [4, 5], [6], 7, (0.5, 9.0), ((True, False), (True,)))
    [row] = facts._known(json.loads(json.dumps([facts._sizes(pair)])))
    for name in ("row", "total_tokens", "answer_tokens", "scored_tokens", "block_lengths"):
        assert getattr(row, name) == getattr(pair, name), name
    assert list(row.scores) == [0.5, 9.0]
    assert facts._sizes(TokenAnswer([1], [2], True, 0)) == (0, 1, 1, 0, 1, None)
