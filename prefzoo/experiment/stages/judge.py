"""The judge stage: compare every model's answers with the base's, and write AlpacaEval's files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.evals.boards.round_robin import as_json, markdown, play, round_robin
from prefzoo.evals.judges.coverage import coverage
from prefzoo.evals.judges.protocol import Answer, Comparison, Judge, PromptRow, Verdict
from prefzoo.evals.judges.rows import annotation_rows, drawn_of, games_of, output_rows, panel_of
from prefzoo.evals.metrics.measure import Measured
from prefzoo.recipe.judge import TAG, AnyJudge, as_written
from prefzoo.runtime import run_folders
from prefzoo.runtime.measuring_time import timed
from prefzoo.runtime.plugins import RAISED, describe_error
from prefzoo.runtime.progress import Report as StageReport
from prefzoo.runtime.progress import stage
from prefzoo.runtime.run_folders import BASE

PAIR = 2  # what a round robin takes at least


def judge_settings(text: str) -> Any:
    """Read a judge's settings from an option: a name, a function, or a mapping in YAML, as `evals.judge` takes them.

    Raises:
        UserError: it is none of these.
    """
    value: Any = None
    try:
        value = yaml.safe_load(text)
        return TypeAdapter(AnyJudge).validate_python(value)
    except (ValidationError, yaml.YAMLError) as e:
        first = e.errors(include_url=False)[0] if isinstance(e, ValidationError) else {"loc": (), "msg": "not YAML"}
        keys = [str(part) for part in first["loc"] if not str(part).startswith(TAG)]
        place = ".".join(as_written(keys, value))
        says = f"--judge: {place + ': ' if place else ''}{first['msg']}"
        raise UserError(f"{says}; write verifier, my_judge.py:better, or a mapping as in a recipe") from None


def judge_models(
    judge: Judge, prompts: Sequence[PromptRow], numbers: dict[str, Measured], folder: Path, console: Console
) -> dict[str, Measured]:
    """Judge every model's answers against the base's, and write `model_outputs.json` and `annotations.json` of each.

    Args:
        judge: who judges.
        prompts: P prompts; without any, nothing is judged.
        numbers: of the base and the models, by name, with P answers each.
        folder: in which each model has a folder.
        console: where progress goes.

    Returns:
        The numbers, with the judge's P preferences.
    """
    if not prompts:
        return numbers
    answers = {name: _answers(m) for name, m in numbers.items()}
    base = answers[BASE]
    for name, own in answers.items():
        run_folders.write_json(folder / name / "model_outputs.json", output_rows(prompts, own, name))
    out = {BASE: numbers[BASE]}
    asked = {
        name: [Comparison(*three) for three in zip(prompts, base, own, strict=True)]
        for name, own in answers.items()
        if name not in out
    }
    forecast = _forecast(judge, [c for comparisons in asked.values() for c in comparisons])
    if forecast:
        console.print(forecast, soft_wrap=True, markup=False, emoji=False)
    for name, comparisons in asked.items():
        paid = 0 if judge.free else len(comparisons)  # a free judge takes no time worth a record
        with (
            stage(f"judging {name}", "calls", console, variant=name, activity="judging") as report,
            timed(folder / name, "verdicts", paid),
        ):
            verdicts = verdicts_of(judge, comparisons, report)
        cover = coverage(verdicts)
        if cover.missing:
            console.print(f"{name}: {cover.summary()}", soft_wrap=True, markup=False, emoji=False)
        rows = annotation_rows(comparisons, verdicts, judge, BASE, name)
        run_folders.write_json(folder / name / "annotations.json", rows)
        preferences = [None if v.missing or cover.withheld else v.preference for v in verdicts]
        out[name] = replace(
            numbers[name],
            preferences=preferences,
            missing=cover.missing,
            why_missing=cover.summary(),
            judge=judge.name,
            prompt_hash=judge.prompt_hash,
            panel=panel_of([row.get("preference_by_judge") or {} for row in rows]),
            games=games_of(preferences, [v.orders for v in verdicts]) if judge.graded else [],
            drawn=drawn_of(rows, withheld=cover.withheld),
        )
    return out


def play_round_robin(
    judge: Judge, prompts: Sequence[PromptRow], numbers: dict[str, Measured], folder: Path, console: Console, *,
    asked: bool,
) -> str:  # fmt: skip
    """Judge every model against every other, and write `round_robin.json`.

    A free judge (the verifier) always runs, other judges only on request.

    Args:
        judge: who judges.
        prompts: P prompts.
        numbers: of all models, by name, with P answers each.
        folder: the run's.
        console: where progress goes.
        asked: whether the recipe asks for it.

    Returns:
        The table in Markdown; empty if no judge ran.
    """
    if not prompts or len(numbers) < PAIR or not (asked or judge.free):
        return ""
    answers = {name: _answers(m) for name, m in numbers.items()}
    try:
        with stage("every model against every other", "calls", console) as report:
            won, cover = play(judge, prompts, answers, lambda done, total: report(done, total, ""))
    except UserError as e:  # the board is useful without it
        return f"Round robin: {'; '.join(e.lines)}\n"
    except RAISED as e:
        return f"Round robin: {describe_error(e)}\n"
    if cover.withheld:
        return f"Round robin: {cover.summary()}.\n"
    played = round_robin(won, cover)
    run_folders.write_json(folder / "round_robin.json", as_json(played, judge))
    return markdown(played)


def verdicts_of(judge: Judge, comparisons: list[Comparison], stage_report: StageReport) -> list[Verdict]:
    """Return a judge's verdicts; if it cannot judge at all, all are missing.

    After an expensive training, a board without the judge's number is useful; the same command asks the judge again.

    Args:
        judge: who judges.
        comparisons: what is compared.
        stage_report: takes the progress.

    Returns:
        A verdict for each comparison.
    """
    try:
        verdicts = judge.compare(comparisons, lambda done, total: stage_report(done, total, ""))
    except UserError as e:
        reason = "; ".join(e.lines)
    except RAISED as e:  # a package's judge may raise anything
        reason = describe_error(e)
    else:
        if len(verdicts) == len(comparisons):
            return verdicts
        reason = f"judge {judge.name} gave {len(verdicts)} verdicts for {len(comparisons)} comparisons"
    return [Verdict(math.nan, (), reason)] * len(comparisons)


def _forecast(judge: Judge, comparisons: list[Comparison]) -> str:
    try:
        return judge.forecast(comparisons)
    except RAISED as e:  # it is not worth the run
        return f"{judge.name} makes no forecast: {describe_error(e)}"


def _answers(m: Measured) -> list[Answer]:
    return [Answer(text, finished, 0) for text, finished in zip(m.answers, m.finished, strict=True)]
