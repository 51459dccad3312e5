"""An earlier check of the same recipe, shown again if nothing that it depends on has changed. Needs no torch.

The user's cache holds, by recipe, settings and folder, what the check found and all that it was found from: the
inputs as `unchanged` describes them, the state of the run's folder, the times known of this machine, and the
environment variables that matter. A check that was refused, or in which a plug-in fails, is not cached.
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
    """Return what an earlier check found, if nothing that it depends on has changed since; else None.

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
    """Return all that a check reads; None where a model of the hub does not tell its version. Call it before."""
    inputs = unchanged.inputs_of(request, recipe.resolved(), recipe.folder)
    return None if inputs is None else inputs | {"environment": environment_of(request)}  # libraries change it later


def write_check(request: Request, launch: Path | None, plan: Plan, inputs: Inputs | None) -> None:
    """Cache what a check found.

    Args:
        request: which run.
        launch: an Accelerate profile that trainings would start under.
        plan: what the check found.
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
    """Return what a check depends on besides its inputs, as JSON gives it back."""
    times = sorted(cache_root().joinpath("rates").glob("*"))
    return {
        "run": unchanged.outputs(folder) if folder.is_dir() else {},
        "files": unchanged.stamps([*times, *([launch] if launch else [])]),
        "gpus": len(list(Path("/dev").glob("nvidia[0-9]*"))),
    }


def environment_of(request: Request) -> str:
    """Return a hash of the environment variables that may change what a check finds; the recipe names some."""
    text = "\n".join([Path(request.recipe).read_text(encoding="utf-8"), *request.overrides])
    named = set(NAME.findall(text))
    return key_of(
        {
            name: value
            for name, value in os.environ.items()
            if name in named or name.startswith(PREFIXES) or name.endswith(SUFFIXES)
        }
    )
