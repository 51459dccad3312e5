"""`prefzoo eval RUN|CHECKPOINT...`: models that are already there, on a suite, under a judge, against one baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import yaml
from rich.console import Console

from evals import leaderboard
from evals.benchmarks import known
from evals.judges.choose import judge_of
from evals.judges.protocol import Answer, Judge, PromptRow
from evals.judges.verifier import Verifier
from evals.measure import Measured, OnPairs, measured, run_benchmarks
from evals.prompts import load_prompts
from evals.results import RESOLVED
from evals.round_robin import as_json, markdown, play, round_robin
from prefzoo import models, runs
from prefzoo.cli.judging import check_judgeable, judge_settings, judged
from prefzoo.cli.measure import kept_answers
from prefzoo.errors import UserError
from prefzoo.progress import stage
from prefzoo.train import native_bf16

TWO = 2  # what a round robin needs


@dataclass(frozen=True)
class Asked:
    """What the command was asked to do. `suite` is a benchmark's name, or names prompts."""

    suite: str
    judge: str
    base: str | None
    max_new_tokens: int
    everyone: bool
    out: Path


def show_targets(targets: Sequence[Path], asked: Asked) -> None:
    """Measure every model, and rank all against the baseline."""
    console, found = Console(emoji=False), models_of(targets, asked.base)
    prompts = [] if asked.suite in known() else load_prompts(asked.suite, Path.cwd())
    judge = judge_of(judge_settings(asked.judge), Path.cwd()) if prompts else None
    if judge is not None:
        check_judgeable(judge, prompts, "--judge", "--suite")
    numbers = {name: _measure(name, spec, prompts, asked, console) for name, spec in found.items()}
    if judge is not None:
        numbers = judged(judge, prompts, numbers, asked.out, console)
    for name, m in numbers.items():
        runs.write_json(asked.out / name / "evals.json", asdict(m))
    board = leaderboard.build(numbers, {})
    board.write(asked.out)
    board.render(console)
    if judge is not None and asked.everyone and len(numbers) >= TWO:
        _everyone(judge, prompts, numbers, asked.out, console)
    console.print(f"\nEverything is in {asked.out}", soft_wrap=True)


def models_of(targets: Sequence[Path], base: str | None) -> dict[str, str]:
    """What to load, by name: the baseline first, then the checkpoints of runs, and checkpoints by their folders' names.

    The baseline is `base`, else the model of the first run, else the first checkpoint.

    Raises:
        UserError: a target is neither, or two have one name.
    """
    found: list[tuple[str, str]] = []
    for target in targets:
        if (target / RESOLVED).is_file():
            variants = sorted(p.parent.name for p in target.glob("*/checkpoint") if runs.has_checkpoint(p.parent))
            if not variants:
                raise UserError(f"{target}: a run without a finished variant; run its recipe first")
            found += [(name, str((target / name / "checkpoint").resolve())) for name in variants]
            base = base or str(yaml.safe_load((target / RESOLVED).read_text(encoding="utf-8"))["model"])
        elif any((target / name).is_file() for name in ("config.json", "adapter_config.json")):
            found.append((target.parent.name if target.name == "checkpoint" else target.name, str(target.resolve())))
        else:
            raise UserError(f"{target}: neither a run's folder ({RESOLVED}) nor a checkpoint (config.json); name one")
    if base is None:
        base, found = found[0][1], found[1:]
    names = [name for name, _ in found]
    twice = [n for n in dict.fromkeys(names) if names.count(n) > 1 or n == leaderboard.BASE]
    if twice:
        raise UserError(f"{n}: the name of two targets, or the baseline's own; rename a folder" for n in twice)
    return {leaderboard.BASE: base, **dict(found)}


def _measure(name: str, spec: str, prompts: list[PromptRow], asked: Asked, console: Console) -> Measured:
    try:
        model, tokenizer = models.load(spec, Path.cwd(), dtype=torch.bfloat16 if native_bf16() else torch.float32)
    except UserError as e:
        cure = "; name the baseline by --base" if name == leaderboard.BASE and asked.base is None else ""
        raise UserError(f"{line}{cure}" for line in e.lines) from None
    if torch.cuda.is_available():
        model = model.to("cuda")
    same = {
        "weights": models.fingerprint(model), "vocabulary": models.vocabulary(tokenizer), "dtype": str(model.dtype)
    }  # fmt: skip
    answers = kept_answers(name, model, tokenizer, prompts, asked.max_new_tokens, same, console)
    benchmarks: dict[str, dict[str, float]] = {}
    if not prompts:
        with stage(f"{asked.suite} of {name}", "suites", console):
            benchmarks = run_benchmarks(model, tokenizer, [asked.suite])
    return measured(OnPairs(), prompts, answers, Verifier(), benchmarks)


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
    runs.write_json(out / "round_robin.json", as_json(found, judge))
    runs.write_text(out / "round_robin.md", table)
    console.print(table, markup=False, highlight=False, soft_wrap=True)
