"""What every command line is expected to do: version, exit codes in --help, completion, JSON, quiet, doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo

from prefzoo import __version__, losses
from prefzoo.cli import cli
from prefzoo.cli.complete import SHELLS, VARIABLE, known_losses
from prefzoo.experiment import environment
from prefzoo.runtime.versions import UNKNOWN

ROOT = Path(__file__).parents[2]


def test_version_and_exit_codes_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert prefzoo(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == f"prefzoo, version {__version__}"
    assert prefzoo(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert all(f"{code}  " in out for code in (0, 2, 3, 130)) and "a variant, the judge or a metric failed" in out
    page = (ROOT / "docs" / "recipes.md").read_text()
    assert all(f"`{code}`" in page for code in (0, 2, 3, 130))


def completed(words: str, folder: Path) -> list[str]:
    env = {**os.environ, VARIABLE: "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    code = "import sys; sys.argv = ['prefzoo']; from prefzoo.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert " torch" not in done.stderr  # else every press of the key takes seconds
    return [line.removeprefix("plain,") for line in done.stdout.split()]


@pytest.mark.slow
def test_completion_knows_commands_losses_recipes_and_fields(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("mine.yaml", "notes.txt", ".hidden.yaml", "sub/inner.yml"):
        (tmp_path / name).touch()
    assert completed("prefzoo sch", tmp_path) == ["schema"]
    assert completed("prefzoo losses cd", tmp_path) == ["cdpo"]
    assert completed("prefzoo run ", tmp_path) == ["mine.yaml", "sub/"]
    assert completed("prefzoo check sub/", tmp_path) == ["sub/inner.yml"]
    assert completed("prefzoo run mine.yaml --set train.lora.r", tmp_path) == ["train.lora.rank="]
    assert completed("prefzoo run nowhere/", tmp_path) == []


def test_completion_reads_the_same_losses_as_the_registry() -> None:
    names = sorted([*losses.names(), *(one.name for one in losses.all_modifiers())])
    assert list(known_losses()) == names and all(known_losses().values())


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_scripts(shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert prefzoo(monkeypatch, "completion", shell) == 0
    out = capsys.readouterr().out
    assert f"{VARIABLE}={shell}_complete" in out
    if shell == "bash":
        checked = subprocess.run(["bash", "-n"], input=out, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
        assert "compopt -o nospace" in out


def test_schema_is_printed_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "schema") == 0
    printed = capsys.readouterr().out
    assert prefzoo(monkeypatch, "schema", "--out", str(tmp_path / "s.json")) == 0
    assert (tmp_path / "s.json").read_text() == printed and "2020-12" in json.loads(printed)["$schema"]


@pytest.mark.slow
def test_listing_commands_speak_json(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_folder)
    result: dict[str, Any] = {}
    for words in (["losses"], ["losses", "dpo"], ["data", "r.yaml"], ["check", "r.yaml"], ["doctor"]):
        assert prefzoo(monkeypatch, *words, "--json") == 0
        result[" ".join(words)] = json.loads(capsys.readouterr().out)
    assert (
        len(result["losses"]) == len(losses.names()) + len(list(losses.all_modifiers()))
        and result["losses dpo"][0]["name"] == "dpo"
    )
    assert [(one["spec"], one["kept"]) for one in result["data r.yaml"]] == [("train.jsonl", 8), ("test.jsonl", 8)]
    plan = result["check r.yaml"]
    assert (plan["rows"], plan["unit"], plan["variants"]["dpo"]["steps"]) == (8, "pairs", 25)
    assert {f["group"] for f in result["doctor"]["findings"]} >= {
        "hardware",
        "precision",
        "disk",
        "packages",
        "optional",
    }


def test_every_command_that_lists_takes_json_and_every_one_that_works_takes_quiet() -> None:
    flags = {name: {flag for p in c.params for flag in p.opts} for name, c in cli.commands.items()}
    assert {name for name, has in flags.items() if "--json" in has} >= {"losses", "check", "data", "doctor"}
    assert {name for name, has in flags.items() if "--quiet" in has} >= {"run", "eval", "judge", "pairs"}


def findings() -> dict[str, Any]:
    return {f.name: f for f in environment.examine()}


@pytest.mark.slow
def test_doctor_names_what_is_missing_and_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    monkeypatch.setattr(
        environment, "requires", lambda _: declared
    )  # also where prefzoo is on the path, but not installed
    have: dict[str, str | None] = {"peft": None, "pandas": "1.0", "wandb": None, "tensorboard": "9.9"}
    monkeypatch.setattr(environment, "version_of", lambda name: have.get(name, UNKNOWN))
    by_name = findings()
    assert by_name["peft"].state == environment.BAD and by_name["peft"].cure.startswith("pip install 'peft")
    assert by_name["pandas"].state == environment.BAD and by_name["pandas"].says.startswith("1.0; tried with ")
    assert (by_name["wandb"].state, by_name["wandb"].cure) == (environment.NOTE, "pip install wandb")
    assert by_name["tensorboard"].says.startswith("9.9") and not by_name["tensorboard"].cure
    assert prefzoo(monkeypatch, "doctor") == 0
    assert "2 to fix: peft, pandas" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("native", "state", "auto"), [(True, environment.GOOD, "bf16"), (False, environment.NOTE, "fp32")]
)
def test_doctor_says_what_precision_means_here(
    native: bool, state: str, auto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prefzoo.engine.precision.native_bf16", lambda: native)
    by_name = findings()["bf16"]
    assert by_name.state == state and f"auto uses {auto}" in by_name.says
    assert ("emulated" in by_name.says) != native


@pytest.mark.slow
def test_doctor_looks_at_disks_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache" / "below"))
    monkeypatch.setattr("os.access", lambda place, mode: Path(place) != tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    by_name = findings()
    assert by_name["cache"].state == environment.BAD and "PREFZOO_CACHE" in by_name["cache"].cure
    assert by_name["results"].state != environment.BAD and "offline" in by_name["hub"].says
    assert not (tmp_path / "cache").exists()  # it only looks


@pytest.mark.parametrize(
    "command", [["eval", "x", "--suite", "y"], ["pairs", "--model", "m", "--prompts", "p", "--out", "o.jsonl"]]
)
def test_template_variables_are_a_mapping(command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert prefzoo(monkeypatch, *command, "--chat-template-kwargs", "enable_thinking") == 2
    assert "--chat-template-kwargs enable_thinking: not a mapping; write it like" in capsys.readouterr().err
