"""Train in rounds: sample pairs from the last round's policy, train on them, and repeat; and describe it for a plan."""

from __future__ import annotations

from prefzoo.evals.judges import load_judge
from prefzoo.evals.suites.prompts import check_rendered
from prefzoo.experiment.best_trials import Choice, check_any, failures
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.executors import Executor
from prefzoo.experiment.recipe_judge import check_judgeable
from prefzoo.experiment.round_views import is_sampled, judge_settings_of, previous, rounds_of, sampling_of
from prefzoo.experiment.search import Trial
from prefzoo.experiment.stages.stage import SAMPLE, TRAIN, Stage
from prefzoo.runtime import run_folders
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.run_folders import Failure


def check_rounds(experiment: Experiment) -> None:
    """Check that the judge can pair answers to the prompts, and that the model's chat template can format them.

    Raises:
        UserError: they do not fit each other.
    """
    recipe = experiment.recipe
    if recipe.rounds is None or not any(is_sampled(experiment, trial) for trial in experiment.trials.values()):
        return
    prompts = experiment.sampled_prompts
    place = f"rounds.prompts: {recipe.rounds.prompts}" if recipe.rounds.prompts else "data.train"
    check_rendered(prompts, experiment.tokenizer, recipe.data.chat_template_kwargs, place)
    if process_state().is_main_process:
        judge = load_judge(judge_settings_of(recipe), recipe.folder)
        check_judgeable(judge, prompts, "rounds.judge" if recipe.rounds.judge is not None else "evals.judge", place)


def train_rounds(experiment: Experiment, executor: Executor) -> Choice:
    """Train the rounds in order. A round whose predecessor failed fails too.

    Raises:
        UserError: no round was trained to its end.
    """
    trials = list(experiment.trials.values())
    for number in range(1, rounds_of(experiment).count + 1):
        due = [t for t in trials if t.variant.round == number and not _is_blocked(experiment, t)]
        executor.run([Stage(SAMPLE, (t.name,)) for t in due])
        failed = failures(experiment)
        executor.run([Stage(TRAIN, (t.name,)) for t in due if t.name not in failed or failed[t.name].key])
    failed = failures(experiment)
    finals = [t for t in trials if t.name not in failed]
    check_any(finals, failed)
    return Choice({t.arm: t.setting for t in finals}, {}, {}, finals)


def _is_blocked(experiment: Experiment, trial: Trial) -> bool:
    """Return whether the round before failed, and record it; else remove a failure that is to be tried again."""
    before, failed, folder = previous(experiment, trial), failures(experiment), experiment.folder / trial.name
    blocked = before is not None and before.name in failed
    if process_state().is_main_process:
        if blocked and before is not None:
            reason = f"the round before, {before.name}, failed: {failed[before.name].reason}"
            Failure(trial.name, trial.variant.loss, "", 0, reason).write(folder)
        elif trial.name in failed and not failed[trial.name].key:
            (folder / run_folders.FAILED).unlink(missing_ok=True)
    process_state().wait_for_everyone()
    return blocked


def lines_of(experiment: Experiment) -> tuple[str, ...]:
    """Describe the rounds, a line each; nothing without rounds.

    Args:
        experiment: read and loaded.
    """
    recipe = experiment.recipe
    if recipe.rounds is None:
        return ()
    rounds, prompts, first = recipe.rounds, experiment.sampled_prompts, next(iter(experiment.trials.values()))
    sampling = sampling_of(experiment, first)
    identity = key_of([(row.prompt, row.checks) for row in prompts])[:8]
    judge = judge_settings_of(recipe)
    named = judge if isinstance(judge, str) else getattr(judge, "kind", "a panel")
    sampled = (
        f"{sampling.n} answers to each of {len(prompts)} prompts of {rounds.prompts or recipe.data.train_spec}"
        f"@{identity} at temperature {sampling.temperature:g}, paired by {named}"
    )
    references = dict.fromkeys(v.reference or recipe.model for v in recipe.variants.values())
    lines = [f"rounds: {rounds.count}, each on {sampled}; reference of all: {', '.join(references)}"]
    for trial in experiment.trials.values():
        before = previous(experiment, trial)
        data = f"answers of {before.name if before else recipe.model}"
        data = data if is_sampled(experiment, trial) else recipe.data.train_spec
        start = before.name if before else recipe.model
        lines.append(f"  {trial.name}: round {trial.variant.round}, starts from {start}, trains on {data}")
    return tuple(lines)
