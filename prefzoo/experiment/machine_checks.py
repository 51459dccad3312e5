"""Check quickly that this machine has the folders, files and packages of a recipe. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from prefzoo.data.files import is_file_of_rows
from prefzoo.errors import UserError
from prefzoo.evals.suites.tasks import check_names
from prefzoo.experiment.request import Request
from prefzoo.recipe.data_paths import paths_of
from prefzoo.recipe.load import Recipe
from prefzoo.recipe.sections import Train
from prefzoo.runtime.paths import CACHE_CURE, PACKAGE_SCHEME, RESULTS_CURE, cache_root, check_writable
from prefzoo.runtime.run_folders import BASE

DEFAULT = "adamw"  # the optimiser that every machine and every launch can use


def checks_of_machine(request: Request, recipe: Recipe, launch: Path | None) -> list[Callable[[], object]]:
    """Return the checks of a recipe against this machine.

    Args:
        request: which run.
        recipe: of the request.
        launch: an Accelerate profile that trainings would start under.

    Returns:
        The checks, each of which raises UserError for a fault.
    """
    checks: list[Callable[[], object]] = [
        lambda: _check_folders(request.folder(recipe.name), recipe),
        lambda: check_writable(cache_root(), "cache folder", CACHE_CURE),
        lambda: check_names(recipe.evals.benchmarks, recipe.folder),
        lambda: _check_trackers(recipe),
        lambda: _check_files(recipe),
        lambda: _check_engine(recipe),
        *(lambda name=name: _check_quantised(recipe, name) for name in recipe.variants),
        *(lambda name=name: _check_optimizers(recipe, name) for name in recipe.variants),
    ]
    if launch is not None:
        trains = {name: variant.train for name, variant in recipe.variants.items()}
        checks.append(partial(_check_profile, launch, trains))
    return checks


def _check_folders(folder: Path, recipe: Recipe) -> None:
    """Raise UserError if the run's or a variant's folder cannot be written or is a file."""
    check_writable(folder, "--results", RESULTS_CURE)
    for name in (BASE, *recipe.variants):
        if (folder / name).exists():
            check_writable(folder / name, "--results", RESULTS_CURE)


def _check_files(recipe: Recipe) -> None:
    """Raise UserError for missing files of the recipe, before a large model is loaded."""
    named = {"evals.prompts": recipe.evals.prompts, "evals.judge_labels": recipe.evals.judge_labels}
    for key, value in {"data.train": recipe.data.train, "data.eval": recipe.data.eval}.items():
        several = isinstance(value, list)
        named |= {f"{key}.{i}.path" if several else key: path for i, path in enumerate(paths_of(value))}
    if recipe.sweep is not None and isinstance(recipe.sweep.validation, str):
        named["sweep.validation"] = recipe.sweep.validation
    absent = {
        place: recipe.folder / Path(spec).expanduser()
        for place, spec in named.items()
        if spec and is_file_of_rows(spec) and not spec.startswith(PACKAGE_SCHEME)
    }
    faults = [
        f"{place}: {named[place]}: is an address, and prefzoo downloads none; download the file and name it here"
        if "://" in str(named[place])
        else f"{place}: no such file: {path}; paths in a recipe are relative to the recipe"
        for place, path in absent.items()
        if not path.exists()
    ]
    if faults:
        raise UserError(faults)


def _check_engine(recipe: Recipe) -> None:
    if recipe.evals.engine == "vllm" and recipe.evals.prompts:
        from prefzoo.evals.generation.vllm import check_vllm

        check_vllm("evals.engine")


def _check_trackers(recipe: Recipe) -> None:
    if recipe.train.trackers:
        from prefzoo.training.accelerators import check_trackers

        check_trackers(recipe.train.trackers)


def _check_profile(launch: Path, trains: Mapping[str, Train]) -> None:
    from prefzoo.training.profiles import check_profile

    check_profile(launch, trains)


def _check_quantised(recipe: Recipe, name: str) -> None:
    lora = recipe.variants[name].train.lora
    if lora is not None and lora.quantize:
        from prefzoo.engine import models

        models.check_quantize(f"variants.{name}.train")


def _check_optimizers(recipe: Recipe, name: str) -> None:
    """Raise UserError if an optimiser of a variant, or of its grid, cannot be used here."""
    variant = recipe.variants[name]
    grid = next((axis.values for axis in variant.axes if axis.path == ("train", "optimizer")), ())
    for optimizer in set(grid or (variant.train.optimizer,)) - {DEFAULT}:
        from prefzoo.training.optimizers import check_optimizer

        check_optimizer(f"variants.{name}.train", variant.train.model_copy(update={"optimizer": optimizer}))
