"""The sample stage: make the pairs of an on-policy round from answers of the last round's policy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from prefzoo.evals.generation.pairs import BY_CHECKS, Rule, write_pairs
from prefzoo.evals.judges import load_judge
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.round_views import (
    PAIRS,
    card_of,
    is_sampled,
    judge_settings_of,
    pairs_key,
    policy_of,
    sampling_of,
)
from prefzoo.experiment.sampled_pairs import Asked, Policy, sample_pairs, summary_of
from prefzoo.experiment.search import Trial
from prefzoo.experiment.stages.stage import Done, Failed, Result
from prefzoo.runtime.atomic_files import sha256_of_file
from prefzoo.runtime.distributed import broadcast, process_state
from prefzoo.runtime.progress import set_variant_state, stage
from prefzoo.runtime.run_folders import Failure, write_json


def sample_rounds(experiment: Experiment, names: Sequence[str]) -> dict[str, Result]:
    """Make the pairs of rounds, unless they are on disk. All processes call this; the main one samples and judges.

    Args:
        experiment: what the rounds are of.
        names: trials whose round before is trained.

    Returns:
        The results, by name; a trial fails if no prompt gives a pair.
    """
    results: dict[str, Result] = {}
    for name in names:
        trial = experiment.trials[name]
        if is_sampled(experiment, trial):
            results[name] = broadcast(_sample(experiment, trial) if process_state().is_main_process else Done())
        else:
            results[name] = Done(kept=True)
    process_state().wait_for_everyone()
    return results


def _sample(experiment: Experiment, trial: Trial) -> Result:
    prompts, recipe, console = experiment.sampled_prompts, experiment.recipe, experiment.console
    key, out = pairs_key(experiment, trial, prompts), experiment.folder / trial.name / PAIRS
    if card_of(experiment, trial).get("key") == key:
        set_variant_state(trial.name, "sampled", console, f"{trial.name}: pairs already sampled; reused")
        return Done(kept=True)
    if _copied(experiment, trial, key):  # variants of one seed sample the same in their first round
        return Done(kept=True)
    judge = load_judge(judge_settings_of(recipe), recipe.folder)
    judge.check()
    experiment.base.drop()  # the policy needs the memory
    policy = Policy(
        policy_of(experiment, trial), recipe.folder, recipe.evals.engine, recipe.data.chat_template_kwargs,
        recipe.trust_remote_code, ("data.chat_template_kwargs", f"rounds: {trial.name}"),
    )  # fmt: skip
    asked = Asked(prompts, judge, sampling_of(experiment, trial), BY_CHECKS if judge.needs_checks else Rule())
    title = f"pairs of {trial.name}, {asked.sampling.n} answers to each of {len(prompts)} prompts"
    out.parent.mkdir(parents=True, exist_ok=True)
    with stage(title, "prompts", console, variant=trial.name, activity="sampling") as report:
        pairs, card, partial = sample_pairs(policy, asked, out, lambda done, total: report(done, total, ""))
    console.print(f"  {trial.name}: {len(pairs)} pairs; {summary_of(card)}", soft_wrap=True, markup=False)
    if not pairs:
        reason = f"no prompt gave a pair ({summary_of(card)}); raise rounds.n, rounds.temperature or max_new_tokens"
        Failure(trial.name, trial.variant.loss, "", 0, reason).write(out.parent)
        return Failed(reason)
    write_pairs(out, pairs, {"model": policy.spec, "round": trial.variant.round, **card})
    partial.unlink(missing_ok=True)
    _sign(out, key)
    return Done()


def _copied(experiment: Experiment, trial: Trial, key: str) -> bool:
    """Copy the pairs of another trial that was sampled in the same way; return whether there are any."""
    if trial.variant.round > 1:
        return False
    for other in experiment.trials.values():
        if other.variant.round == 1 and card_of(experiment, other).get("key") == key:
            source, target = experiment.folder / other.name / PAIRS, experiment.folder / trial.name / PAIRS
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            shutil.copyfile(f"{source}.card.json", f"{target}.card.json")
            return True
    return False


def _sign(path: Path, key: str) -> None:
    """Add the hashes of the pairs and of their inputs to the card, which marks them as finished."""
    card = Path(f"{path}.card.json")
    values = json.loads(card.read_text(encoding="utf-8"))
    write_json(card, {**values, "key": key, "sha256": sha256_of_file(path)})
