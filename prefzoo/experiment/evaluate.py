"""Measure existing models on suites, under a judge, against one baseline, as `prefzoo eval` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from prefzoo.data.chat import with_variables
from prefzoo.engine import models
from prefzoo.engine.precision import answering_key, native_bf16
from prefzoo.errors import UserError
from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.cautions import Setting, cautions
from prefzoo.evals.boards.leaderboard import Leaderboard
from prefzoo.evals.boards.provenance import Provenance
from prefzoo.evals.boards.round_robin import as_json, markdown, play, round_robin
from prefzoo.evals.boards.run_files import EVALUATION
from prefzoo.evals.generation.published import is_published, published_answers
from prefzoo.evals.generation.vllm import check_vllm, checkpoint_answers
from prefzoo.evals.judges import load_judge
from prefzoo.evals.judges.protocol import Answer, Judge, PromptRow
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.measure import HeldOut, Measured, measured, run_benchmarks, write_samples
from prefzoo.evals.suites.prompts import check_rendered, load_prompts
from prefzoo.evals.suites.tasks import check_names, is_benchmark
from prefzoo.experiment.labels import labels_of_option, with_labels
from prefzoo.experiment.recipe_judge import check_judgeable
from prefzoo.experiment.stages.answers import cached_answers
from prefzoo.experiment.stages.judge import judge_models, judge_settings
from prefzoo.experiment.stages.measure import report_unavailable
from prefzoo.runtime import atomic_files, run_folders
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.paths import OUT_CURE, check_writable
from prefzoo.runtime.progress import stage
from prefzoo.runtime.run_folders import BASE, RESOLVED

TEMPLATE_OPTION = "--chat-template-kwargs"
PAIR = 2  # what a round robin takes at least


@dataclass(frozen=True)
class Evaluation:
    """A request to evaluate models.

    Attributes:
        targets: folders of runs and of checkpoints.
        suites: benchmarks, and at most one set of prompts.
        judge: as `evals.judge` in a recipe, or as a mapping in YAML.
        base: the baseline: a model, or a file of published answers; None: the first run's model, or first checkpoint.
        max_new_tokens: of an answer.
        round_robin: whether every model is also judged against every other.
        out: folder for the results.
        engine: what generates answers: `hf` or `vllm`.
        variables: of the chat template; None: those of the recipes that the targets were trained by.
        equivalence: largest difference that counts as equal, in percentage points; None to test no equality.
        judge_labels: file of pairs labelled by people; None for none.
    """

    targets: tuple[Path, ...]
    suites: tuple[str, ...]
    judge: str
    base: str | None
    max_new_tokens: int
    round_robin: bool
    out: Path
    engine: str = "hf"
    variables: Mapping[str, Any] | None = None
    equivalence: float | None = None
    judge_labels: str | None = None


@dataclass(frozen=True)
class Evaluated:
    """The results.

    Attributes:
        models: a line for each model: its name on the board, and its source.
        board: the board.
        round_robin: the table of every model against every other, in Markdown; empty unless asked for.
        failing: whether the judge or a metric gave no number.
    """

    models: tuple[str, ...]
    board: Leaderboard
    round_robin: str = ""
    failing: bool = False

    @property
    def alone(self) -> bool:
        """Whether there was no baseline to compare with."""
        return BASE not in self.board.order


def evaluate(asked: Evaluation, console: Console) -> Evaluated:
    """Measure every model, and rank all against the baseline; everything is written to the folder for results.

    Raises:
        UserError: a target, a suite or the judge is wrong, or they do not fit each other.
    """
    check_writable(asked.out, "--out", OUT_CURE)
    asked = replace(asked, variables=variables_of(asked.targets) if asked.variables is None else asked.variables)
    specs = models_of(asked.targets, asked.base)
    suites, prompt_sets = _check_suites(asked.suites)
    prompts = load_prompts(prompt_sets[0], Path.cwd(), console.print) if prompt_sets else []
    judge = load_judge(judge_settings(asked.judge), Path.cwd()) if prompts and BASE in specs else None
    if judge is not None:
        check_judgeable(judge, prompts, "--judge", "--suite")
        judge.check()
    labels = labels_of_option(asked.judge_labels, prompts, console, judged=judge is not None)
    given = _answers_elsewhere(specs, prompts, suites, asked, console)
    numbers = {
        name: _measure(name, spec, prompts, suites, given.get(name), asked, console) for name, spec in specs.items()
    }
    if judge is not None:
        numbers = judge_models(judge, prompts, numbers, asked.out, console)
        numbers = with_labels(judge, labels, prompts, numbers, asked.out, console)
    for name, one in numbers.items():
        atomic_files.resolve_inside(asked.out, name)
        write_samples(asked.out / name, one)
        run_folders.write_json(asked.out / name / "evals.json", asdict(one))
    models = tuple(f"{name}: {spec}" for name, spec in specs.items())
    _write_request(asked, specs, prompt_sets, suites)
    source = f"{prompt_sets[0]}@{key_of([asdict(p) for p in prompts])}" if prompt_sets else ""
    tasks = {task: str(b.get("suite", "")) for one in numbers.values() for task, b in one.benchmarks.items()}
    baseline = BASE if BASE in specs else ""
    board = leaderboard.build(numbers, {}, Provenance(baseline=baseline, prompts=source, benchmarks=tasks),
                              points=asked.equivalence)  # fmt: skip
    board = replace(board, cautions=cautions(numbers, Setting(asked.max_new_tokens)))
    board.write(asked.out)
    failing = bool(board.faults) or any(one.withheld for one in numbers.values())
    if judge is None or not asked.round_robin or len(numbers) < PAIR:
        return Evaluated(models, board, failing=failing)
    return Evaluated(models, board, _play_round_robin(judge, prompts, numbers, asked.out, console), failing)


def _write_request(asked: Evaluation, specs: dict[str, str], prompt_sets: Sequence[str], suites: Sequence[str]) -> None:
    """Write the request in the form of a recipe, so that `prefzoo report` reads the folder like a run's."""
    evals = {
        "prompts": next(iter(prompt_sets), None), "judge": asked.judge, "max_new_tokens": asked.max_new_tokens,
        "benchmarks": list(suites), "equivalence": asked.equivalence, "judge_labels": asked.judge_labels,
    }  # fmt: skip
    request = {
        "name": asked.out.resolve().name,
        "model": specs.get(BASE, "no baseline"),
        "data": {
            "train": "none: the models existed already",
            "chat_template_kwargs": dict(asked.variables or {}),
        },
        "evals": evals,
        "variants": {name: {"checkpoint": spec} for name, spec in specs.items() if name != BASE},
    }
    run_folders.write_text(asked.out / EVALUATION, yaml.safe_dump(request, sort_keys=False, allow_unicode=True))


def _check_suites(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return benchmarks, and sets of prompts, of which there is at most one."""
    suites = [name for name in names if is_benchmark(name, Path.cwd())]
    prompt_sets = [name for name in names if name not in suites]
    if len(prompt_sets) > 1:
        both = " and ".join(prompt_sets)
        raise UserError(f"--suite: {both} are both sets of prompts; give one, and any benchmarks")
    check_names(suites, Path.cwd())
    return suites, prompt_sets


def _answers_elsewhere(
    specs: dict[str, str], prompts: list[PromptRow], suites: list[str], asked: Evaluation, console: Console
) -> dict[str, list[Answer]]:
    """Return answers that this process does not generate: a published baseline's, or all of them by vLLM."""
    base = specs.get(BASE, "")
    if is_published(base):
        if suites or not prompts or asked.engine == "vllm":
            raise UserError(
                f"--base {base}: with a file of answers, models are compared only on prompts, without --engine vllm; "
                f"name a model"
            )
        return {BASE: published_answers(Path(base), prompts)}
    if not prompts or asked.engine != "vllm":
        return {}
    check_vllm("--engine")
    with stage("answers by vLLM", "models", console):
        texts = [p.prompt for p in prompts]
        return checkpoint_answers(
            specs, BASE, texts, max_new_tokens=asked.max_new_tokens, variables=asked.variables
        )  # fmt: skip


def models_of(targets: Sequence[Path], base: str | None) -> dict[str, str]:
    """Return the models to load, by name: the baseline, the checkpoints of runs, and checkpoints by their folders'
    names.

    The baseline is `base` (a model, or a file of published answers), else the model of the first run, else the first of
    several checkpoints. A single checkpoint has none, and is measured under its own name.

    Raises:
        UserError: a target is neither, or two have one name.
    """
    specs: list[tuple[str, str]] = []
    for target in targets:
        if (target / RESOLVED).is_file():
            variants = sorted(
                p.parent.name for p in target.glob("*/checkpoint") if run_folders.has_checkpoint(p.parent)
            )
            removed = {p.parent.name: run_folders.why_removed(p.parent) for p in sorted(target.glob("*/checkpoint"))}
            gone = [f"{target / name}: {why}" for name, why in removed.items() if why]
            if gone:  # leaving them out without a message would look as if nobody had asked for them
                raise UserError([*gone, f"{target}: name the RUN/VARIANT/checkpoint of finished variants"])
            if not variants:
                raise UserError(f"{target}: a run without a finished variant; run its recipe first")
            specs += [(name, str((target / name / "checkpoint").resolve())) for name in variants]
            base = base or str(yaml.safe_load((target / RESOLVED).read_text(encoding="utf-8"))["model"])
        elif any((target / name).is_file() for name in ("config.json", "adapter_config.json")):
            path = target.resolve()  # `..` has a name too
            specs.append((path.parent.name if path.name == "checkpoint" else path.name, str(path)))
        else:
            raise UserError(f"{target}: neither a run's folder ({RESOLVED}) nor a checkpoint (config.json); name one")
    if base is None and len(specs) > 1:
        base, specs = specs[0][1], specs[1:]
    names = [name for name, _ in specs]
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1 or n == BASE]
    if twice:
        raise UserError(f"{n}: the name of two targets, or of the baseline; rename a folder" for n in twice)
    return {**({BASE: base} if base is not None else {}), **dict(specs)}


def _measure(
    name: str, spec: str, prompts: list[PromptRow], suites: list[str], given: list[Answer] | None, asked: Evaluation,
    console: Console,
) -> Measured:  # fmt: skip
    """Return all numbers of a model, which is loaded unless its answers are `given` and nothing else is measured."""
    if given is not None and not suites:
        return measured(HeldOut(), prompts, given, Verifier(), {})
    model, tokenizer = _loaded(name, spec, asked)
    same = {
        "weights": models.fingerprint(model), "vocabulary": models.tokenizer_hash(tokenizer),
        "dtype": answering_key(model.dtype),
    }  # fmt: skip
    check_rendered(prompts, tokenizer, asked.variables or {}, "--suite")
    answers = given
    if answers is None:
        answers = cached_answers(name, model, tokenizer, prompts, asked.max_new_tokens, same, console)
    benchmarks: dict[str, dict[str, Any]] = {}
    for suite in suites:
        with stage(f"{suite} of {name}", "suites", console):
            benchmarks |= run_benchmarks(model, tokenizer, suite, Path.cwd(), same)
    report_unavailable(benchmarks, console)
    return measured(HeldOut(), prompts, answers, Verifier(), benchmarks)


def _loaded(name: str, spec: str, asked: Evaluation) -> tuple[Any, Any]:
    try:
        model, tokenizer = models.load(spec, Path.cwd(), dtype=torch.bfloat16 if native_bf16() else torch.float32)
    except UserError as e:
        cure = "; name the baseline by --base" if name == BASE and asked.base is None else ""
        raise UserError(f"{line}{cure}" for line in e.lines) from None
    tokenizer = with_variables(tokenizer, asked.variables or {}, TEMPLATE_OPTION)
    return (model.to("cuda") if torch.cuda.is_available() else model), tokenizer


def variables_of(targets: Sequence[Path]) -> dict[str, Any]:
    """Return the chat template's variables in the recipes of the runs that targets are, or are of; empty without any.

    Raises:
        UserError: the runs have different ones.
    """
    known: dict[str, tuple[Path, dict[str, Any]]] = {}
    for target in targets:
        file = next((p / RESOLVED for p in (target, *target.resolve().parents[:2]) if (p / RESOLVED).is_file()), None)
        recipe = yaml.safe_load(file.read_text(encoding="utf-8")) if file else {}
        variables = (recipe.get("data") or {}).get("chat_template_kwargs") or {}
        known.setdefault(key_of(variables), (target, variables))
    if len(known) > 1:
        (one, first), (other, second), *_ = known.values()
        raise UserError(
            f"eval: data.chat_template_kwargs is {first} in the run of {one}, and {second} in that of {other}; "
            f"evaluate one after the other, or give {TEMPLATE_OPTION}"
        )
    return next((variables for _, variables in known.values()), {})


def _play_round_robin(
    judge: Judge, prompts: list[PromptRow], numbers: dict[str, Measured], out: Path, console: Console
) -> str:
    answers = {
        name: [Answer(text, done, 0) for text, done in zip(one.answers, one.finished, strict=True)]
        for name, one in numbers.items()
    }
    with stage("every model against every other", "calls", console) as report:
        won, cover = play(judge, prompts, answers, lambda done, total: report(done, total, ""))
    played = round_robin(won, cover)
    table = markdown(played)
    run_folders.write_json(out / "round_robin.json", as_json(played, judge))
    run_folders.write_text(out / "round_robin.md", table)
    return table
