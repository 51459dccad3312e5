"""Rows with several answers and their scores or ranks: UltraFeedback, Nectar, HelpSteer, Stack Exchange."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from prefzoo.data.rows import Row
from prefzoo.data.schemas.build import SYSTEM_COLUMNS, read_number
from prefzoo.data.schemas.messages import parse_json
from prefzoo.data.schemas.notes import SkipRow, note
from prefzoo.data.schemas.other_names import PROMPT_COLUMNS, prompt_column, read_prompt
from prefzoo.data.schemas.rankings import Rated, RatedAnswers
from prefzoo.data.schemas.registry import Detect, schema
from prefzoo.data.schemas.turns import read_transcripts
from prefzoo.errors import UserError

ANSWERS = ("completions", "responses", "generations", "answers", "outputs", "candidates", "generated_responses")
RATINGS = ("ratings", "scores", "rewards", "overall_scores", "ranks")
TEXT_KEYS = ("response", "answer", "text", "content", "output", "completion", "generation")
SCORE_KEYS = ("overall_score", "score", "rating", "reward", "fine-grained_score", "pm_score")
ASPECTS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
QUESTION = "What is the capital of France?"


def _detect_rated(columns: frozenset[str]) -> str:
    answers = next((name for name in ANSWERS if name in columns), "")
    ratings = columns & {*RATINGS} or answers in ("completions", "answers")
    fits = answers and ratings and prompt_column(columns) and not columns & {"chosen", "rejected"}
    return f"has {answers} with scores" if fits else ""


def _with_objects(prompt: str, answers: str) -> Detect:
    """Return a detector of rows whose answers are objects with their own scores, and that have no column of ratings."""

    def detect(columns: frozenset[str]) -> str:
        fits = {prompt, answers} <= columns and not columns & {*RATINGS, "chosen", "rejected"}
        return f"has {prompt} and {answers}" if fits else ""

    return detect


@schema(
    "ultrafeedback", columns=("instruction", "completions"), optional=SYSTEM_COLUMNS,
    detect=_with_objects("instruction", "completions"),
    before=("rated answers",),
    example={
        "instruction": QUESTION,
        "completions": [
            {"response": "Lyon.", "overall_score": 2.0}, {"response": "Paris.", "overall_score": 9.0},
            {"response": "In Europe.", "overall_score": 5.0},
        ],
    },
)  # fmt: skip
def ultrafeedback(row: Row, index: int) -> RatedAnswers:
    """Take the completions with the highest and the lowest overall_score as chosen and rejected (UltraFeedback)."""
    return _ranking(row, index, row["instruction"], row["completions"], "completions")


@schema(
    "nectar", columns=("prompt", "answers"), optional=SYSTEM_COLUMNS, before=("rated answers",),
    detect=_with_objects("prompt", "answers"),
    example={
        "prompt": f"\n\nHuman: {QUESTION}\n\nAssistant: ",
        "answers": [
            {"answer": "Paris.", "rank": 1.0}, {"answer": "In Europe.", "rank": 2.0}, {"answer": "Lyon.", "rank": 3.0},
        ],
    },
)  # fmt: skip
def nectar(row: Row, index: int) -> RatedAnswers:
    """Take the answer of the first rank as chosen and that of the last as rejected (Nectar)."""
    prompt, ranking = row["prompt"], _ranking(row, index, row["prompt"], row["answers"], "answers")
    texts = [str(one.answer) for one in ranking.answers]
    split = read_transcripts(prompt, texts) if isinstance(prompt, str) else None
    if split is None:
        return ranking
    turns = [Rated(turn, one.score) for turn, one in zip(split.answers, ranking.answers, strict=True)]
    note(split.change)
    return replace(ranking, prompt=split.prompt, answers=turns)


@schema(
    "rated answers", columns=(), detect=_detect_rated, optional=(*PROMPT_COLUMNS, *ANSWERS, *RATINGS, *SYSTEM_COLUMNS),
    example={"instruction": QUESTION, "generations": ["Lyon.", "Paris."], "ratings": [2.0, 5.0]},
)  # fmt: skip
def rated_answers(row: Row, index: int) -> RatedAnswers:
    """Take the best and the worst of several answers by a list of ratings, scores or rewards (distilabel)."""
    name = next(name for name in ANSWERS if row.get(name) is not None)
    answers = _listed(row[name], name)
    ratings = next((n for n in RATINGS if row.get(n) is not None), None)
    if ratings is None:
        return _ranking(row, index, read_prompt(row), answers, name)
    numbers = _listed(row[ratings], ratings)
    if len(numbers) != len(answers):
        raise UserError(
            f"{name} has {len(answers)} answers, and {ratings} {len(numbers)} numbers; fix or remove the row"
        )
    sign = -1 if ratings == "ranks" else 1
    scored = [(_text_of(a), read_number(n)) for a, n in zip(answers, numbers, strict=True)]
    rated = [Rated(answer, sign * n) for answer, n in scored if n is not None and answer is not None]
    return RatedAnswers(row, index, read_prompt(row), rated, scores=sign > 0)


def _by_prompt(rows: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    """Group rows by prompt: yield one row per prompt, with all rows of the prompt under `rated`."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(str(row["prompt"]), []).append(index)
    for members in groups.values():
        yield members[0], {**rows[members[0]], "rated": [rows[i] for i in members]}


@schema(
    "helpsteer", columns=("prompt", "response", "helpfulness"), optional=(*ASPECTS, *SYSTEM_COLUMNS), gather=_by_prompt,
    example=(
        {"prompt": QUESTION, "response": "Lyon.", "helpfulness": 1, "correctness": 0},
        {"prompt": QUESTION, "response": "Paris.", "helpfulness": 4, "correctness": 4},
    ),
)  # fmt: skip
def helpsteer(row: Row, index: int) -> RatedAnswers:
    """Take a prompt's most helpful response as chosen, its least helpful as rejected; each has a row (HelpSteer)."""
    if len(row["rated"]) == 1:
        raise SkipRow("one response alone answers the prompt")
    scored = [(one["response"], read_number(one["helpfulness"])) for one in row["rated"]]
    return RatedAnswers(row, index, row["prompt"], [Rated(a, n) for a, n in scored if n is not None])


def _ranking(row: Row, index: int, prompt: Any, value: Any, name: str) -> RatedAnswers:
    """Read a list of objects, each an answer with a score, a rank, or ratings of several aspects.

    Raises:
        UserError: the cell is not a list, or no object has an answer and a score.
    """
    rated, listed = [], _listed(value, name)
    for one in listed:
        answer, score = _text_of(one), _score_of(one)
        if answer is not None and score is not None:
            rated.append(Rated(answer, score))
    if not rated:
        keys = ", ".join((*SCORE_KEYS, "rank"))
        raise UserError(f"{name} has no answer with a score; each is an object with {TEXT_KEYS[0]} and one of {keys}")
    by_rank = all(isinstance(one, dict) and "rank" in one for one in listed)
    return RatedAnswers(row, index, prompt, rated, scores=not by_rank)


def _score_of(one: Any) -> float | None:
    if not isinstance(one, dict):
        return None
    scores = [n for key in SCORE_KEYS if (n := read_number(one.get(key))) is not None]
    rank = read_number(one.get("rank"))
    aspects = [
        n
        for a in (one.get("annotations") or {}).values()
        if isinstance(a, dict) and (n := read_number(a.get("Rating"))) is not None
    ]
    return scores[0] if scores else -rank if rank is not None else fmean(aspects) if aspects else None


def _text_of(one: Any) -> Any:
    return next((one[key] for key in TEXT_KEYS if one.get(key) is not None), None) if isinstance(one, dict) else one


def _listed(value: Any, name: str) -> list[Any]:
    listed = parse_json(value)
    if not isinstance(listed, list):
        raise UserError(f"{name} is {type(value).__name__}, not a list; fix or remove the row")
    return listed
