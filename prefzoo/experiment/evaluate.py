"""`prefzoo eval RUN|CHECKPOINT...`: models that are already there, on a suite, under a judge, against one baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from prefzoo.engine import models
from prefzoo.engine.precision import native_bf16
from prefzoo.errors import UserError
from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.provenance import Provenance
from prefzoo.evals.boards.round_robin import as_json, markdown, play, round_robin
from prefzoo.evals.boards.run_files import RESOLVED
from prefzoo.evals.generation.published import is_published, published_answers
from prefzoo.evals.generation.vllm import check_vllm, checkpoint_answers
from prefzoo.evals.judges import load_judge
from prefzoo.evals.judges.protocol import Answer, Judge, PromptRow
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.measure import HeldOut, Measured, measured, run_benchmarks, write_samples
from prefzoo.evals.suites.prompts import load_prompts
from prefzoo.evals.suites.tasks import check_names, is_benchmark
from prefzoo.experiment.stages.judge import check_judgeable, judge_settings, judged
from prefzoo.experiment.stages.measure import kept_answers, say_unavailable
from prefzoo.runtime import atomic_files, run_folders
from prefzoo.runtime.cache import key_of
from prefzoo.runtime.progress import stage

TWO = 2  # what a round robin needs


@dataclass(frozen=True)
class Asked:
    """What the command was asked to do. `suites`: benchmarks, and at most one set of prompts."""

    suites: tuple[str, ...]
    judge: str
    base: str | None
    max_new_tokens: int
    everyone: bool
    out: Path
    engine: str = "hf"


def show_targets(targets: Sequence[Path], asked: Asked, *, quiet: bool = False) -> None:
    """Measure every model, and rank all against the baseline."""
    console, found = Console(emoji=False, quiet=quiet), models_of(targets, asked.base)
    suites = [s for s in asked.suites if is_benchmark(s, Path.cwd())]
    sets = [s for s in asked.suites if s not in suites]
    if len(sets) > 1:
        raise UserError(f"--suite: {' and '.join(sets)} are both sets of prompts; give one, and benchmarks beside it")
    check_names(suites, Path.cwd())
    prompts = load_prompts(sets[0], Path.cwd()) if sets else []
    judge = load_judge(judge_settings(asked.judge), Path.cwd()) if prompts else None
    if judge is not None:
        check_judgeable(judge, prompts, "--judge", "--suite")
    given: dict[str, list[Answer]] = {}
    base = found[leaderboard.BASE]
    if is_published(base):
        if suites or not prompts or asked.engine == "vllm":
            raise UserError(
                f"--base {base}: with a file of answers, models are compared on prompts alone, without --engine vllm; "
                "name a model"
            )
        given[leaderboard.BASE] = published_answers(Path(base), prompts)
    elif prompts and asked.engine == "vllm":
        given = _by_vllm(found, prompts, asked, console)
    numbers = {
        name: _measure(name, spec, prompts, suites, given.get(name), asked, console) for name, spec in found.items()
    }
    if judge is not None:
        numbers = judged(judge, prompts, numbers, asked.out, console)
    for name, m in numbers.items():
        atomic_files.resolve_inside(asked.out, name)
        write_samples(asked.out / name, m)
        run_folders.write_json(asked.out / name / "evals.json", asdict(m))
    on = f"{sets[0]}@{key_of([asdict(p) for p in prompts])}" if sets else ""
    ran = {task: str(b.get("suite", "")) for m in numbers.values() for task, b in m.benchmarks.items()}
    board = leaderboard.build(numbers, {}, Provenance(baseline=leaderboard.BASE, prompts=on, benchmarks=ran))
    board.write(asked.out)
    console = Console(emoji=False)
    board.render(console)
    if judge is not None and asked.everyone and len(numbers) >= TWO:
        _everyone(judge, prompts, numbers, asked.out, console)
    console.print(f"\nEverything is in {asked.out}", soft_wrap=True)


def models_of(targets: Sequence[Path], base: str | None) -> dict[str, str]:
    """What to load, by name: the baseline first, then the checkpoints of runs, and checkpoints by their folders' names.

    The baseline is `base` (a model, or a file of published answers), else the model of the first run, else the first
    checkpoint.

    Raises:
        UserError: a target is neither, or two have one name.
    """
    found: list[tuple[str, str]] = []
    for target in targets:
        if (target / RESOLVED).is_file():
            variants = sorted(
                p.parent.name for p in target.glob("*/checkpoint") if run_folders.has_checkpoint(p.parent)
            )
            if not variants:
                raise UserError(f"{target}: a run without a finished variant; run its recipe first")
            found += [(name, str((target / name / "checkpoint").resolve())) for name in variants]
            base = base or str(yaml.safe_load((target / RESOLVED).read_text(encoding="utf-8"))["model"])
        elif any((target / name).is_file() for name in ("config.json", "adapter_config.json")):
            place = target.resolve()  # `..` has a name too
            found.append((place.parent.name if place.name == "checkpoint" else place.name, str(place)))
        else:
            raise UserError(f"{target}: neither a run's folder ({RESOLVED}) nor a checkpoint (config.json); name one")
    if base is None:
        base, found = found[0][1], found[1:]
    names = [name for name, _ in found]
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1 or n == leaderboard.BASE]
    if twice:
        raise UserError(f"{n}: the name of two targets, or the baseline's own; rename a folder" for n in twice)
    return {leaderboard.BASE: base, **dict(found)}


def _by_vllm(
    found: dict[str, str], prompts: list[PromptRow], asked: Asked, console: Console
) -> dict[str, list[Answer]]:
    check_vllm("--engine")
    with stage("answers by vLLM", "models", console):
        said = [p.prompt for p in prompts]
        return checkpoint_answers(found, leaderboard.BASE, said, max_new_tokens=asked.max_new_tokens)


def _measure(
    name: str, spec: str, prompts: list[PromptRow], suites: list[str], given: list[Answer] | None, asked: Asked,
    console: Console,
) -> Measured:  # fmt: skip
    """All numbers of a model, which is loaded unless its answers are `given` and nothing else is asked."""
    if given is not None and not suites:
        return measured(HeldOut(), prompts, given, Verifier(), {})
    model, tokenizer = _loaded(name, spec, asked)
    same = {
        "weights": models.fingerprint(model), "vocabulary": models.tokenizer_hash(tokenizer), "dtype": str(model.dtype)
    }  # fmt: skip
    answers = given
    if answers is None:
        answers = kept_answers(name, model, tokenizer, prompts, asked.max_new_tokens, same, console)
    benchmarks: dict[str, dict[str, Any]] = {}
    for suite in suites:
        with stage(f"{suite} of {name}", "suites", console):
            benchmarks |= run_benchmarks(model, tokenizer, suite, Path.cwd(), same)
    say_unavailable(benchmarks, console)
    return measured(HeldOut(), prompts, answers, Verifier(), benchmarks)


def _loaded(name: str, spec: str, asked: Asked) -> tuple[Any, Any]:
    try:
        model, tokenizer = models.load(spec, Path.cwd(), dtype=torch.bfloat16 if native_bf16() else torch.float32)
    except UserError as e:
        cure = "; name the baseline by --base" if name == leaderboard.BASE and asked.base is None else ""
        raise UserError(f"{line}{cure}" for line in e.lines) from None
    return (model.to("cuda") if torch.cuda.is_available() else model), tokenizer


def _everyone(
    judge: Judge, prompts: list[PromptRow], numbers: dict[str, Measured], out: Path, console: Console
) -> None:
    answers = {
        name: [Answer(text, done, 0) for text, done in zip(m.answers, m.finished, strict=True)]
        for name, m in numbers.items()
    }
    with stage("every model against every other", "calls", console) as report:
        won, cover = play(judge, prompts, answers, lambda done, total: report(done, total, ""))
    found = round_robin(won, cover)
    table = markdown(found)
    run_folders.write_json(out / "round_robin.json", as_json(found, judge))
    run_folders.write_text(out / "round_robin.md", table)
    console.print(table, markup=False, highlight=False, soft_wrap=True)
