"""On-policy preference pairs: sample answers, judge them, keep a better and a worse one of similar length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from evals.generate import Progress, generate
from evals.judges.checks import words
from evals.judges.protocol import Answer, Judge, PromptRow

LENGTH_RATIO = 1.4  # the longer of the two answers has at most so many times the words of the other


def pick(row: PromptRow, answers: Sequence[Answer], judge: Judge) -> dict[str, Any] | None:
    """The pair with the widest gap in score, then the closest in length; None where no two answers qualify."""
    scored = [(judge.score(row, a), a) for a in dict.fromkeys(answers) if a.text]
    found: list[tuple[float, float, tuple[float, Answer], tuple[float, Answer]]] = []
    for one, two in combinations(scored, 2):
        better, worse = (one, two) if one[0] > two[0] else (two, one)
        sizes = sorted((max(1, len(words(better[1].text))), max(1, len(words(worse[1].text)))))
        ratio = sizes[1] / sizes[0]
        if better[0] > worse[0] and ratio <= LENGTH_RATIO and better[1].finished and worse[1].finished:
            found.append((better[0] - worse[0], -ratio, better, worse))
    if not found:
        return None
    _, _, better, worse = max(found, key=lambda f: f[:2])
    return {
        "id": row.id, "topic": row.topic, "prompt": row.prompt, "chosen": better[1].text, "rejected": worse[1].text,
        "score_chosen": round(better[0], 4), "score_rejected": round(worse[0], 4), "checks": list(row.checks),
    }  # fmt: skip


def make_pairs(
    model: Any,
    tokenizer: Any,
    rows: Sequence[PromptRow],
    judge: Judge,
    *,
    n: int,
    temperature: float,
    seed: int,
    max_new_tokens: int,
    limit: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Pairs (at most `limit`, in the prompts' order) and what is to be known about them, for the data's card."""
    answers = generate(
        model, tokenizer, [r.prompt for r in rows], max_new_tokens=max_new_tokens, n=n, temperature=temperature,
        seed=seed, batch_size=max(1, 96 // n), progress=progress,
    )  # fmt: skip
    found = [pick(row, made, judge) for row, made in zip(rows, answers, strict=True)]
    pairs = [p for p in found if p is not None]
    kept = pairs[:limit]
    card = {
        "prompts": len(rows),
        "prompts without two answers of different score and similar length": len(rows) - len(pairs),
        "pairs": len(kept),
        "judge": judge.name,
        "n": n,
        "temperature": temperature,
        "seed": seed,
        "max_new_tokens": max_new_tokens,
        "mean score of all samples": round(
            mean(judge.score(r, a) for r, m in zip(rows, answers, strict=True) for a in m), 4
        ),
    }
    for side in ("chosen", "rejected"):
        if kept:
            card[f"mean words, {side}"] = round(mean(len(words(p[side])) for p in kept), 2)
            card[f"mean score, {side}"] = round(mean(p[f"score_{side}"] for p in kept), 4)
    return kept, card


def write_pairs(path: Path, pairs: Sequence[dict[str, Any]], card: dict[str, Any]) -> None:
    """JSONL or parquet by the file's suffix, and `FILE.card.json` beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pandas as pd

        pd.DataFrame(pairs).assign(checks=[json.dumps(p["checks"]) for p in pairs]).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(p, ensure_ascii=False) + "\n" for p in pairs), encoding="utf-8")
    Path(f"{path}.card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
