"""Files of right and wrong answers to a prompt, under the column names of RewardBench 2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefzoo.data.rows import Row
from prefzoo.data.sources import load_file
from prefzoo.errors import UserError
from prefzoo.evals.judges.protocol import Answer
from prefzoo.evals.metrics.best_of import REFERENCE, TIED, Item
from prefzoo.evals.suites.prompts import prompts_of

WHOLE = "all"  # the subset of rows that name none
ANSWERS = ("chosen", "rejected")
MOST = 20  # lines of faults


def read_best_of(spec: str, folder: Path) -> list[Item]:
    """Read a file, or a data set of the hub, whose rows have RewardBench 2's columns.

    These are `prompt` (text, or messages), `chosen` and `rejected` (lists of answers, the right and the wrong ones),
    and optionally `id`, `subset`, `num_correct`, `num_incorrect` and `total_completions`, which are checked.

    Args:
        spec: a file, a folder or a hub id.
        folder: what a path is relative to.

    Returns:
        An item for each row.

    Raises:
        UserError: it cannot be read, or rows are wrong; the first lines of the faults.
    """
    rows = load_file(spec, folder)
    if not rows:
        raise UserError(f"{spec}: no rows; a row needs prompt, chosen and rejected")
    prompts = prompts_of([{name: v for name, v in row.items() if name not in ANSWERS} for row in rows], spec)
    items: list[Item] = []
    faults: list[str] = []
    for number, (row, prompt) in enumerate(zip(rows, prompts, strict=True), 1):
        try:
            right, wrong = (_answers(row, name) for name in ANSWERS)
            _check_counts(row, len(right), len(wrong))
            item = Item(prompt, str(row.get("subset") or WHOLE), right, wrong)
            if item.ties and prompt.id.partition(":")[0] not in (REFERENCE, TIED):
                begins = f"{REFERENCE}: or {TIED}:"
                raise UserError(f"id {prompt.id!r} in the ties must begin with {begins}, and end with a prompt's name")
            items.append(item)
        except UserError as e:
            faults += [f"{spec}: row {number}: {line}" for line in e.lines]
    faults += [f"{spec}: {line}" for line in _unpaired([item.row.id for item in items if item.ties])]
    if faults:
        raise UserError(faults[:MOST])
    return items


def _unpaired(ids: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the ids of the ties, in which every prompt has one row of either kind."""
    for name, count in Counter(ids).items():
        if count > 1:
            yield f"id {name!r} is in {count} rows; give each row of the ties its own id"
        kind, _, prompt = name.partition(":")
        other = f"{TIED if kind == REFERENCE else REFERENCE}:{prompt}"
        if other not in ids:
            yield f"id {name!r} has no partner row {other!r}, and ties are scored on both; add it, or leave the row out"


def _answers(row: Row, name: str) -> tuple[Answer, ...]:
    value = row.get(name)
    several = [value] if isinstance(value, str) else value
    if not isinstance(several, list) or not several:
        raise UserError(f"{name} must be a list of answers (is {value!r:.60})")
    return tuple(Answer(_text(answer, name), True, 0) for answer in several)


def _text(answer: Any, name: str) -> str:
    if isinstance(answer, Mapping):
        answer = answer.get("content")
    if not isinstance(answer, str) or not answer.strip():
        raise UserError(f"{name} holds an answer without text; leave it out")
    return answer


def _check_counts(row: Row, right: int, wrong: int) -> None:
    stated = {"num_correct": right, "num_incorrect": wrong, "total_completions": right + wrong}
    for name, count in stated.items():
        if row.get(name) not in (None, count):
            raise UserError(f"{name} is {row[name]!r}, but the row has {count}; correct one of them")
