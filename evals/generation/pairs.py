"""Make on-policy preference pairs: sample answers, grade them with a judge, and pair a good with a bad one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from prefzoo.data.examples import Text
from prefzoo.errors import UserError
from prefzoo.evals.generation.generate import generate
from prefzoo.evals.judges.checks import words
from prefzoo.evals.judges.conversations import as_answer
from prefzoo.evals.judges.coverage import coverage
from prefzoo.evals.judges.grades import grade
from prefzoo.evals.judges.protocol import Answer, Judge, Outcome, Progress, PromptRow, Verdict
from prefzoo.runtime import atomic_files
from prefzoo.runtime.cache import Cache
from prefzoo.runtime.distributed import process_state
from prefzoo.runtime.run_folders import write_json, write_text

CHUNK, GPU_CHUNK = 32, 256  # prompts that are sampled and cached together, on CPUs and on other devices
TWO = 2  # answers in a pair
DECIMALS = 4  # decimals of scores in the data


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling: `n` answers per prompt, reproducible from `seed`."""

    n: int
    temperature: float
    seed: int
    max_new_tokens: int


@dataclass(frozen=True)
class Rule:
    """Conditions on the two answers of a pair. In any case, both must have ended before the limit on tokens.

    Attributes:
        length_ratio: the most words of the longer answer, as a multiple of those of the shorter; None for no limit.
        least_chosen: the least score of the better answer; None for no limit.
    """

    length_ratio: float | None = None
    least_chosen: float | None = None


BY_CHECKS = Rule(1.4, 0.7)  # for the verifier, which hardly limits length, and may prefer one of two bad answers


@dataclass(frozen=True)
class Picked:
    """The pair of a prompt, or the reason why it has none.

    Attributes:
        pair: a row of preference data; None without a pair.
        why: the reason for a missing pair; empty otherwise.
        left_out: number of answers that were left out, by reason.
        scores: the scores of all answers that have one.
    """

    pair: dict[str, Any] | None
    why: str
    left_out: dict[str, int]
    scores: list[float]


def pick(row: PromptRow, answers: Sequence[Answer], scores: Sequence[Outcome], rule: Rule) -> Picked:
    """Pick the two answers with the largest difference in score; among equal ones, those closest in length.

    Args:
        row: the prompt.
        answers: its answers.
        scores: the score of each answer, or the reason for a missing one.
        rule: the conditions on a pair.

    Returns:
        The pair, or the reason why there is none.
    """
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    fit: list[ScoredAnswer] = []
    for answer, score in zip(answers, scores, strict=True):
        reason = _unfit(answer, score, seen)
        if reason:
            left_out[reason] += 1
            continue
        seen.add(answer.text)
        fit.append((float(score), answer))
    pair, why = _widest(fit, rule)
    numbers = [float(s) for s in scores if not isinstance(s, str)]
    rewards = {"ref_rewards": [round(number, DECIMALS) for number in numbers]}  # of all samples, for qrpo
    return Picked({**_as_row(row, *pair), **rewards} if pair else None, why, dict(left_out), numbers)


def _unfit(answer: Answer, score: Outcome, seen: set[str]) -> str:
    if not answer.text:
        return "empty"
    if not answer.finished:
        return "unfinished"
    if answer.text in seen:
        return "duplicate"
    return "without a score" if isinstance(score, str) else ""


ScoredAnswer = tuple[float, Answer]


def _widest(fit: Sequence[ScoredAnswer], rule: Rule) -> tuple[tuple[ScoredAnswer, ScoredAnswer] | None, str]:
    if len(fit) < TWO:
        return None, "fewer than two answers to choose from"
    if len({score for score, _ in fit}) == 1:
        return None, "all scores tie"
    allowed: list[tuple[float, float, ScoredAnswer, ScoredAnswer]] = []
    for one, two in combinations(fit, 2):
        better, worse = (one, two) if one[0] > two[0] else (two, one)
        sizes = sorted((max(1, len(words(better[1].text))), max(1, len(words(worse[1].text)))))
        ratio = sizes[1] / sizes[0]
        good = rule.least_chosen is None or better[0] >= rule.least_chosen
        if better[0] > worse[0] and good and (rule.length_ratio is None or ratio <= rule.length_ratio):
            allowed.append((better[0] - worse[0], -ratio, better, worse))
    if not allowed:
        return None, "no two answers within the bounds on score and length"
    _, _, better, worse = max(allowed, key=lambda option: option[:2])
    return (better, worse), ""


def _as_row(row: PromptRow, better: ScoredAnswer, worse: ScoredAnswer) -> dict[str, Any]:
    return {
        "id": row.id, "topic": row.topic, "prompt": row.prompt,
        "chosen": as_answer(row.prompt, better[1].text), "rejected": as_answer(row.prompt, worse[1].text),
        "score_chosen": round(better[0], DECIMALS), "score_rejected": round(worse[0], DECIMALS),
        "checks": list(row.checks),
    }  # fmt: skip


Sampler = Callable[[Sequence[Text]], list[list[Answer]]]


def sampler_of(model: Any, tokenizer: Any, sampling: Sampling) -> Sampler:
    """Return a function that samples answers from a model of transformers.

    Args:
        model: the model.
        tokenizer: the model's tokenizer.
        sampling: the settings of sampling.

    Returns:
        A function that takes prompts, and returns a list of answers to each.
    """

    def sample(prompts: Sequence[Text]) -> list[list[Answer]]:
        return generate(model, tokenizer, prompts, **asdict(sampling))

    return sample


def make_pairs(
    sampler: Sampler,
    rows: Sequence[PromptRow],
    judge: Judge,
    sampling: Sampling,
    rule: Rule,
    *,
    limit: int | None = None,
    partial: Cache | None = None,
    progress: Progress | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Sample answers, grade them and pair them, in chunks of prompts, until there are `limit` pairs.

    Args:
        sampler: a function that takes prompts, and returns the policy's answers to each.
        rows: the prompts.
        judge: the judge that grades the answers.
        sampling: the settings of the sampler, for the card.
        rule: the conditions on a pair.
        limit: the number of pairs to make; None for as many as the prompts give.
        partial: a cache of sampled answers, with which the same call continues where a killed one stopped. The caller
            removes its file once the pairs are written.
        progress: called with the number of finished prompts and of all prompts; under a limit, with those of pairs.

    Returns:
        The pairs in the prompts' order, and facts about them for the data's card.

    Raises:
        UserError: the judge cannot judge, or more than 5% of its verdicts are missing.
    """
    goal, have = limit or len(rows), 0
    done: list[Picked] = []
    verdicts: list[Verdict] = []
    chunk = CHUNK if process_state().device.type == "cpu" else GPU_CHUNK
    for start in range(0, len(rows), chunk):
        if limit and have >= limit:
            break
        part = rows[start : start + chunk]
        key = str(start) if chunk == CHUNK else f"{start}, {chunk} prompts"
        answers = _sampled(sampler, part, partial, key)
        grades, more = grade(judge, part, answers)
        verdicts += more
        cover = coverage(verdicts)
        if cover.withheld:
            raise UserError(f"judge {judge.name}: {cover.summary()}; fix it, and run the same command again")
        done += [pick(*four, rule) for four in zip(part, answers, grades, strict=True)]
        have = sum(p.pair is not None for p in done)
        if progress:
            progress(min(have, goal) if limit else start + len(part), goal)
    pairs = [p.pair for p in done if p.pair is not None][:limit]
    return pairs, _card(done, pairs, judge, sampling, rule) | {"verdicts_missing": coverage(verdicts).summary()}


def _sampled(sampler: Sampler, rows: Sequence[PromptRow], cache: Cache | None, key: str) -> list[list[Answer]]:
    known = cache.get(key) if cache else None
    if known is not None:
        return [[Answer(*one) for one in several] for several in known]
    answers = sampler([row.prompt for row in rows])
    if cache:
        cache.put({key: [[[a.text, a.finished, a.tokens] for a in several] for several in answers]})
    return answers


def _card(
    done: Sequence[Picked], pairs: Sequence[dict[str, Any]], judge: Judge, sampling: Sampling, rule: Rule
) -> dict[str, Any]:
    paired = sum(p.pair is not None for p in done)
    scores = [s for p in done for s in p.scores]
    left_out: Counter[str] = sum((Counter(p.left_out) for p in done), Counter())
    card: dict[str, Any] = {
        "judge": judge.name, "prompt_hash": judge.prompt_hash,
        "score": "the judge's own scale" if judge.scores_answers else "mean win rate against the other answers",
        **asdict(sampling), **asdict(rule), "prompts_asked": len(done), "prompts_without_a_pair": len(done) - paired,
        "why_without": dict(Counter(p.why for p in done if p.why).most_common()),
        "answers": sampling.n * len(done), "answers_left_out": dict(left_out.most_common()), "pairs": len(pairs),
        "mean_score_of_samples": round(mean(scores), DECIMALS) if scores else None,
    }  # fmt: skip
    for side in ("chosen", "rejected"):
        if pairs:
            card[f"mean_words_{side}"] = round(mean(len(words(_text_of(p[side]))) for p in pairs), 2)
            card[f"mean_score_{side}"] = round(mean(p[f"score_{side}"] for p in pairs), DECIMALS)
    return card


def _text_of(answer: Text) -> str:
    return answer if isinstance(answer, str) else str(answer[-1]["content"])


def write_pairs(path: Path, pairs: Sequence[dict[str, Any]], card: dict[str, Any]) -> None:
    """Write pairs and their card.

    Args:
        path: the file of pairs: parquet if its suffix is `.parquet`, else JSONL. The card goes to `PATH.card.json`.
        pairs: the rows of preference data.
        card: the facts about them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pandas as pd

        with atomic_files.write_atomically(path) as partial:
            pd.DataFrame(pairs).assign(checks=[json.dumps(p["checks"]) for p in pairs]).to_parquet(partial)
    else:
        write_text(path, "".join(json.dumps(p, ensure_ascii=False) + "\n" for p in pairs))
    write_json(Path(f"{path}.card.json"), card)
