"""A loss that raises in one of two processes, or in both, fails its variant alone: the others go on, nothing hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_two_processes import free_port

PROFILE = Path(__file__).parents[2] / "recipes" / "accelerate" / "ddp.yaml"
MINE = """\
import os
import torch
from prefzoo.losses import loss

def value(policy, reference):
    return -torch.nn.functional.logsigmoid(policy.margin - reference.margin)

def after_a_step(policy, reference):  # the made-up pairs of the check are shorter
    return int(policy.chosen_len.max()) > 5 and bool((policy.chosen != reference.chosen).any())

@loss
def in_one(policy, reference):
    if os.environ["RANK"] == "1" and after_a_step(policy, reference):
        raise RuntimeError("only here")
    return value(policy, reference)

@loss(couples="not really")
def coupled(policy, reference):
    return in_one.fn(policy, reference)

@loss
def in_both(policy, reference):
    if after_a_step(policy, reference):
        raise RuntimeError("in both")
    return value(policy, reference)

@loss
def at_once(policy, reference):
    if os.environ["RANK"] == "1":
        raise RuntimeError("at once")
    return value(policy, reference)
"""
VARIANTS = "{in_one: {loss: 'mine.py:in_one', train: {micro_batch: 1}}, coupled: {loss: 'mine.py:coupled'}, " + (
    "in_both: {loss: 'mine.py:in_both'}, at_once: {loss: 'mine.py:at_once'}, dpo: null}"
)


@pytest.mark.slow
def test_a_loss_that_raises_in_one_of_two_processes_fails_its_variant_alone(run_folder: Path) -> None:
    (run_folder / "mine.py").write_text(MINE)
    words = [
        sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(PROFILE),
        "--main_process_port", str(free_port()), "-m", "prefzoo", "run", "r.yaml", "--set", f"variants={VARIANTS}",
        "--set", "train.steps=3", "--set", "evals=null",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "ACCELERATE_USE_CPU": "true"}
    env["PREFZOO_CACHE"] = str(run_folder / "cache")
    run = subprocess.run(words, cwd=run_folder, env=env, text=True, capture_output=True, check=False, timeout=300)
    results = run_folder / "results" / "tiny"
    failed = {path.parent.name: json.loads(path.read_text()) for path in results.glob("*/failed.json")}
    steps = {name: own["step"] for name, own in failed.items()}
    assert steps == {"in_one": 2, "coupled": 2, "in_both": 2, "at_once": 0}
    assert "mine.py:14: RuntimeError: only here" in failed["in_one"]["reason"]
    assert "mine.py:14: RuntimeError: only here" in failed["coupled"]["reason"]
    assert "mine.py:24: RuntimeError: in both" in failed["in_both"]["reason"]
    assert "mine.py:30: RuntimeError: at once" in failed["at_once"]["reason"]
    assert (results / "dpo" / "checkpoint").is_dir() and "dpo beats" in run.stdout
    # the launcher's own code is 1, whatever its processes'; the main process has prefzoo's
    assert run.returncode == 1 and run.stderr.count("exitcode  : 3") == 1, run.stderr[-3000:]
