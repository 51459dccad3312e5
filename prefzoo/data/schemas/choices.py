"""Rows with two answers and a choice between them: SHP, PKU-SafeRLHF, chatbot arena, HelpSteer2 and 3, WebGPT."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefzoo.data.examples import Pair
from prefzoo.data.rows import Row
from prefzoo.data.schemas.build import OPTIONAL, REF_REWARDS, build_pair, read_number, read_quantiles
from prefzoo.data.schemas.messages import parse_json
from prefzoo.data.schemas.notes import TiedRow
from prefzoo.data.schemas.other_names import PROMPT_COLUMNS, prompt_column, read_prompt
from prefzoo.data.schemas.preference_pairs import NO, USER, YES, implicit_prompt
from prefzoo.data.schemas.rankings import FromRow
from prefzoo.data.schemas.registry import schema
from prefzoo.errors import UserError

TIES = (
    "tie",
    "tied",
    "both",
    "bothbad",
    "tie (bothbad)",
    "both_bad",
    "both_good",
    "equal",
    "draw",
    "neither",
    "none",
    "same",
)
FIRST = ("a", "model_a", "first", "left", "answer_a", "response_a")
SECOND = ("b", "model_b", "second", "right", "answer_b", "response_b")
TWO = tuple(
    (f"{name}{a}", f"{name}{b}")
    for name in ("response", "answer", "output", "completion", "generation", "summary")
    for a, b in (("_a", "_b"), ("_A", "_B"), ("_0", "_1"), ("_1", "_2"), ("0", "1"), ("1", "2"), ("A", "B"))
)
CHOICES = (
    "winner", "preference", "preferred", "choice", "better", "better_response", "better_response_id", "label", "labels",
    "chosen",
)  # fmt: skip
SCORES = (("score_0", "score_1"), ("score_a", "score_b"), ("score_1", "score_2"))
STRENGTHS = ("preference_strength", "overall_preference")  # negative: the first is better
QUESTION = "What is the capital of France?"


def pick(value: Any, names: tuple[str, str], column: str) -> int | None:
    """Return which of two answers a cell names.

    Args:
        value: a name like `a` or `model_b`, or the last character of a column of `names`; if those end with 1 and 2, a
            number between 1 and 2 is the mean of several votes.
        names: the columns of both answers.
        column: the column of the cell, for messages.

    Returns:
        0 for the first answer, 1 for the second, None for a tie.

    Raises:
        UserError: the cell names neither answer.
    """
    text = str(value).strip().lower()
    number = read_number(value)
    text = str(int(number)) if number is not None and number.is_integer() else text
    ends = [name.lower()[-1] for name in names]
    is_tie = number == 0 and column == "preference" and ends == ["1", "2"]  # a tie in alpaca-eval's old files
    if text in TIES or is_tie:
        return None
    if number is not None and ends == ["1", "2"] and 1 < number < 2:  # noqa: PLR2004 - a mean of ones and twos
        return pick_higher((2 - number, number - 1), column)
    for place, (own, known) in enumerate(zip(names, (FIRST, SECOND), strict=True)):
        if text == own.lower() or text == ends[place] or (not ends[place].isdigit() and text in known):
            return place
    raise UserError(f"{column} is {value!r}; it must be {ends[0]} or {ends[1]}, or tie")


def pair_by(row: Row, index: int, prompt: Any, names: tuple[str, str], place: int | None) -> Pair:
    """Build a pair from two answers and the choice between them.

    Args:
        row, index: the row and its index.
        prompt: the cell with the prompt.
        names: the columns of both answers.
        place: which answer is chosen: 0 or 1, or None for a tie.

    Returns:
        The pair.

    Raises:
        TiedRow: `place` is None.
    """
    if place is None:
        raise TiedRow(lambda: pair_by(row, index, prompt, names, 0))
    return build_pair(row, index, prompt, row[names[place]], row[names[1 - place]])


def pick_higher(values: tuple[Any, Any], shown: str) -> int | None:
    """Return which of two numbers is higher: 0, 1, or None if they are equal.

    Args:
        values: the two cells.
        shown: the names of their columns, for messages.

    Raises:
        UserError: one of them is not a number.
    """
    first, second = map(read_number, values)
    if first is None or second is None:
        raise UserError(f"{shown}: {values[0]!r} and {values[1]!r} are not both numbers; fix or remove the row")
    return None if first == second else int(second > first)


def _two(columns: frozenset[str] | Row) -> tuple[str, str] | None:
    return next((names for names in TWO if names[0] in columns and names[1] in columns), None)


def _score_names(columns: frozenset[str]) -> tuple[str, str] | None:
    return next((names for names in SCORES if {*names} <= columns), None)


def _detect_strength(columns: frozenset[str]) -> str:
    return "has two responses and the strength of a preference" if columns & {*STRENGTHS} and _two(columns) else ""


def _detect_scores(columns: frozenset[str]) -> str:
    fits = _two(columns) and _score_names(columns) and prompt_column(columns)
    return "has two answers and their scores" if fits else ""


def _detect_choice(columns: frozenset[str]) -> str:
    fits = _two(columns) and columns & {*CHOICES} and "rejected" not in columns and prompt_column(columns)
    return "has two answers and which is better" if fits else ""


@schema(
    "shp", columns=("history", "human_ref_A", "human_ref_B", "labels"),
    example={"history": QUESTION, "human_ref_A": "Paris.", "human_ref_B": "Lyon.", "labels": 1},
)  # fmt: skip
def shp(row: Row, index: int) -> Pair:
    """Take the post as the prompt; labels is 1 if human_ref_A is the better answer, 0 if human_ref_B is (SHP)."""
    label = read_number(row["labels"])
    if label not in (0, 1):
        raise UserError(f"labels is {row['labels']!r}; it must be 1 (human_ref_A is better) or 0")
    return pair_by({**row, "history": None}, index, row["history"], ("human_ref_A", "human_ref_B"), 1 - int(label))


@schema(
    "safe-rlhf", columns=("prompt", "response_0", "response_1", "better_response_id"),
    before=("two answers and a choice",),
    example={"prompt": QUESTION, "response_0": "Lyon.", "response_1": "Paris.", "better_response_id": 1},
)  # fmt: skip
def safe_rlhf(row: Row, index: int) -> Pair:
    """Take the response that better_response_id names as chosen, the other as rejected (PKU-SafeRLHF)."""
    names = ("response_0", "response_1")
    return pair_by(row, index, row["prompt"], names, pick(row["better_response_id"], names, "better_response_id"))


@schema(
    "arena", columns=("conversation_a", "conversation_b", "winner"),
    example={"conversation_a": [USER, YES], "conversation_b": [USER, NO], "winner": "model_a"},
)  # fmt: skip
def arena(row: Row, index: int) -> FromRow:
    """Take the winner's conversation as chosen and the loser's as rejected; ties are skipped (chatbot arena)."""
    names = ("conversation_a", "conversation_b")
    place = pick(row["winner"], names, "winner")
    if place is None:
        raise TiedRow(lambda: arena.normalise({**row, "winner": "model_a"}, index))
    renamed = {**row, "chosen": row[names[place]], "rejected": row[names[1 - place]]}
    return implicit_prompt.normalise(renamed, index)


@schema(
    "arena messages", columns=("messages_a", "messages_b", "winner"),
    example={"messages_a": [USER, YES], "messages_b": [USER, NO], "winner": "model_a"},
)  # fmt: skip
def arena_messages(row: Row, index: int) -> FromRow:
    """Take the winner's messages as chosen and the loser's as rejected; ties are skipped (search arena)."""
    both = {"conversation_a": row["messages_a"], "conversation_b": row["messages_b"]}
    return arena.normalise({**row, **both}, index)


@schema(
    "arena votes", columns=("prompt", "response_a", "response_b", "winner_model_a", "winner_model_b"),
    optional=("winner_tie",),
    example={
        "prompt": f'["{QUESTION}"]', "response_a": '["Lyon."]', "response_b": '["Paris."]',
        "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0,
    },
)  # fmt: skip
def arena_votes(row: Row, index: int) -> FromRow:
    """Take the response with the vote as chosen; prompts and responses list the turns (Kaggle's chatbot arena)."""
    place = pick_higher((row["winner_model_a"], row["winner_model_b"]), "winner_model_a and winner_model_b")
    if place is None:
        raise TiedRow(lambda: arena_votes.normalise({**row, "winner_model_a": 1, "winner_model_b": 0}, index))
    prompts, *answers = (_turns(row[name], name) for name in ("prompt", "response_a", "response_b"))
    if any(len(turns) != len(prompts) for turns in answers):
        raise UserError("prompt, response_a and response_b have different numbers of turns; fix or remove the row")
    both = [
        [m for turn in zip(prompts, answer, strict=True) for m in _exchange(*turn)]
        for answer in (answers[place], answers[1 - place])
    ]
    return implicit_prompt.normalise({**row, "chosen": both[0], "rejected": both[1]}, index)


@schema(
    "summaries", columns=("info", "summaries", "choice"),
    example={
        "info": {"title": "Paris", "post": "I moved to Paris and love it."},
        "summaries": [{"text": "A move."}, {"text": "Paris is great."}], "choice": 1,
    },
)  # fmt: skip
def summaries(row: Row, index: int) -> Pair:
    """Take the post as the prompt, the summary that choice names as chosen, the other as rejected (OpenAI's TL;DR)."""
    info, both = row["info"], row["summaries"]
    texts = [one.get("text") for one in both if isinstance(one, dict)] if isinstance(both, list) else []
    if not isinstance(info, dict) or len(texts) != len(("chosen", "rejected")):
        raise UserError("info is not an object, or summaries does not have two texts; fix or remove the row")
    parts = [info[key] for key in ("title", "post", "article") if isinstance(info.get(key), str) and info[key].strip()]
    answers = {"summary_0": texts[0], "summary_1": texts[1]}
    names = ("summary_0", "summary_1")
    return pair_by({**row, **answers}, index, "\n\n".join(parts), names, pick(row["choice"], names, "choice"))


@schema(
    "helpsteer preferences", columns=(), detect=_detect_strength,
    optional=("context", "prompt", "response1", "response2", "response_1", "response_2", *STRENGTHS),
    example={"prompt": QUESTION, "response_1": "Lyon.", "response_2": "Paris.", "preference_strength": 2},
)  # fmt: skip
def helpsteer_preferences(row: Row, index: int) -> Pair:
    """Take the first response as chosen if the strength is negative, the second if positive (HelpSteer2 and 3)."""
    column = next(name for name in STRENGTHS if name in row)
    place = pick_higher((0, row[column]), column)
    return pair_by(row, index, read_prompt(row), _names(row), place)


@schema(
    "two answers and scores", columns=(), detect=_detect_scores, before=("two answers and a choice",),
    optional=(*PROMPT_COLUMNS, *OPTIONAL, *(n for names in (*TWO, *SCORES) for n in names)),
    example={"question": QUESTION, "answer_0": "Lyon.", "answer_1": "Paris.", "score_0": -1.0, "score_1": 1.0},
)  # fmt: skip
def two_scored_answers(row: Row, index: int) -> Pair:
    """Take the answer with the higher score as chosen, the other as rejected (WebGPT comparisons)."""
    columns = _score_names(frozenset(row)) or ("score_0", "score_1")
    scores = row.get(columns[0]), row.get(columns[1])
    place = pick_higher(scores, " and ".join(columns))
    pair = pair_by({**row, REF_REWARDS: None}, index, read_prompt(row), _names(row), place)
    low, high = sorted(float(score) for score in scores)  # type: ignore[arg-type] # both are numbers
    return replace(pair, scores=(high, low), quantiles=read_quantiles(row, (high, low)))


@schema(
    "two answers and a choice", columns=(), detect=_detect_choice, before=("explicit prompt",),
    optional=(*PROMPT_COLUMNS, *OPTIONAL, *CHOICES, *(n for names in TWO for n in names)),
    example={"instruction": "Name the capital of France.", "output_1": "Lyon.", "output_2": "Paris.", "preference": 2},
)  # fmt: skip
def two_answers_and_choice(row: Row, index: int) -> Pair:
    """Take the answer that winner, preference, choice, label or chosen names, like a or 2, as chosen (AlpacaFarm)."""
    column = next(name for name in CHOICES if name in row)
    names = _names(row)
    return pair_by(row, index, read_prompt(row), names, pick(row[column], names, column))


def _names(row: Row) -> tuple[str, str]:
    names = _two(row)
    assert names is not None  # the schema was detected by them
    return names


def _turns(value: Any, name: str) -> list[str]:
    turns = parse_json(value)
    if not (isinstance(turns, list) and all(isinstance(turn, str) for turn in turns)):
        raise UserError(f"{name} is not a list of texts, one for each turn; fix or remove the row")
    return turns


def _exchange(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
