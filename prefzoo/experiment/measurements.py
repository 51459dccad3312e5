"""Measure a few steps, tokens and documents on this machine, to estimate the time of a whole run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from prefzoo.data.tokens import TokenExample
from prefzoo.engine import reference_logprobs
from prefzoo.engine.base_model import load_policy
from prefzoo.engine.precision import native_bf16
from prefzoo.errors import UserError, VariantFailed
from prefzoo.evals.generation.batches import prompts_together
from prefzoo.evals.generation.generate import generate
from prefzoo.evals.judges.causal import CausalJudge
from prefzoo.evals.judges.protocol import Answer, Comparison, Judge
from prefzoo.evals.judges.reward import RewardJudge
from prefzoo.evals.suites.benchmarks import seconds_for_all
from prefzoo.experiment.base_room import make_room
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.work_names import answering, benchmarking, judging, scoring, tokens_of, training, without_hash
from prefzoo.experiment.works import together
from prefzoo.runtime.memory import is_out_of_memory
from prefzoo.runtime.progress import Note, stage
from prefzoo.runtime.rates import thread_clock
from prefzoo.training.job import Job, with_reference, with_twin
from prefzoo.training.loop import train
from prefzoo.training.member import Member
from prefzoo.training.passes import Passes
from prefzoo.types import LogProbs, VocabLogProbs

STEPS, STEP_SECONDS = 2, 3.0  # of a measured training, of which the last step counts; and what a step may take
SCORED, SHORT = 2048, 5  # tokens that are scored; tokens of an answer beyond the first
TRIES = ("One answer.", "Another answer, which is a little longer.")


@dataclass(frozen=True)
class Measurement:
    """The inputs of a short measurement.

    Attributes:
        experiment: the run's.
        judge: its judge.
        jobs: of the trials that are to be trained.
        tokens_per_second: the rough speed of training here, which bounds the size of a measured step.
    """

    experiment: Experiment
    judge: Judge | None
    jobs: dict[str, Job]
    tokens_per_second: float

    def take(self, works: Sequence[str]) -> None:
        """Measure works of unknown time, and store their times; works that cannot be measured are left out.

        Afterwards the base is in memory only if it has room there.
        """
        experiment, makers = self.experiment, self._makers()
        todo = [work for work in works if work in makers]
        if not todo:
            return
        make_room(experiment, [experiment.trials[name] for name in self.jobs])
        with stage("measuring this machine", "measurements", experiment.console) as report:
            for number, work in enumerate(todo):
                try:
                    seconds, units = makers[work]()
                except Exception as e:
                    if not (isinstance(e, UserError | VariantFailed | OSError) or is_out_of_memory(e)):
                        raise
                else:
                    experiment.rates.record(work, seconds, units, "trial")
                report(number + 1, len(todo), without_hash(work))
        experiment.base.release()

    def _makers(self) -> dict[str, Callable[[], tuple[float, float]]]:
        """Return how each work is measured, by its name; trainings first, which need the base in full precision."""
        experiment, evals = self.experiment, self.experiment.recipe.evals
        makers: dict[str, Callable[[], tuple[float, float]]] = {}
        for name, count in together(self.jobs).items():
            makers[training(self.jobs[name], count)] = partial(self._training, name)
        for kind in (LogProbs, VocabLogProbs):
            for bf16 in {native_bf16(), *(job.bf16 for job in self.jobs.values())}:
                makers[scoring(kind, bf16=bf16)] = partial(self._scoring, kind, bf16=bf16)
        for prompts in {min(evals.kl, len(experiment.prompts)), len(experiment.prompts)} - {0}:
            makers[answering(prompts, evals.max_new_tokens)] = partial(self._answers, prompts)
        for suite in evals.benchmarks:
            makers[benchmarking(suite, experiment.recipe.folder)] = partial(self._benchmark, suite)
        if isinstance(self.judge, CausalJudge | RewardJudge):
            makers[judging(self.judge)] = self._judge
        return makers

    def _training(self, name: str) -> tuple[float, float]:
        """Train for some steps with the trial's own settings, on a batch that takes only seconds."""
        experiment, job = self.experiment, self.jobs[name]
        rows = _rows(experiment.pairs, self.tokens_per_second * STEP_SECONDS, job.train.batch)
        settings = job.train.model_copy(
            update={"batch": len(rows), "micro_batch": None, "steps": STEPS, "trackers": [], "side_by_side": "off"}
        )
        job = replace(
            job, train=settings, pairs=rows, pair_weights=None, other_reference=""
        )  # neither changes the time

        def frozen(pairs: Sequence[TokenExample], _: str, kind: type[LogProbs], passes: list[Passes]) -> LogProbs:
            return reference_logprobs.logprobs(
                experiment.base.model, pairs, job.layout, kind, bf16=job.bf16, passes=passes[0]
            )

        job = with_reference(job, experiment.base, frozen)
        if job.live is None:
            experiment.base.release()
        load = partial(experiment.load_base, anew=True)  # so that its time is known, too
        model = load_policy(load, settings, bf16=job.bf16, seed=job.seed)
        job = with_twin(job, model)
        times: list[float] = []

        def report(done: int, total: int, note: Note) -> None:
            times.append(thread_clock())

        with tempfile.TemporaryDirectory() as folder:
            member = Member(job, Path(folder) / "metrics.jsonl")
            train([member], model, report)
        if member.failed is not None:
            raise member.failed
        return times[-1] - times[-2], tokens_of(rows)

    def _scoring(self, kind: type[LogProbs], *, bf16: bool) -> tuple[float, float]:
        experiment = self.experiment
        rows = _rows(experiment.pairs, min(SCORED, self.tokens_per_second * STEP_SECONDS), len(experiment.pairs))
        for some in (rows[:1], rows):  # kernels are made ready by the first row
            start = thread_clock()
            reference_logprobs.logprobs(experiment.base.model, some, experiment.layout, kind, bf16=bf16)
        return thread_clock() - start, tokens_of(rows)

    def _answers(self, prompts: int) -> tuple[float, float]:
        """Generate a few tokens: the first takes the time of reading the prompts, all others the same."""
        experiment, longest = self.experiment, self.experiment.recipe.evals.max_new_tokens
        model = experiment.base.answering
        batch = [row.prompt for row in experiment.prompts[: min(prompts, prompts_together(model.device.type))]]
        took: dict[int, float] = {}
        for tokens in (1, 1, min(longest, 1 + SHORT)):  # kernels are made ready by the first
            start = thread_clock()
            variables = experiment.recipe.data.chat_template_kwargs
            generate(model, experiment.tokenizer, batch, max_new_tokens=tokens, variables=variables)
            took[tokens] = thread_clock() - start
        each = (took[max(took)] - took[1]) / max(1, max(took) - 1)
        return took[1] + max(0.0, each) * (longest - 1), len(batch) * longest

    def _benchmark(self, suite: str) -> tuple[float, float]:
        experiment, model = self.experiment, self.experiment.base.answering
        return seconds_for_all(model, experiment.tokenizer, suite, folder=experiment.recipe.folder), 1

    def _judge(self) -> tuple[float, float]:
        assert self.judge is not None
        first, second = (Answer(text, True, len(text.split())) for text in TRIES)
        comparisons = [Comparison(row, first, second) for row in self.experiment.prompts[:2]]
        start = thread_clock()
        self.judge.compare(comparisons)
        return thread_clock() - start, len(comparisons)


def _rows(examples: Sequence[TokenExample], tokens: float, most: int) -> list[TokenExample]:
    """Return the first rows with so many tokens in all, at least one and at most `most`."""
    rows: list[TokenExample] = []
    for example in examples[:most]:
        if rows and tokens_of([*rows, example]) > tokens:
            break
        rows.append(example)
    return rows
