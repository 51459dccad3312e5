"""Show an earlier check of the same recipe again if nothing that it depends on has changed. Needs no torch.

The user's cache holds, by recipe, settings and folder, the result of the check and everything that it depends on: the
inputs as `unchanged` describes them, the state of the run's folder, the known times of this machine, and relevant
environment variables. A check that was refused, or in which a plug-in fails, is not cached.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefzoo.errors import UserError
from prefzoo.experiment import unchanged
from prefzoo.experiment.plan_types import Plan
from prefzoo.experiment.request import Request
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.paths import CACHE_CURE, RESULTS_CURE, cache_dir, cache_root, check_writable
from prefzoo.runtime.run_folders import write_json

if TYPE_CHECKING:
    from prefzoo.recipe.load import Recipe

PREFIXES = ("ACCELERATE_", "CUDA_", "HF_", "OMP_", "PREFZOO_", "TORCH", "TRANSFORMERS_", "WANDB_")
SUFFIXES = ("_KEY", "_TOKEN")
NAME = re.compile(r"\b[A-Z][A-Z0-9_]{2,}\b")  # of an environment variable that a recipe may name
Inputs = dict[str, Any]


def read_check(request: Request, launch: Path | None) -> Plan | None:
    """Return the result of an earlier check if nothing that it depends on has changed; else None.

    Args:
        request: which run.
        launch: an Accelerate profile that trainings would start under.

    Returns:
        The plan, with the memory and the disk that are free now.
    """
    try:
        entry = json.loads(_file(request, launch).read_text(encoding="utf-8"))
        folder = request.folder(entry["plan"]["name"])
        check_writable(folder, "--results", RESULTS_CURE)
        check_writable(cache_root(), "cache folder", CACHE_CURE)
        now = unchanged.known_inputs(request, entry["inputs"]["files"]) | {"environment": environment_of(request)}
        same = entry["inputs"] == now and entry["state"] == _state(request, folder, launch)
        return Plan.from_plain(entry["plan"], folder) if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
        return None  # an ordinary check reports what is wrong


def inputs_of(request: Request, recipe: Recipe) -> Inputs | None:
    """Return all that a check reads; None if the version of a hub model is unknown. Call it before the check."""
    inputs = unchanged.inputs_of(request, recipe.resolved(), recipe.folder)
    return None if inputs is None else inputs | {"environment": environment_of(request)}  # libraries change it later


def write_check(request: Request, launch: Path | None, plan: Plan, inputs: Inputs | None) -> None:
    """Cache the result of a check.

    Args:
        request: which run.
        launch: an Accelerate profile that trainings would start under.
        plan: the result of the check.
        inputs: as `inputs_of` returned them before the check.
    """
    if inputs is None or plan.failing:
        return
    state = _state(request, request.folder(plan.name), launch)
    write_json(_file(request, launch), {"inputs": inputs, "state": state, "plan": plan.plain()})


def _file(request: Request, launch: Path | None) -> Path:
    whole = request.absolute()
    identity = [whole.recipe, list(whole.overrides), whole.results, str(launch.resolve()) if launch else None]
    return cache_dir("checks") / f"{key_of(identity)}.json"


def _state(request: Request, folder: Path, launch: Path | None) -> dict[str, Any]:
    """Return the state that a check depends on besides its inputs, as plain values."""
    times = sorted(cache_root().joinpath("rates").glob("*"))
    return {
        "run": unchanged.outputs(folder) if folder.is_dir() else {},
        "files": unchanged.stamps([*times, *([launch] if launch else [])]),
        "gpus": len(list(Path("/dev").glob("nvidia[0-9]*"))),
    }


def environment_of(request: Request) -> str:
    """Return a hash of the environment variables that may change a check's result; the recipe names some."""
    text = "\n".join([Path(request.recipe).read_text(encoding="utf-8"), *request.overrides])
    named = set(NAME.findall(text))
    return key_of(
        {
            name: value
            for name, value in os.environ.items()
            if name in named or name.startswith(PREFIXES) or name.endswith(SUFFIXES)
        }
    )
