"""`prefzoo judge`: how far a recipe's judge can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.console import Console

from prefzoo.data.examples import Example, Pair, Text
from prefzoo.data.faults import Faults
from prefzoo.data.reading import DataSource, Mixture, read_source
from prefzoo.data.rows import Row
from prefzoo.errors import UserError
from prefzoo.evals.judges import load_judge
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow
from prefzoo.evals.metrics.judge_quality import LabelledPair, Quality, quality
from prefzoo.evals.stats.intervals import Estimate
from prefzoo.experiment.data import source_of
from prefzoo.recipe import load as recipes
from prefzoo.runtime import run_folders
from prefzoo.runtime.paths import OUT_CURE, check_writable
from prefzoo.runtime.progress import stage

NUMBERS = (
    ("agreement", "agrees with the label"),
    ("flips", "winner flips when answers swap"),
    ("first_position", "first position wins"),
    ("longer_wins", "longer answer wins"),
    ("longer_is_better", "longer answer is the labelled one"),
)


def show_judge(
    path: Path, overrides: Sequence[str], pairs: str | None, out: Path | None, *, quiet: bool = False
) -> bool:
    """Measure the judge of a recipe on labelled pairs, and print the numbers.

    Args:
        path: the recipe.
        overrides: of its fields, as `--set` has them.
        pairs: file of labelled pairs; by default the recipe's `data.eval`.
        out: file for the numbers as JSON; None for none.
        quiet: whether to show no progress.

    Returns:
        Whether so many verdicts are missing that the numbers say nothing.

    Raises:
        UserError: there are no labelled pairs, or the judge cannot judge.
    """
    if out is not None:
        check_writable(out.parent, "--out", OUT_CURE)
    recipe, console = recipes.load(path, overrides), Console(soft_wrap=True, emoji=False)  # a judge's name has colons
    named = pairs or recipe.data.eval
    if named is None:
        raise UserError(f"{path}: data.eval is not set; name labelled pairs by --pairs FILE")
    folder = Path.cwd() if pairs else recipe.folder
    labelled = _labelled(DataSource(pairs) if pairs else source_of(recipe, named), folder)
    judge = load_judge(recipe.evals.judge, recipe.folder)
    forecast = judge.forecast([Comparison(p.row, p.chosen, p.rejected) for p in labelled])
    if forecast:
        console.print(forecast, markup=False)
    with stage(f"judging {len(labelled)} labelled pairs", "calls", Console(quiet=quiet)) as report:
        result = quality(judge, labelled, lambda done, total: report(done, total, ""))
    console.print(render(result), markup=False, highlight=False)
    if out:
        run_folders.write_json(out, asdict(result))
    return result.coverage.withheld


def render(measured: Quality) -> str:
    """Return a line for each number, with its interval and how many cases it is over."""
    prompt = f", prompt {measured.prompt_hash}" if measured.prompt_hash else ""
    lines = [f"{measured.judge}{prompt}: {measured.coverage.asked} labelled pairs, {measured.ties} ties"]
    lines += [f"  {label}: {_cell(getattr(measured, field))}" for field, label in NUMBERS]
    return "\n".join(lines + ([measured.coverage.summary()] if measured.coverage.missing else []))


def _cell(e: Estimate) -> str:
    if not np.isfinite(e.value):
        return "-"
    return f"{100 * e.value:.1f}% [{100 * e.low:.1f}, {100 * e.high:.1f}] of {e.n}"


def _labelled(source: DataSource | Mixture, folder: Path) -> list[LabelledPair]:
    """Read the pairs of a data set of any format as texts, which judges compare."""
    data, _ = read_source(source, folder, turns=False)
    faults, labelled = Faults(source.spec, source.on_bad_row), []
    for example in data.examples:
        try:
            labelled.append(_pair(example, data.rows[example.row]))
        except UserError as e:
            faults.add(data.place(source.spec, example.row), str(e), data.rows[example.row])
    faults.settle(len(data.rows))
    if not labelled:
        raise UserError(f"{source.spec}: no row is a labelled pair of texts, which a judge needs")
    return labelled


def _pair(example: Example, row: Row) -> LabelledPair:
    if not isinstance(example, Pair):
        raise UserError("a single labelled answer; labelled pairs need prompt, chosen and rejected")
    prompt, chosen, rejected = (
        _text(getattr(example, name), name, role)
        for name, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))
    )
    asked = PromptRow(str(row.get("id", example.row + 1)), prompt, tuple(row.get("checks") or ()), row.get("topic"))
    return LabelledPair(asked, Answer(chosen, True, 0), Answer(rejected, True, 0))


def _text(text: Text, name: str, role: str) -> str:
    """Return a text, or the only message of a conversation.

    Raises:
        UserError: there are several messages, or the message is another role's.
    """
    if isinstance(text, str):
        return text
    if len(text) != 1 or text[0]["role"] != role:
        raise UserError(f"{name} is a conversation of several messages; a judge compares answers to a single prompt")
    return str(text[0]["content"])
