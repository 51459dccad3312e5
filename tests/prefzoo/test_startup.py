"""What a command needs decides what it imports: listing losses or a mistake in a recipe waits for no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import prefzoo

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
