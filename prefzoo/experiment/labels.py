"""Have a recipe's judge compare pairs labelled by people, beside its own comparisons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from prefzoo.data.reading import DataSource
from prefzoo.errors import UserError
from prefzoo.evals.boards.run_files import LABELS
from prefzoo.evals.judges.coverage import coverage
from prefzoo.evals.judges.protocol import TIE, Comparison, Judge, PromptRow, Verdict
from prefzoo.evals.metrics.judge_quality import LabelledPair
from prefzoo.evals.metrics.measure import Measured
from prefzoo.experiment.labelled_pairs import LabelledPairs, read_labelled
from prefzoo.recipe.load import Recipe
from prefzoo.runtime import run_folders
from prefzoo.runtime.plugins import RAISED, describe_error
from prefzoo.runtime.progress import stage

FIELD = "evals.judge_labels"
OTHER_PROMPTS = "about other prompts than evals.prompts"
COLUMNS = "; name yours, like data.columns"  # the cure for training data, whose names of columns a recipe may give
NONE_LEFT = "; fix the rows, or name the data.format"


def recipe_labels(recipe: Recipe, prompts: Sequence[PromptRow]) -> LabelledPairs:
    """Return the labelled pairs of a recipe, none if it names none, or there are no prompts.

    Raises:
        UserError: as `labels_of`.
    """
    spec = recipe.evals.judge_labels
    return labels_of(spec, recipe.folder, prompts) if spec and prompts else LabelledPairs()


def labels_of(spec: str, folder: Path, prompts: Sequence[PromptRow]) -> LabelledPairs:
    """Read the labelled pairs of `evals.judge_labels`; those whose prompt is not among the recipe's are left out.

    Args:
        spec: a file or data set of any format.
        folder: what a path in it is relative to.
        prompts: the recipe's.

    Returns:
        The pairs, each with the recipe's own row of its prompt.

    Raises:
        UserError: it cannot be read, or none of its prompts is among the recipe's.
    """
    try:
        labelled = read_labelled(DataSource(spec), folder)
    except UserError as e:
        raise UserError(f"{FIELD}: {_with_cure(line)}" for line in e.lines) from None
    by_text = {row.text.strip(): row for row in prompts}
    pairs = labelled.pairs
    kept = [replace(p, row=by_text[p.row.text.strip()]) for p in pairs if p.row.text.strip() in by_text]
    if not kept:
        raise UserError(
            f"{FIELD}: {spec}: none of its {len(pairs)} pairs has a prompt of evals.prompts, and on other prompts "
            "the judge may err differently; label answers to these prompts, like those in annotations.json"
        )
    others = {OTHER_PROMPTS: len(pairs) - len(kept)} if len(kept) < len(pairs) else {}
    return LabelledPairs(kept, {**labelled.left_out, **others})


def _with_cure(line: str) -> str:
    """Return a data set's fault, with a cure for labelled pairs instead of one for training data."""
    cures = {
        COLUMNS: "rename them to prompt, chosen and rejected",
        NONE_LEFT: "label pairs of which one answer is better",
    }
    cure = next((known for known in cures if known in line), None)
    return line if cure is None else f"{line.partition(cure)[0]}; {cures[cure]}"


def labels_of_option(
    spec: str | None, prompts: Sequence[PromptRow], console: Console, *, judged: bool
) -> LabelledPairs:
    """Read the labelled pairs of `--judge-labels`; a line says how many are left out, and why.

    Args:
        spec: a file or data set of any format; None for none.
        prompts: those of `--suite`.
        console: where the line goes.
        judged: whether a judge compares answers.

    Returns:
        The pairs, none without a file.

    Raises:
        UserError: as `labels_of`, or nothing is judged.
    """
    if spec is None:
        return LabelledPairs()
    if not judged:
        raise UserError("--judge-labels: nothing is judged; name prompts by --suite, and several models or --base")
    try:
        labels = labels_of(spec, Path.cwd(), prompts)
    except UserError as e:
        raise UserError(_of_option(line) for line in e.lines) from None
    for line in labels.losses():
        console.print(_of_option(f"{FIELD}: {line}"), soft_wrap=True, markup=False, emoji=False)
    return labels


def _of_option(line: str) -> str:
    """Return a line about the fields of a recipe with the options of a command in their place."""
    return line.replace(FIELD, "--judge-labels").replace("evals.prompts", "--suite")


def with_labels(
    judge: Judge, labelled: LabelledPairs, prompts: Sequence[PromptRow], numbers: Mapping[str, Measured],
    folder: Path, console: Console,
) -> dict[str, Measured]:  # fmt: skip
    """Have the judge compare labelled pairs, and write `judge_labels.json` of each model.

    Args:
        judge: who judged the models' answers.
        labelled: as `labels_of` returns them; without any, what an earlier run wrote is removed.
        prompts: P prompts.
        numbers: of the base and the models, by name, with P answers each.
        folder: in which each model has a folder.
        console: where progress goes.

    Returns:
        The numbers with the judge's and the people's verdicts on the pairs; the base's are unchanged.
    """
    pairs = labelled.pairs
    models = [name for name in numbers if name != run_folders.BASE]
    if not pairs:
        for name in models:
            (folder / name / LABELS).unlink(missing_ok=True)
        return dict(numbers)
    place = {row.id: i for i, row in enumerate(prompts)}
    verdicts = _verdicts(judge, pairs, console)
    cover = coverage(verdicts)
    fault = f"{cover.summary()}; fix the judge" if cover.withheld else _own_verdicts(judge, pairs, verdicts)
    labels = [
        [place[p.row.id], v.preference - 1, _human(p)] for p, v in zip(pairs, verdicts, strict=True) if not v.missing
    ]
    out, base = dict(numbers), numbers[run_folders.BASE]
    for name in models:
        about: dict[str, Any] = {
            "human": _of_model(numbers[name].answers, base.answers, pairs, place),
            "labels": [] if fault else labels,
            "labels_fault": fault,
            "labels_left_out": dict(labelled.left_out),
        }
        run_folders.write_json(folder / name / LABELS, about)
        out[name] = replace(numbers[name], **about)
    return out


def _human(pair: LabelledPair) -> float:
    return 0.5 if pair.tie else 1.0


def _own_verdicts(judge: Judge, pairs: Sequence[LabelledPair], verdicts: Sequence[Verdict]) -> str:
    """Return a warning if the labels are the judge's own verdicts; else an empty text."""
    stated = [(p, np.sign(v.preference - TIE)) for p, v in zip(pairs, verdicts, strict=True) if not v.missing]
    if any(p.annotator != judge.name or won != float(not p.tie) for p, won in stated):
        return ""
    return (
        f"these are the judge's own verdicts (the annotator is {judge.name}, and it agrees with each), so they show "
        "none of its errors; correct them by hand, and write your name as the annotator"
    )


def _verdicts(judge: Judge, pairs: Sequence[LabelledPair], console: Console) -> list[Verdict]:
    """Return a verdict for each pair, the rejected answer first; all are missing if the judge cannot judge at all."""
    comparisons = [Comparison(p.row, p.rejected, p.chosen) for p in pairs]
    try:
        with stage(f"judging {len(pairs)} labelled pairs", "calls", console) as report:
            return judge.compare(comparisons, lambda done, total: report(done, total, ""))
    except UserError as e:
        reason = "; ".join(e.lines)
    except RAISED as e:  # a package's judge may raise anything
        reason = describe_error(e)
    return [Verdict(math.nan, (), reason)] * len(pairs)


def _of_model(
    answers: Sequence[str], base: Sequence[str], pairs: Sequence[LabelledPair], place: Mapping[str, int]
) -> list[float | None]:
    """Return people's mean preference for the model's answer to each prompt; None if it has no label."""
    given: dict[int, list[float]] = {}
    for p in pairs:
        at = place[p.row.id]
        mine, others, two = answers[at].strip(), base[at].strip(), (p.chosen.text.strip(), p.rejected.text.strip())
        if mine != others and two in ((mine, others), (others, mine)):
            given.setdefault(at, []).append(0.5 if p.tie else float(two[0] == mine))
    return [sum(given[i]) / len(given[i]) if i in given else None for i in range(len(answers))]
