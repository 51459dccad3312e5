"""AlpacaEval's rows of answers and of verdicts; every one names the judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prefzoo.evals.judges.protocol import TIE, Answer, Comparison, Judge, PromptRow, Verdict

DRAWN = "preference_drawn"  # the column of the preference in AlpacaEval's one order


def output_rows(prompts: Sequence[PromptRow], answers: Sequence[Answer], name: str) -> list[dict[str, Any]]:
    """Return the rows of `model_outputs.json`.

    Args:
        prompts: what was asked.
        answers: the model's, one per prompt.
        name: the model's.

    Returns:
        One row per prompt, in AlpacaEval's format; of a conversation also its `messages`.
    """
    return [
        {"instruction": row.text, "output": answer.text, "generator": name, "id": row.id, **_messages(row)}
        for row, answer in zip(prompts, answers, strict=True)
    ]


def _messages(row: PromptRow) -> dict[str, Any]:
    return {} if isinstance(row.prompt, str) else {"messages": row.prompt}


def annotation_rows(
    comparisons: Sequence[Comparison], verdicts: Sequence[Verdict], judge: Judge, base: str, name: str
) -> list[dict[str, Any]]:
    """Return the rows of `annotations.json`.

    Args:
        comparisons: the base's answers first, the model's second.
        verdicts: on the comparisons.
        judge: whose verdicts they are.
        base: name of the baseline.
        name: name of the model.

    Returns:
        A row for each comparison; a missing preference is null, with its reason.
    """
    graded = {"verdicts": "arena"} if judge.graded else {}
    drawn = [{DRAWN: None if math.isnan(v.drawn) else v.drawn} if judge.draws_order else {} for v in verdicts]
    return [
        {
            "instruction": c.row.text, "output_1": c.first.text, "output_2": c.second.text, "generator_1": base,
            "generator_2": name, "annotator": judge.name, "prompt_hash": judge.prompt_hash,
            "preference": None if v.missing else v.preference, "preference_by_order": list(v.orders),
            "missing": v.missing, **graded, **own, **_by_judge(judge, v),
        }
        for c, v, own in zip(comparisons, verdicts, drawn, strict=True)
    ]  # fmt: skip


def _by_judge(judge: Judge, verdict: Verdict) -> dict[str, Any]:
    """Return the verdicts of a panel's judges."""
    stated = [None if math.isnan(p) else p for p in verdict.members]
    return {"preference_by_judge": dict(zip(judge.members, stated, strict=True))} if stated else {}


def panel_of(by_judge: Sequence[Mapping[str, float | None]]) -> dict[str, list[float | None]]:
    """Return each judge's preferences, from what each row has of all; empty if not every row has them."""
    names = list(by_judge[0]) if by_judge and all(by_judge) else []
    return {name: [row[name] for row in by_judge] for name in names}


def drawn_of(rows: Sequence[Mapping[str, Any]], *, withheld: bool) -> list[float | None]:
    """Return the preferences in AlpacaEval's one order, from rows of annotations; empty if they have none."""
    return [None if withheld else row[DRAWN] for row in rows] if rows and all(DRAWN in row for row in rows) else []


def games_of(preferences: Sequence[float | None], orders: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the two games of each prompt: two ties where the answers are the same, none where a verdict is missing.

    Args:
        preferences: of each prompt; None if it is missing.
        orders: the preference in either order; empty where the judge was not asked.
    """
    two = zip(preferences, orders, strict=True)
    return [[] if preference is None else list(both) or [TIE, TIE] for preference, both in two]
