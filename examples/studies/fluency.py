"""How likely a run's answers are to the untrained model: broken language shows here, and checks do not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefzoo.data.encoding import encode_prompt
from prefzoo.data.tokens import TokenPair
from prefzoo.engine import models
from prefzoo.engine.logprobs import choose_layout
from prefzoo.engine.reference_logprobs import logprobs
from prefzoo.errors import UserError
from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.boards.selection import select
from prefzoo.evals.boards.standings import primary
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats import intervals
from prefzoo.evals.stats.inference import seeded_mean
from prefzoo.evals.stats.intervals import Values
from prefzoo.evals.suites.prompts import load_prompts
from prefzoo.recipe.load import load
from prefzoo.runtime.run_folders import BASE

NAT = 1.0
MOST = 100  # about as many prompts are enough, as the differences are large


def fluency(folder: Path, recipe_file: Path) -> dict[str, Any]:
    """Return the mean log-prob of each variant's answers under the untrained model, in nats per token.

    The base writes the most likely token at each place, so that fluent answers have about the log-prob of its own.
    Repetition raises it as well.

    Args:
        folder: the run's.
        recipe_file: the recipe that it ran, for the model and the prompts.

    Returns:
        `models`: a row of each variant and of the base, the likeliest first; intervals span prompts and seeds.
        `base`: the base's row. `broken`: the variants whose answers are more than a nat per token less likely than the
        base's. `best`: the row of the other variant that ranks highest on the board.

    Raises:
        UserError: answers are missing.
    """
    run, recipe = read_run(folder), load(recipe_file, [])
    measured = {name: one.measured for name, one in run.variants.items() if one.measured is not None}
    model, tokenizer = models.load(recipe.model, recipe.folder)
    rows = load_prompts(str(recipe.evals.prompts), recipe.folder)
    short = [name for name, one in measured.items() if len(one.answers) != len(rows)]
    if short or not measured:
        raise UserError(f"{folder}: {', '.join(short) or 'nothing'} has not answered all {len(rows)} prompts")
    some = slice(0, len(rows), max(1, len(rows) // MOST))
    answers = {name: _tokens(tokenizer, one)[some] for name, one in measured.items()}
    scores = _scores(model, [encode_prompt(tokenizer, row.prompt) for row in rows[some]], answers)
    arms: dict[str, list[Values]] = {}
    for name, values in scores.items():
        arms.setdefault(run.finals.get(name, name), []).append(values)
    table = []
    for variant, own in arms.items():
        mean = intervals.mean(own[0]) if len(own) == 1 else seeded_mean(np.stack(own))
        table.append({"variant": variant, "value": mean.value, "low": mean.low, "high": mean.high})
    table.sort(key=lambda row: -float(str(row["value"])))
    board = [e for e in select([folder], by_seed=False) if not e.is_base]
    ranked = sorted(board, key=lambda e: -e.value(primary(board)))
    return {**split_by_likelihood(table, [e.files.name for e in ranked]), "prompts": len(rows[some])}


def split_by_likelihood(table: list[dict[str, Any]], ranked: Sequence[str]) -> dict[str, Any]:
    """Return what `fluency` tells of its rows, for variants named from the best on the board to the worst."""
    rows = {row["variant"]: row for row in table}
    broken = [name for name in ranked if rows[name]["value"] < rows[BASE]["value"] - NAT]
    best = next((rows[name] for name in ranked if name not in broken), None)
    return {"models": table, "base": rows[BASE], "broken": ", ".join(broken) or "none", "best": best}


def _tokens(tokenizer: Any, measured: Measured) -> list[list[int]]:
    """Return the tokens of each answer, with the end of the turn where the answer came to it."""
    end = [tokenizer.eos_token_id]
    ids = tokenizer(measured.answers, add_special_tokens=False).input_ids
    return [row + end if finished or not row else row for row, finished in zip(ids, measured.finished, strict=True)]


def _scores(
    model: Any, prompts: Sequence[list[int]], answers: Mapping[str, Sequence[list[int]]]
) -> dict[str, Values]:  # fmt: skip
    """Return (n,) mean log-probs of each model's answers; a pass reads a prompt once for two models."""
    scores: dict[str, Values] = {}
    for names in (list(answers)[i : i + 2] for i in range(0, len(answers), 2)):
        first, last = answers[names[0]], answers[names[-1]]
        pairs = [TokenPair(p, a, b, i) for i, (p, a, b) in enumerate(zip(prompts, first, last, strict=True))]
        means = logprobs(model, pairs, choose_layout(model, pairs), bf16=False).per_token()
        scores |= {names[0]: means.chosen.double().numpy(), names[-1]: means.rejected.double().numpy()}
    return scores
