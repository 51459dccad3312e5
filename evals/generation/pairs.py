"""On-policy preference pairs: sample answers, grade them under a judge, keep the best and the worst that qualify."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from prefzoo.errors import UserError
from prefzoo.evals.generation.generate import Progress, generate
from prefzoo.evals.judges.checks import words
from prefzoo.evals.judges.coverage import coverage
from prefzoo.evals.judges.grades import graded
from prefzoo.evals.judges.protocol import Answer, Grader, Judge, PromptRow, Verdict
from prefzoo.runtime import atomic_files
from prefzoo.runtime.run_folders import write_json, write_text

CHUNK = 32  # prompts between two points from which a killed call can go on
TWO = 2  # answers that a pair takes
DECIMALS = 4  # of scores in the data


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn: `n` per prompt, everything reproducible from `seed`."""

    n: int
    temperature: float
    seed: int
    max_new_tokens: int


@dataclass(frozen=True)
class Rule:
    """Which two answers may make a pair; both must have ended by themselves.

    Attributes:
        length_ratio: the longer one has at most so many times the words of the other; None: any.
        least_chosen: what the better one must score; None: any.
    """

    length_ratio: float | None = None
    least_chosen: float | None = None


VERIFIER = Rule(1.4, 0.7)  # checks take little of length into account, and the worse of two failures is no example


@dataclass(frozen=True)
class Picked:
    """A prompt's pair, or why it has none; and how many of its answers were left out, by the reason."""

    pair: dict[str, Any] | None
    why: str
    left_out: dict[str, int]
    scores: list[float]


def pick(row: PromptRow, answers: Sequence[Answer], scores: Sequence[float | str], rule: Rule) -> Picked:
    """The pair with the widest gap in score, then the closest in length. `scores` are of each answer, or why none."""
    left: Counter[str] = Counter()
    seen: set[str] = set()
    fit: list[tuple[float, Answer]] = []
    for answer, score in zip(answers, scores, strict=True):
        reason = _unfit(answer, score, seen)
        if reason:
            left[reason] += 1
            continue
        seen.add(answer.text)
        fit.append((float(score), answer))
    pair, why = _widest(fit, rule)
    made = None if pair is None else _as_row(row, *pair)
    return Picked(made, why, dict(left), [float(s) for s in scores if not isinstance(s, str)])


def _unfit(answer: Answer, score: float | str, seen: set[str]) -> str:
    if not answer.text:
        return "empty"
    if not answer.finished:
        return "unfinished"
    if answer.text in seen:
        return "duplicate"
    return "without a score" if isinstance(score, str) else ""


Scored = tuple[float, Answer]


def _widest(fit: Sequence[Scored], rule: Rule) -> tuple[tuple[Scored, Scored] | None, str]:
    if len(fit) < TWO:
        return None, "fewer than two answers to choose from"
    if len({score for score, _ in fit}) == 1:
        return None, "all scores tie"
    found: list[tuple[float, float, Scored, Scored]] = []
    for one, two in combinations(fit, 2):
        better, worse = (one, two) if one[0] > two[0] else (two, one)
        sizes = sorted((max(1, len(words(better[1].text))), max(1, len(words(worse[1].text)))))
        ratio = sizes[1] / sizes[0]
        good = rule.least_chosen is None or better[0] >= rule.least_chosen
        if better[0] > worse[0] and good and (rule.length_ratio is None or ratio <= rule.length_ratio):
            found.append((better[0] - worse[0], -ratio, better, worse))
    if not found:
        return None, "no two within the bounds on score and length"
    _, _, better, worse = max(found, key=lambda f: f[:2])
    return (better, worse), ""


def _as_row(row: PromptRow, better: Scored, worse: Scored) -> dict[str, Any]:
    return {
        "id": row.id, "topic": row.topic, "prompt": row.prompt, "chosen": better[1].text, "rejected": worse[1].text,
        "score_chosen": round(better[0], DECIMALS), "score_rejected": round(worse[0], DECIMALS),
        "checks": list(row.checks),
    }  # fmt: skip


def make_pairs(
    model: Any,
    tokenizer: Any,
    rows: Sequence[PromptRow],
    judge: Judge,
    how: Sampling,
    rule: Rule,
    *,
    limit: int | None = None,
    partial: Path | None = None,
    progress: Progress | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Pairs in the prompts' order, and what is to be known about them, for the data's card.

    Works in chunks of prompts and stops behind the one that brings `limit` pairs. A chunk's answers are kept in
    `partial` as soon as they are there, and what a judge says is kept by the judge, so that the same call goes on
    where a killed one stopped. The caller removes the file when the pairs are safe.

    Raises:
        UserError: the judge cannot judge, or more than 5% of what it was asked is missing.
    """
    sampled, goal, have = _Sampled(partial), limit or len(rows), 0
    done: list[Picked] = []
    verdicts: list[Verdict] = []
    for number, start in enumerate(range(0, len(rows), CHUNK)):
        if limit and have >= limit:
            break
        part = rows[start : start + CHUNK]
        answers = sampled.read(number)
        if answers is None:
            answers = generate(
                model, tokenizer, [r.prompt for r in part], max_new_tokens=how.max_new_tokens, n=how.n,
                temperature=how.temperature, seed=how.seed, batch_size=max(1, 96 // how.n),
            )  # fmt: skip
            sampled.write(answers)
        grades, said = graded(judge, part, answers)
        verdicts += said
        cover = coverage(verdicts)
        if cover.withheld:
            raise UserError(f"judge {judge.name}: {cover.says()}; mend it, and give the same command again")
        done += [pick(*four, rule) for four in zip(part, answers, grades, strict=True)]
        have = sum(p.pair is not None for p in done)
        if progress:
            progress(min(have, goal) if limit else start + len(part), goal)
    pairs = [p.pair for p in done if p.pair is not None][:limit]
    return pairs, _card(done, pairs, judge, how, rule) | {"verdicts_missing": coverage(verdicts).says()}


class _Sampled:
    """Answers to chunk after chunk, each a line of a file; a half line at its end is the trace of a kill."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.chunks: list[Any] = []
        if path is None or not path.is_file():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                self.chunks.append(json.loads(line))
            except ValueError:
                break
        write_text(path, "".join(json.dumps(c) + "\n" for c in self.chunks))

    def read(self, number: int) -> list[list[Answer]] | None:
        """The answers to a chunk that was sampled before."""
        if number >= len(self.chunks):
            return None
        return [[Answer(*one) for one in several] for several in self.chunks[number]]

    def write(self, answers: Sequence[Sequence[Answer]]) -> None:
        """Keep the answers to the next chunk."""
        self.chunks.append([[[a.text, a.finished, a.tokens] for a in several] for several in answers])
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as f:
            f.write(json.dumps(self.chunks[-1]) + "\n")


def _card(
    done: Sequence[Picked], kept: Sequence[dict[str, Any]], judge: Judge, how: Sampling, rule: Rule
) -> dict[str, Any]:
    found = sum(p.pair is not None for p in done)
    scores = [s for p in done for s in p.scores]
    left: Counter[str] = sum((Counter(p.left_out) for p in done), Counter())
    card: dict[str, Any] = {
        "judge": judge.name, "prompt_hash": judge.prompt_hash,
        "score": "the judge's own scale" if isinstance(judge, Grader) else "mean win rate against the prompt's others",
        **asdict(how), **asdict(rule), "prompts_asked": len(done), "prompts_without_a_pair": len(done) - found,
        "why_without": dict(Counter(p.why for p in done if p.why).most_common()),
        "answers": how.n * len(done), "answers_left_out": dict(left.most_common()), "pairs": len(kept),
        "mean_score_of_samples": round(mean(scores), DECIMALS) if scores else None,
    }  # fmt: skip
    for side in ("chosen", "rejected"):
        if kept:
            card[f"mean_words_{side}"] = round(mean(len(words(p[side])) for p in kept), 2)
            card[f"mean_score_{side}"] = round(mean(p[f"score_{side}"] for p in kept), DECIMALS)
    return card


def write_pairs(path: Path, pairs: Sequence[dict[str, Any]], card: dict[str, Any]) -> None:
    """JSONL or parquet by the file's suffix, and `FILE.card.json` beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pandas as pd

        with atomic_files.write_atomically(path) as partial:
            pd.DataFrame(pairs).assign(checks=[json.dumps(p["checks"]) for p in pairs]).to_parquet(partial)
    else:
        write_text(path, "".join(json.dumps(p, ensure_ascii=False) + "\n" for p in pairs))
    write_json(Path(f"{path}.card.json"), card)
