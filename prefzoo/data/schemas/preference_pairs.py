"""Pairs of chosen and rejected answers, with a prompt column or with a prompt that both answers begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.data.examples import Pair
from prefzoo.data.rows import Row
from prefzoo.data.schemas.build import OPTIONAL, build_pair
from prefzoo.data.schemas.checks import check_example, is_filled
from prefzoo.data.schemas.messages import as_messages, read_history, read_text
from prefzoo.data.schemas.notes import note
from prefzoo.data.schemas.registry import schema
from prefzoo.data.schemas.shared_prompt import FEWEST, REPEATED, rough_tokens, split_conversations, split_texts
from prefzoo.errors import UserError

PAIR_COLUMNS = ("chosen", "rejected")
LONGEST_CUE = 40  # most characters of a cue, the last line of a prompt, like `TL;DR:`
REPEATED_CUE = "whose answers repeat the last line of the prompt, which is taken once"
USER, YES, NO = (
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "assistant", "content": "Lyon."},
)


def _detect_explicit(columns: frozenset[str]) -> str:
    return "has a prompt, and chosen or rejected" if "prompt" in columns and columns & {*PAIR_COLUMNS} else ""


def _detect_implicit(columns: frozenset[str]) -> str:
    return "has chosen or rejected, and no prompt" if "prompt" not in columns and columns & {*PAIR_COLUMNS} else ""


@schema(
    "explicit prompt", columns=("prompt", *PAIR_COLUMNS), detect=_detect_explicit, optional=(*OPTIONAL, "history"),
    example={"prompt": "What is the capital of France?", "chosen": "Paris.", "rejected": "Lyon."},
)  # fmt: skip
def explicit_prompt(row: Row, index: int) -> Pair:
    """Take prompt, chosen and rejected as they are; a prompt that the answers' messages repeat is taken once."""
    earlier = read_history(row.get("history"))
    prompt = [*earlier, *as_messages(read_text(row["prompt"]), "user")] if earlier else row["prompt"]
    return build_pair(row, index, prompt, *_without_cue(prompt, row["chosen"], row["rejected"]))


def _without_cue(prompt: Any, *answers: Any) -> tuple[Any, ...]:
    """Remove the prompt's last line, like `TL;DR:`, from the start of the answers if both repeat it."""
    if not all(isinstance(text, str) for text in (prompt, *answers)):
        return answers
    _, line_break, cue = prompt.rstrip().rpartition("\n")
    starts = cue.endswith(":") and len(cue) <= LONGEST_CUE and all(a.lstrip().startswith(cue) for a in answers)
    if not (line_break and starts):
        return answers
    note(REPEATED_CUE)
    return tuple(answer.lstrip()[len(cue) :] for answer in answers)


@schema(
    "step-dpo", columns=("prompt", "initial_reason_steps", *PAIR_COLUMNS), optional=OPTIONAL,
    before=("explicit prompt", "transcripts"),
    example={
        "prompt": "What is 2 + 3 + 4?", "initial_reason_steps": "Step 1: 2 + 3 = 5.\nStep 2: ",
        "chosen": "5 + 4 = 9.", "rejected": "5 + 4 = 8.",
    },
)  # fmt: skip
def step_dpo(row: Row, index: int) -> Pair:
    """Begin both answers with initial_reason_steps, the steps before the one in which they differ (Step-DPO)."""
    steps, answers = row["initial_reason_steps"] or "", [row[name] for name in PAIR_COLUMNS]
    if not all(isinstance(text, str) for text in (steps, *answers)):
        raise UserError("initial_reason_steps, chosen and rejected are not all texts; fix or remove the row")
    note("whose answers begin with initial_reason_steps")
    return build_pair(row, index, row["prompt"], *(steps + answer for answer in answers))


@schema(
    "implicit prompt", columns=PAIR_COLUMNS, detect=_detect_implicit, optional=OPTIONAL,
    example={"chosen": [USER, YES], "rejected": [USER, NO]},
)  # fmt: skip
def implicit_prompt(row: Row, index: int) -> Pair:
    """Take what chosen and rejected both begin with as the prompt: whole conversations, or texts."""
    chosen, rejected = read_text(row["chosen"]), read_text(row["rejected"])
    empty: Any = "" if isinstance(chosen, str) else []
    check_example(Pair(empty, chosen, rejected, index), whole=True)
    split = split_texts if isinstance(chosen, str) else split_conversations
    prompt, first, second = split(chosen, rejected, row)
    if not (is_filled(first) and is_filled(second)):
        raise UserError("one answer is only the beginning of the other; add a prompt column, or remove the row")
    return build_pair(row, index, prompt, first, second)


def _repeat_the_prompt(rows: Sequence[Row]) -> bool:
    return all(
        isinstance(row.get("prompt"), str)
        and rough_tokens(row["prompt"]) >= FEWEST
        and all(isinstance(row.get(name), str) and row[name].startswith(row["prompt"]) for name in PAIR_COLUMNS)
        for row in rows
    )


@schema(
    "repeated prompt", columns=("prompt", *PAIR_COLUMNS), matches=_repeat_the_prompt, optional=OPTIONAL,
    before=("explicit prompt",),
    example={
        "prompt": "The capital of France is",
        "chosen": "The capital of France is Paris.",
        "rejected": "The capital of France is Lyon.",
    },
)  # fmt: skip
def repeated_prompt(row: Row, index: int) -> Pair:
    """Leave the prompt out of chosen and rejected, which are texts that begin with it in every row."""
    prompt, answers = row["prompt"], [row[name] for name in PAIR_COLUMNS]
    if not isinstance(prompt, str) or not all(isinstance(a, str) and a.startswith(prompt) for a in answers):
        raise UserError(
            "chosen and rejected do not both begin with the prompt, as in other rows; fix or remove the row"
        )
    note(REPEATED)
    return build_pair(row, index, prompt, *(answer[len(prompt) :] for answer in answers))
