"""Inputs of a newcomer that once ended in a traceback, in a raw message, or in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from called import prefzoo

from prefzoo.data.schemas.normalise import read_examples
from prefzoo.data.sources import load_file
from prefzoo.engine.gguf_files import convert
from prefzoo.errors import UserError
from prefzoo.evals.suites.prompts import load_prompts
from prefzoo.recipe.load import load

RECIPE = """\
name: tiny
model: model
data: {train: train.jsonl, eval: test.jsonl, max_length: 300}
train: {batch: 4, steps: 1, learning_rate: 1e-4, precision: fp32}
variants: {dpo: }
"""


@pytest.fixture
def place(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    monkeypatch.chdir(run_folder)
    (run_folder / "r.yaml").write_text(RECIPE)
    return run_folder


def test_a_broken_gguf_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "zero.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"zero\.gguf: cannot be read as a GGUF file \(.*download it again"):
        convert(tmp_path / "zero.gguf", tmp_path / "out")


def test_checks_of_another_form_are_named_by_row(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "checks": [{"kind": "no_commas"}]}, {"prompt": "b", "checks": "no_commas"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="^p.jsonl: row 2: checks is not a list of mappings; write it like"):
        load_prompts("p.jsonl", tmp_path)


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_no_prompts_are_no_number_of_prompts(count: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"'{count}': not a number of prompts; write instruct:eval:100"):
        load_prompts(f"instruct:eval:{count}", tmp_path)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trust_remote_code=yes", "trust_remote_code: must be true or false (is 'yes')"),
        ("train.learning_rate=nan", "train.learning_rate: must be a number (is 'nan'); it must be finite"),
    ],
)
def test_values_have_no_raw_message(place: Path, override: str, told: str) -> None:
    with pytest.raises(UserError) as raised:
        load(place / "r.yaml", [override])
    assert raised.value.lines[0].endswith(told)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("check", "train.jsonl"), "train.jsonl: is data, not a recipe; `prefzoo init --data train.jsonl`"),
        (
            ("check", "r.yaml", "--set", "data.train=https://example.com/x.jsonl"),
            "is an address, and prefzoo downloads none",
        ),
        (
            ("check", "r.yaml", "--set", "train.lora={targets: [q_prj, v_proj]}"),
            "variants.dpo.train.lora.targets: model has no module 'q_prj'; did you mean 'q_proj'?",
        ),
    ],
)
def test_check_refuses(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert prefzoo(monkeypatch, *words) == 2
    assert told in capsys.readouterr().err


def test_epochs_beside_steps_are_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", "train.epochs=3") == 0
    told = capsys.readouterr().out
    assert "warning: train.epochs: 3 has no effect with steps: 1; remove one of them" in told


@pytest.mark.parametrize("native", [True, False])
def test_emulated_bf16_gets_a_warning(
    native: bool, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prefzoo.experiment.plausible.native_bf16", lambda: native)
    assert prefzoo(monkeypatch, "check", "r.yaml", "--set", "train.precision=bf16") == 0
    assert ("warning: train.precision: bf16 is emulated on this" in capsys.readouterr().out) != native


def test_half_a_character_is_named_by_row(place: Path) -> None:
    pair = {"prompt": "q", "chosen": "a", "rejected": "b"}
    with pytest.raises(UserError, match="^d: row 2: rejected holds half a character"):
        read_examples([pair, {**pair, "rejected": "\ud800b"}], "d")


@pytest.mark.parametrize("name", ["deep.json", "deep.jsonl"])
def test_values_that_are_nested_too_deep_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(UserError, match="nested too deeply"):
        load_file(name, tmp_path)
