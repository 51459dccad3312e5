"""Reading a results folder back."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_runs import quick_run

from prefzoo.errors import UserError
from prefzoo.evals.boards.run_files import read_run


def test_a_run_is_read_whole(tmp_path: Path) -> None:
    run = read_run(quick_run(tmp_path / "quickstart"))
    assert run.name == "quickstart"
    assert list(run.variants) == ["base", "dpo", "cdpo", "ipo", "simpo"]
    dpo, base = run.variants["dpo"], run.variants["base"]
    assert dpo.result is not None and dpo.result.loss == "dpo" and len(dpo.steps) == dpo.result.metrics["step"]
    assert dpo.measured is not None and len(dpo.measured.answers) == len(dpo.outputs) == len(dpo.annotations)
    assert base.result is None and base.steps.empty and base.annotations == []
    assert set(run.long.variant) == set(run.variants)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run's folder"):
        read_run(tmp_path)


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.resolved.yaml").write_text("{name: x, variants: {dpo: {}}}")
    (tmp_path / "dpo").mkdir()
    (tmp_path / "dpo" / "annotations.json").write_text("[")
    with pytest.raises(UserError, match=r"dpo/annotations.json: is not JSON"):
        read_run(tmp_path)
