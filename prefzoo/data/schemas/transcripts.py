"""Pairs and labelled answers whose conversations are plain text, like hh-rlhf's."""

from __future__ import annotations

from collections.abc import Sequence

from prefzoo.data.rows import Row
from prefzoo.data.schemas.build import OPTIONAL, SYSTEM_COLUMNS, build_pair
from prefzoo.data.schemas.labelled_answers import detect_labelled, labelled_answer
from prefzoo.data.schemas.notes import note
from prefzoo.data.schemas.preference_pairs import PAIR_COLUMNS, explicit_prompt, implicit_prompt
from prefzoo.data.schemas.rankings import FromRow
from prefzoo.data.schemas.registry import Matches, schema
from prefzoo.data.schemas.turns import Transcripts, read_transcripts
from prefzoo.errors import UserError

HALF = 0.5
UNSPLIT = "without turns, read as text"


def _of_row(row: Row, names: Sequence[str]) -> Transcripts | None:
    prompt, answers = row.get("prompt") or "", [row.get(name) for name in names]
    if not isinstance(prompt, str) or not all(isinstance(answer, str) for answer in answers):
        return None
    texts = [str(answer) for answer in answers]
    if prompt.strip() and all(text.startswith(prompt) for text in texts):
        texts = [text[len(prompt) :] for text in texts]
    return read_transcripts(prompt, texts)


def _check(split: Transcripts) -> None:
    if split.fault:
        raise UserError(split.fault)


def _mostly(names: Sequence[str]) -> Matches:
    """Return a function that tests whether more than half of the rows hold transcripts."""
    return lambda rows: sum(_of_row(row, names) is not None for row in rows) > HALF * len(rows)


def _detect(columns: frozenset[str]) -> str:
    return "has chosen and rejected" if {*PAIR_COLUMNS} <= columns else ""


@schema(
    "transcripts", columns=PAIR_COLUMNS, detect=_detect, matches=_mostly(PAIR_COLUMNS), turns=True,
    optional=("prompt", *OPTIONAL), before=("implicit prompt", "explicit prompt", "repeated prompt"),
    example={
        "chosen": "\n\nHuman: What is the capital of France?\n\nAssistant: Paris.",
        "rejected": "\n\nHuman: What is the capital of France?\n\nAssistant: Lyon.",
    },
)  # fmt: skip
def transcripts(row: Row, index: int) -> FromRow:
    """Split text into the turns of user and assistant, at Human: (hh-rlhf), ### Response:, <|user|> and such."""
    split = _of_row(row, PAIR_COLUMNS)
    if split is None:
        note(UNSPLIT)
        plain = explicit_prompt if row.get("prompt") is not None else implicit_prompt
        return plain.normalise(row, index)
    _check(split)
    chosen, rejected = split.answers
    if split.prompt:
        pair: FromRow = build_pair(row, index, split.prompt, chosen, rejected)
    else:
        pair = implicit_prompt.normalise({**row, "chosen": chosen, "rejected": rejected}, index)
    note(split.change)
    return pair


@schema(
    "labelled transcripts", columns=("prompt", "completion", "label"), detect=detect_labelled,
    matches=_mostly(("completion",)), turns=True, optional=SYSTEM_COLUMNS, before=("single labelled answers",),
    example={
        "prompt": "\n\nHuman: What is the capital of France?\n\nAssistant:", "completion": " Paris.", "label": True,
    },
)  # fmt: skip
def labelled_transcripts(row: Row, index: int) -> FromRow:
    """Split a prompt's text into the turns of user and assistant; the completion is the last of them."""
    split = _of_row(row, ("completion",))
    if split is not None:
        _check(split)
    if split is None or not split.prompt:
        note(UNSPLIT)
        return labelled_answer.normalise(row, index)
    answer = labelled_answer.normalise({**row, "prompt": split.prompt, "completion": split.answers[0]}, index)
    note(split.change)
    return answer
