"""Tell whether a recipe calls only prefzoo's own code with plausible settings, which needs no trial call.

A test calls every own loss at the ends of its plausible ranges, as `made_up_calls` does before a run.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from prefzoo.evals.judges.protocol import Judge
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.jobs import plug_in_files
from prefzoo.experiment.plausible import are_plausible

FUNCTIONS = "prefzoo.evals.judges.function"  # whose judges call a user's function
METRICS = "prefzoo.metrics"  # the entry point group


def are_own(experiment: Experiment, judge: Judge | None) -> bool:
    """Return whether losses, judge and metrics are prefzoo's own, and the losses' knobs are plausible.

    Args:
        experiment: whose trials count.
        judge: its judge, if any.
    """
    if judge is not None and experiment.recipe.evals.prompts and is_plug_in(judge):
        return False
    variants = [trial.variant for trial in experiment.trials.values()]
    known = all(not plug_in_files(v.loss_obj) and are_plausible(v) for v in variants)
    return known and not entry_points(group=METRICS)


def is_plug_in(judge: Judge) -> bool:
    """Return whether a judge calls the user's code, or that of an installed package."""
    module = type(judge).__module__
    return module == FUNCTIONS or not module.startswith("prefzoo.")
