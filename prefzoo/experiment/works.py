"""Split a run into units of work of known time: tokens to train on, tokens of answers, calls of a judge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from prefzoo.engine.precision import native_bf16, use_bf16
from prefzoo.evals.judges.protocol import Judge
from prefzoo.experiment import search, work_names
from prefzoo.experiment.base_room import bytes_that_stay
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.frontier_files import points_missing
from prefzoo.experiment.jobs import passes_of, plain_job
from prefzoo.experiment.plan_types import BENCHMARKS, GENERATION, JUDGING, LOADING, PAIRS, REFERENCE, TRAINING
from prefzoo.experiment.search import Trial
from prefzoo.experiment.standing_types import FAILED, RESUMED, REUSED, Standing
from prefzoo.experiment.work_names import answering, scoring, tokens_of
from prefzoo.runtime.devices import device_type, process_count
from prefzoo.runtime.run_folders import BASE
from prefzoo.training.groups import group_trials
from prefzoo.training.job import Job, steps_of
from prefzoo.training.loss_inputs import kind_of
from prefzoo.types import LogProbs, VocabLogProbs

LOADS = 2  # of a trained model: its checkpoint written, and read to be measured


@dataclass(frozen=True)
class Work:
    """A piece of work.

    Attributes:
        row: the part of the run that it belongs to, one of `plan_types.ROWS`.
        name: of the kind of work, whose units all take the same time.
        units: how many.
    """

    row: str
    name: str
    units: float


@dataclass(frozen=True)
class Trained:
    """The trainings and measurements that are left.

    Attributes:
        left: the share of each trial's steps that is still to be done; trials with nothing left are not in it.
        measured: names of the models to measure, the base included.
        done: names of the trials that are trained and measured, of which only points of the frontier may be left.
    """

    left: dict[str, float]
    measured: list[str]
    done: tuple[str, ...] = ()


def trained(experiment: Experiment, standing: Standing) -> Trained:
    """Return the trainings and measurements that are left. In a grid, the first setting stands for the chosen one.

    Args:
        experiment: what is run.
        standing: the state of its folder.
    """
    trials = list(experiment.trials.values())
    first = {t.arm: t.setting for t in reversed(trials)}
    finals = [t for t in trials if t.setting == first[t.arm]]
    needed = {t.name: t for t in (*search.searched(experiment.recipe, trials), *finals)}
    left = {name: _left(experiment, trial, standing) for name, trial in needed.items()}
    same = [t.name for t in finals if left[t.name] == 0 and t.name not in standing.measured_again]
    measured = [t.name for t in finals if t.name not in same and standing.trials[t.name].action != FAILED]
    base = [] if same and BASE not in standing.measured_again else [BASE]
    return Trained({name: share for name, share in left.items() if share}, [*base, *measured], tuple(same))


def _left(experiment: Experiment, trial: Trial, standing: Standing) -> float:
    one = standing.trials[trial.name]
    if one.action in (REUSED, FAILED):
        return 0.0
    if one.action == RESUMED:
        return max(0.0, 1 - one.step / steps_of(trial.variant.train, len(experiment.pairs)))
    return 1.0


def works_of(experiment: Experiment, judge: Judge | None, todo: Trained) -> list[Work]:
    """Return the work of a run.

    Args:
        experiment: what is run.
        judge: its judge, if any.
        todo: what is left to train and to measure.

    Returns:
        The pieces of work, none of them empty.
    """
    jobs = {name: plain_job(experiment, experiment.trials[name]) for name in todo.left}
    starts = min(1, len(jobs)) if bytes_that_stay(experiment) else len(jobs)  # loads of weights to train
    loads = starts + LOADS * len(jobs) + len(todo.measured)
    works = [
        Work(LOADING, work_names.LOAD, loads),
        *_of_references(experiment, todo.left),
        *of_trainings(experiment, jobs, todo.left),
        *_of_pairs(experiment, todo),
        *_of_answers(experiment, todo),
        *_of_judging(experiment, judge, todo),
        *_of_rounds(experiment, judge, todo),
        *(
            Work(BENCHMARKS, work_names.benchmarking(suite, experiment.recipe.folder), len(todo.measured))
            for suite in experiment.recipe.evals.benchmarks
        ),
    ]
    return [work for work in works if work.units > 0]


def together(jobs: Mapping[str, Job]) -> dict[str, int]:
    """Return how many trials are trained side by side with each, itself included."""
    groups, _ = group_trials(jobs, device_type(), process_count())
    return {name: len(group) for group in groups for name in group}


def _of_references(experiment: Experiment, left: Mapping[str, float]) -> Iterator[Work]:
    """Yield the log-probs of the base that losses need, once for all trials with the same passes."""
    pairs, mean = len(experiment.pairs), fmean(e.total_tokens for e in experiment.pairs)
    rows: dict[tuple[object, ...], int] = {}
    for trial in (experiment.trials[name] for name in left):
        loss, train = trial.variant.loss_obj, trial.variant.train
        seen, name = steps_of(train, pairs) * train.batch, use_bf16(train)
        if loss.needs_reference:
            key = (kind_of(loss, "reference"), name, passes_of(trial))
            rows[key] = max(rows.get(key, 0), min(pairs, seen))
        if loss.needs_mismatched:
            rows[LogProbs, name, passes_of(trial), "mismatched"] = seen
    for (kind, bf16, *_), count in rows.items():
        assert isinstance(kind, type)
        yield Work(REFERENCE, scoring(kind, bf16=bool(bf16)), count * mean)
    if experiment.validation and left:
        yield Work(REFERENCE, scoring(LogProbs, bf16=native_bf16()), tokens_of(experiment.validation))


def of_trainings(experiment: Experiment, jobs: Mapping[str, Job], left: Mapping[str, float]) -> Iterator[Work]:
    """Yield the work of training each job, in order.

    Args:
        experiment: what is run.
        jobs: what is trained, by the trial's name.
        left: the share of each that is to be done.

    Returns:
        An iterator over a piece of work for each job.
    """
    mean, beside = fmean(e.total_tokens for e in experiment.pairs), together(jobs)
    for name, job in jobs.items():
        seen = steps_of(job.train, len(experiment.pairs)) * job.train.batch
        yield Work(TRAINING, work_names.training(job, beside[name]), left[name] * seen * mean)


def _of_pairs(experiment: Experiment, todo: Trained) -> Iterator[Work]:
    choosing = len(todo.left) * tokens_of(experiment.validation)
    yield Work(PAIRS, scoring(LogProbs, bf16=native_bf16()), choosing)
    if not experiment.held_out or not todo.measured:
        return
    tokens, models = tokens_of(experiment.held_out), sum(name != BASE for name in todo.measured)
    yield Work(PAIRS, scoring(LogProbs, bf16=native_bf16()), tokens)  # under the base, from which margins are measured
    yield Work(PAIRS, scoring(VocabLogProbs, bf16=native_bf16()), models * tokens)


def _of_answers(experiment: Experiment, todo: Trained) -> Iterator[Work]:
    """Yield answers to all prompts, and the samples that KL is measured on, also at the points of the frontier."""
    evals, prompts = experiment.recipe.evals, len(experiment.prompts)
    sampled, models = min(evals.kl, prompts), sum(name != BASE for name in todo.measured)
    points = models + points_left(experiment, todo)
    answers = Work(GENERATION, answering(prompts, evals.max_new_tokens), prompts * evals.max_new_tokens)
    samples = Work(GENERATION, answering(sampled, evals.max_new_tokens), sampled * evals.max_new_tokens)
    yield replace(answers, units=answers.units * len(todo.measured))
    yield replace(samples, units=samples.units * points)
    yield Work(GENERATION, scoring(LogProbs, bf16=native_bf16()), 2 * samples.units * points)  # under model and base
    if experiment.frontier_points:
        yield Work(LOADING, work_names.LOAD, 2 * points)  # each is saved by the training, and loaded to be measured


def points_left(experiment: Experiment, todo: Trained) -> int:
    """Return how many points of the frontier are left, without the last of a training, which has its own samples."""
    if not experiment.frontier_points:
        return 0
    models = sum(name != BASE for name in todo.measured)
    points = models * (experiment.frontier_points - 1) + sum(points_missing(experiment, name) for name in todo.done)
    return points + (points_missing(experiment, BASE) if models or points else 0)


def _of_rounds(experiment: Experiment, judge: Judge | None, todo: Trained) -> Iterator[Work]:
    """Yield the answers that rounds sample, and the verdicts that pair them."""
    if experiment.recipe.rounds is None:
        return
    from prefzoo.experiment import round_views

    due = [experiment.trials[name] for name in todo.left if round_views.is_sampled(experiment, experiment.trials[name])]
    for trial in due:
        sampling, prompts = round_views.sampling_of(experiment, trial), len(experiment.sampled_prompts)
        tokens = sampling.max_new_tokens
        yield Work(GENERATION, answering(prompts, tokens), prompts * sampling.n * tokens)
        if judge is not None and not judge.free and experiment.recipe.rounds.judge is None:
            calls = sampling.n if judge.scores_answers else sampling.n * (sampling.n - 1) // 2
            yield Work(JUDGING, work_names.judging(judge), prompts * calls)


def _of_judging(experiment: Experiment, judge: Judge | None, todo: Trained) -> Iterator[Work]:
    if judge is None or judge.free:
        return
    models, prompts = sum(name != BASE for name in todo.measured), len(experiment.prompts)
    yield Work(JUDGING, work_names.judging(judge), models * prompts)
    sampled = min(prompts, experiment.recipe.evals.kl)
    yield Work(JUDGING, work_names.judging(judge), models * experiment.frontier_points * sampled)
    if experiment.recipe.evals.round_robin:
        yield Work(JUDGING, work_names.judging(judge), models * (models + 1) // 2 * prompts)
