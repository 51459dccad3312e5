"""On-policy preference pairs: sample answers, judge them, keep a better and a worse one of similar length."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from evals.generate import Progress, generate
from evals.judges.checks import words
from evals.judges.protocol import Answer, PromptRow, Scorer
from prefzoo.runs import write_text

LENGTH_RATIO = 1.4  # the longer of the two answers has at most so many times the words of the other
LEAST_CHOSEN = 0.7  # what the better answer must score: the worse of two failures is no example to learn from
CHUNK = 32  # prompts between two points from which a killed call can go on


def pick(row: PromptRow, answers: Sequence[Answer], judge: Scorer) -> dict[str, Any] | None:
    """The pair with the widest gap in score, then the closest in length; None where no two answers qualify."""
    scored = [(judge.score(row, a), a) for a in dict.fromkeys(answers) if a.text]
    found: list[tuple[float, float, tuple[float, Answer], tuple[float, Answer]]] = []
    for one, two in combinations(scored, 2):
        better, worse = (one, two) if one[0] > two[0] else (two, one)
        sizes = sorted((max(1, len(words(better[1].text))), max(1, len(words(worse[1].text)))))
        ratio = sizes[1] / sizes[0]
        good = better[0] >= LEAST_CHOSEN and better[0] > worse[0]
        if good and ratio <= LENGTH_RATIO and better[1].finished and worse[1].finished:
            found.append((better[0] - worse[0], -ratio, better, worse))
    if not found:
        return None
    _, _, better, worse = max(found, key=lambda f: f[:2])
    return {
        "id": row.id, "topic": row.topic, "prompt": row.prompt, "chosen": better[1].text, "rejected": worse[1].text,
        "score_chosen": round(better[0], 4), "score_rejected": round(worse[0], 4), "checks": list(row.checks),
    }  # fmt: skip


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: `n` per prompt, everything reproducible from `seed`."""

    n: int
    temperature: float
    seed: int
    max_new_tokens: int


def make_pairs(
    model: Any,
    tokenizer: Any,
    rows: Sequence[PromptRow],
    judge: Scorer,
    how: Sampling,
    *,
    limit: int | None = None,
    partial: Path | None = None,
    progress: Progress | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Pairs in the prompts' order, and what is to be known about them, for the data's card.

    Works in chunks of prompts and stops behind the one that brings `limit` pairs. Finished chunks are kept in
    `partial`, so that the same call goes on where a killed one stopped; it is removed at the end.
    """
    done = _finished(partial)
    goal = limit or len(rows)
    for number, start in enumerate(range(0, len(rows), CHUNK)):
        have = sum(len(c["pairs"]) for c in done)
        if limit and have >= limit:
            break
        if number >= len(done):
            done.append(_chunk(model, tokenizer, rows[start : start + CHUNK], judge, how, number))
            if partial:
                write_text(partial, json.dumps(done, ensure_ascii=False))
        if progress:
            have += len(done[number]["pairs"])
            progress(min(have, goal) if limit else min(start + CHUNK, len(rows)), goal)
    if partial:
        partial.unlink(missing_ok=True)
    pairs = [p for c in done for p in c["pairs"]]
    return pairs[:limit], _card(done, pairs[:limit], len(pairs), judge, how)


def _chunk(
    model: Any, tokenizer: Any, rows: Sequence[PromptRow], judge: Scorer, how: Sampling, number: int
) -> dict[str, Any]:
    answers = generate(
        model, tokenizer, [r.prompt for r in rows], max_new_tokens=how.max_new_tokens, n=how.n,
        temperature=how.temperature, seed=how.seed * 1_000 + number, batch_size=max(1, 96 // how.n),
    )  # fmt: skip
    found = [pick(row, made, judge) for row, made in zip(rows, answers, strict=True)]
    scores = [judge.score(r, a) for r, made in zip(rows, answers, strict=True) for a in made]
    return {"prompts": len(rows), "scores": scores, "pairs": [p for p in found if p is not None]}


def _finished(partial: Path | None) -> list[dict[str, Any]]:
    if partial is None or not partial.is_file():
        return []
    found: list[dict[str, Any]] = json.loads(partial.read_text(encoding="utf-8"))
    return found


def _card(
    done: Sequence[dict[str, Any]], kept: Sequence[dict[str, Any]], found: int, judge: Scorer, how: Sampling
) -> dict[str, Any]:
    asked = sum(c["prompts"] for c in done)
    card: dict[str, Any] = {
        "judge": judge.name, **asdict(how), "prompts_asked": asked, "prompts_without_a_pair": asked - found,
        "pairs": len(kept), "mean_score_of_samples": round(mean(s for c in done for s in c["scores"]), 4),
    }  # fmt: skip
    for side in ("chosen", "rejected"):
        if kept:
            card[f"mean_words_{side}"] = round(mean(len(words(p[side])) for p in kept), 2)
            card[f"mean_score_{side}"] = round(mean(p[f"score_{side}"] for p in kept), 4)
    return card


def write_pairs(path: Path, pairs: Sequence[dict[str, Any]], card: dict[str, Any]) -> None:
    """JSONL or parquet by the file's suffix, and `FILE.card.json` beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pandas as pd

        pd.DataFrame(pairs).assign(checks=[json.dumps(p["checks"]) for p in pairs]).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(p, ensure_ascii=False) + "\n" for p in pairs), encoding="utf-8")
    Path(f"{path}.card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
