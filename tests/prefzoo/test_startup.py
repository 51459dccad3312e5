"""What a command needs decides what it imports: listing losses or a mistake in a recipe waits for no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from called import prefzoo as command_line

import prefzoo
from prefzoo.errors import UserError
from prefzoo.recipe import load

SLOW = ("torch", "transformers", "datasets", "pandas", "scipy", "matplotlib", "accelerate", "peft", "openai", "numpy")
CALL = """\
import sys
from prefzoo.cli import main
sys.argv = ["prefzoo", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print("exit code", end.code)
print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def call(*words: str) -> tuple[str, set[str]]:
    """What a command prints, and the packages that it imports, of those that take long."""
    done = subprocess.run([sys.executable, "-c", CALL, *words], capture_output=True, text=True, check=True)
    printed, _, imported = done.stdout.rpartition("imported:")
    return printed + done.stderr, set(imported.split()) & set(SLOW)


def test_modules_of_losses_import_torch_through_the_one_that_waits() -> None:
    for path in (Path(prefzoo.__file__).parent / "losses").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:  # not inside TYPE_CHECKING or a function
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            at_once = [name for name in modules if name.partition(".")[0] == "torch"]
            assert not at_once, f"{path}:{node.lineno}: write `from prefzoo.losses._torch import torch` (see there)"


@pytest.mark.slow
@pytest.mark.parametrize("words", [("losses",), ("losses", "dpo"), ("losses", "--guide"), ("losses", "--format", "md")])
def test_the_catalogue_is_shown_without_torch(words: tuple[str, ...]) -> None:
    printed, slow = call(*words)
    assert "dpo" in printed and "exit code" not in printed
    assert not slow


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "check", "data", "judge"])
def test_a_mistake_in_a_recipe_is_reported_without_torch(command: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: r\nmodel: m\ndata: {train: t.jsonl}\nvariants: {dpo: {betta: 1}}\n")
    printed, slow = call(command, str(tmp_path / "r.yaml"))
    assert "exit code 2" in printed and "r.yaml:4: variants.dpo.betta" in printed
    assert not slow


@pytest.mark.slow
def test_a_run_shows_its_recipe_before_it_imports_torch(run_folder: Path) -> None:
    """The run is stopped where it imports torch."""
    code = "import sys; sys.modules['torch'] = None\n" + CALL
    words = ["run", str(run_folder / "r.yaml")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[0] == f"{run_folder / 'r.yaml'}: 4 variants of model; loading libraries"
    assert "torch" in done.stderr


@pytest.mark.parametrize(
    "words", [("run",), ("check",), ("run", "--emit", "slurm"), ("run", "--stage", "train:0")], ids=str
)
def test_a_recipe_is_read_once(words: tuple[str, ...], in_run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings, read = [], load.load

    def counted(path: str | Path, overrides: Sequence[str] = ()) -> load.Recipe:
        readings.append(path)
        return read(path, overrides)

    def stop(*_: object) -> None:
        raise UserError("far enough")

    monkeypatch.setattr(load, "load", counted)
    for opens in ("plan.check_run", "pipeline.check_run", "pipeline.open_experiment"):
        monkeypatch.setattr(f"prefzoo.experiment.{opens}", stop)
    command_line(monkeypatch, words[0], "r.yaml", *words[1:])
    assert readings == [Path("r.yaml")]
