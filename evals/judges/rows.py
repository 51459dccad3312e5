"""Rows of answers and of verdicts in AlpacaEval's format. Every verdict names its judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prefzoo.evals.judges.protocol import TIE, Answer, Comparison, Judge, PromptRow, Verdict

DRAWN = "preference_drawn"  # column: the preference in the one order that AlpacaEval draws


def output_rows(prompts: Sequence[PromptRow], answers: Sequence[Answer], name: str) -> list[dict[str, Any]]:
    """Return the rows of `model_outputs.json`.

    Args:
        prompts: the prompts.
        answers: the model's answer to each prompt.
        name: the model's name.

    Returns:
        One row per prompt, in AlpacaEval's format; with `messages` if the prompt is a conversation.
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
        comparisons: pairs of the base's answer, first, and the model's answer.
        verdicts: the verdict on each comparison.
        judge: the judge that gave them.
        base: the baseline's name.
        name: the model's name.

    Returns:
        A row for each comparison; a missing preference is null, with the reason in `missing`.
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
    """Return the column with the preferences of a panel's judges; empty for other judges."""
    stated = [None if math.isnan(p) else p for p in verdict.members]
    return {"preference_by_judge": dict(zip(judge.members, stated, strict=True))} if stated else {}


def panel_of(by_judge: Sequence[Mapping[str, float | None]]) -> dict[str, list[float | None]]:
    """Return the preferences of each judge of a panel.

    Args:
        by_judge: `preference_by_judge` of each row.

    Returns:
        Each judge's preferences in the order of the rows; empty if a row has none.
    """
    names = list(by_judge[0]) if by_judge and all(by_judge) else []
    return {name: [row[name] for row in by_judge] for name in names}


def drawn_of(rows: Sequence[Mapping[str, Any]], *, withheld: bool) -> list[float | None]:
    """Return the preferences in AlpacaEval's drawn order.

    Args:
        rows: rows of annotations.
        withheld: whether to replace each preference by None.

    Returns:
        The preference of each row, None where it is missing; empty if a row lacks the column.
    """
    return [None if withheld else row[DRAWN] for row in rows] if rows and all(DRAWN in row for row in rows) else []


def games_of(preferences: Sequence[float | None], orders: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the games of each prompt, one for each order of the two answers.

    Args:
        preferences: the preference on each prompt; None where it is missing.
        orders: the preferences of each prompt by order; empty if the answers are the same.

    Returns:
        The games of each prompt: two ties if the answers are the same, none if the preference is missing.
    """
    two = zip(preferences, orders, strict=True)
    return [[] if preference is None else list(both) or [TIE, TIE] for preference, both in two]
