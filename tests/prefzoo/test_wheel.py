"""The wheel holds what the checkout's package holds, under the same names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

import pytest

from prefzoo.version import __version__

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_nothing_else(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("prefzoo", "evals", "tests", "recipes", "examples"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    words = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", str(out), str(source)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = out.iterdir()
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(metadata).decode())
    files = {f"prefzoo/{p.relative_to(source / 'prefzoo')}" for p in (source / "prefzoo").rglob("*") if p.is_file()}
    files |= {f"prefzoo/evals/{p.relative_to(source / 'evals')}" for p in (source / "evals").rglob("*") if p.is_file()}
    studies = source / "recipes" / "studies"  # of the repository alone: their data are large, their results are there
    recipes = [p for p in (source / "recipes").rglob("*") if p.is_file() and studies not in p.parents]
    files |= {f"prefzoo/recipes/{p.relative_to(source / 'recipes')}" for p in recipes}
    assert packed == files
    assert {"prefzoo/py.typed", "prefzoo/data/packaged/instruct_train.jsonl"} <= packed
    assert headers["Version"] == __version__
