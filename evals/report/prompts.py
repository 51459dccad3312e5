"""Collect every model's answers with the judge's verdicts, as data for the page's script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from prefzoo.evals.boards.run_files import RunFiles, VariantFiles
from prefzoo.evals.judges.conversations import as_text
from prefzoo.runtime.run_folders import BASE

BUDGET = 3_000_000  # bytes of prompts and answers, in a page of less than 5 MB


def browser(run: RunFiles, order: Sequence[str], budget: int = BUDGET) -> dict[str, Any] | None:
    """Collect the prompts with the answers of all variants.

    Args:
        run: the run's files.
        order: the names of the variants, in the order of the page.
        budget: most bytes of JSON.

    Returns:
        None if nothing was generated. Otherwise `variants`, `base`, `total` (the number of prompts in the run) and
        `prompts`, as many from the first on as `budget` allows. Each prompt has its `text`, `messages` if it is a
        conversation, and lists with an entry per variant: `answers`, `won` (1 if the variant's answer is better than
        the base's, 0 if it is worse, None without a verdict), `why` (the reason for a missing verdict), `scores` and
        `words`.
    """
    names = [n for n in order if n in run.variants and run.variants[n].outputs]
    if not names:
        return None
    texts = [str(o["instruction"]) for o in run.variants[names[0]].outputs]
    names = [n for n in names if [str(o["instruction"]) for o in run.variants[n].outputs] == texts]
    talks = [{"messages": turns} if (turns := _turns(o)) else {} for o in run.variants[names[0]].outputs]
    columns = {n: _answers(run.variants[n], len(texts)) for n in names}
    prompts: list[dict[str, Any]] = []
    for i, prompt in enumerate(texts):
        row = {
            "text": prompt,
            **talks[i],
            **{key: [columns[n][key][i] for n in names] for key in next(iter(columns.values()))},
        }
        budget -= len(json.dumps(row))
        if budget < 0 and prompts:
            break
        prompts.append(row)
    return {"variants": names, "base": BASE, "total": len(texts), "prompts": prompts}


def _answers(variant: VariantFiles, n: int) -> dict[str, list[Any]]:
    """Return a variant's columns for the `n` prompts: answers, verdicts, reasons, scores and numbers of words."""
    m = variant.measured
    judged = {str(a["instruction"]): a for a in variant.annotations}
    verdicts = [judged.get(str(o["instruction"]), {}) for o in variant.outputs]
    return {
        "answers": [str(o["output"]) for o in variant.outputs],
        "won": [_number(v["preference"] - 1) if v.get("preference") is not None else None for v in verdicts],
        "why": [str(v.get("missing") or "") for v in verdicts],
        "scores": [_number(s) for s in m.scores] if m is not None and len(m.scores) == n else [None] * n,
        "words": list(m.words) if m is not None and len(m.words) == n else [None] * n,
    }


def _turns(output: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the role and text of each message of a prompt; empty if the file stores the prompt as a text."""
    messages = output.get("messages")
    if not (isinstance(messages, list) and all(isinstance(m, dict) and "role" in m for m in messages)):
        return []
    return [{"role": str(m["role"]), "text": as_text([m]).partition("\n")[2]} for m in messages]


def _number(value: float) -> float | None:
    return round(float(value), 3) if isfinite(value) else None
