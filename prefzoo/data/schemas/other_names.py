"""Pairs whose prompt or answers are in columns of other names, as in orca_dpo_pairs, Alpaca and distilabel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefzoo.data.examples import Pair
from prefzoo.data.rows import Row
from prefzoo.data.schemas.build import OPTIONAL, build_pair, read_tools
from prefzoo.data.schemas.conversations import CONVERSATIONS, is_conversation, read_conversation
from prefzoo.data.schemas.messages import as_messages, read_history, read_text
from prefzoo.data.schemas.preference_pairs import implicit_prompt
from prefzoo.data.schemas.rankings import FromRow
from prefzoo.data.schemas.registry import Detect, schema
from prefzoo.errors import UserError

PROMPTS = (
    "prompt",
    "question",
    "instruction",
    "query",
    "input",
    "problem",
    "user",
    "context",
    "text_prompt",
)  # the first of these that a row has
INPUTS = ("input", "history")  # columns that complete an instruction or a query
PROMPT_COLUMNS = (*PROMPTS, "history")
ANSWERS = (
    ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected"),
    ("chosen_answer", "rejected_answer"), ("response", "rejected_response"), ("chosen_output", "rejected_output"),
    ("preferred", "dispreferred"), ("preferred_response", "dispreferred_response"), ("preferred", "rejected"),
    ("selected", "rejected"),
    ("accepted", "rejected"), ("winner", "loser"), ("better", "worse"),
    ("win", "lose"), ("positive", "negative"), ("pos", "neg"), ("chosen_text", "rejected_text"),
    ("output_chosen", "output_rejected"), ("answer_chosen", "answer_rejected"),
    ("chosen_conversations", "rejected_conversations"), ("chosen_messages", "rejected_messages"),
    ("text_chosen", "text_rejected"), ("chosen_completion", "rejected_completion"),
    ("completion_chosen", "completion_rejected"), ("chosen_summary", "rejected_summary"),
    ("chosen_code", "rejected_code"), ("chosen_solution", "rejected_solution"),
    ("y_w", "y_l"), ("good_answer", "bad_answer"),
)  # fmt: skip
WHOLE = ("chosen_conversations", "chosen_messages")  # these may hold whole conversations, with the prompt
EXAMPLE = {"chosen": "Paris.", "rejected": "Lyon."}


def prompt_column(columns: frozenset[str] | Row) -> str:
    """Return the column that holds the prompt; empty if there is none."""
    return next((name for name in PROMPTS if name in columns), "")


def read_prompt(row: Row) -> Any:
    """Return a row's prompt: its history, then its instruction with its input.

    Raises:
        UserError: the history is neither a list of messages nor one of pairs of texts.
    """
    name = next((n for n in PROMPTS if row.get(n) is not None), "")
    prompt = _unwrapped(row.get(name))
    more = row.get("input")
    if name in ("instruction", "query") and isinstance(prompt, str) and isinstance(more, str) and more.strip():
        prompt = f"{prompt}\n\n{more}" if prompt.strip() else more
    earlier = read_history(row.get("history"))
    return [*earlier, *as_messages(read_text(prompt), "user")] if earlier and prompt is not None else prompt


def _unwrapped(prompt: Any) -> Any:
    """Return the messages inside an object of OpenAI's files, or the text inside one of WebGPT's; else the value."""
    if isinstance(prompt, dict):
        return next((prompt[key] for key in ("messages", "full_text", "text") if key in prompt), prompt)
    return prompt


def _under(name: str) -> Detect:
    """Return a detector of rows with chosen or rejected whose prompt is in the column `name`."""

    def detect(columns: frozenset[str]) -> str:
        fits = columns & {"chosen", "rejected"} and prompt_column(columns) == name
        return f"has {name}, and chosen or rejected" if fits else ""

    return detect


@schema(
    "orca", columns=("question", "chosen", "rejected"), detect=_under("question"), optional=OPTIONAL,
    before=("implicit prompt",),
    example={"system": "Answer in one word.", "question": "What is the capital of France?", **EXAMPLE},
)  # fmt: skip
def orca(row: Row, index: int) -> Pair:
    """Take the question as the prompt, after the system message if there is one (orca_dpo_pairs)."""
    return build_pair(row, index, row["question"], row["chosen"], row["rejected"])


@schema(
    "alpaca", columns=("instruction", "chosen", "rejected"), detect=_under("instruction"),
    optional=(*INPUTS, *OPTIONAL), before=("implicit prompt",),
    example={"instruction": "Name the capital of this country.", "input": "France", **EXAMPLE},
)  # fmt: skip
def alpaca(row: Row, index: int) -> Pair:
    """Take the instruction, a blank line and the input as the prompt (Alpaca, LLaMA-Factory)."""
    return build_pair(row, index, read_prompt(row), row["chosen"], row["rejected"])


@schema(
    "distilabel", columns=("input", "chosen", "rejected"), detect=_under("input"), optional=OPTIONAL,
    before=("implicit prompt",), example={"input": "What is the capital of France?", **EXAMPLE},
)  # fmt: skip
def distilabel(row: Row, index: int) -> Pair:
    """Take the input as the prompt (distilabel-intel-orca-dpo-pairs)."""
    return build_pair(row, index, row["input"], row["chosen"], row["rejected"])


def _detect_other_prompt(columns: frozenset[str]) -> str:
    name = prompt_column(columns)
    fits = columns & {"chosen", "rejected"} and name in ("query", "problem", "user", "context")
    return f"has {name}, and chosen or rejected" if fits else ""


@schema(
    "query", columns=("chosen", "rejected"), detect=_detect_other_prompt,
    optional=(*PROMPTS[3:], *INPUTS, *OPTIONAL), before=("implicit prompt",),
    example={"query": "What is the capital of France?", **EXAMPLE},
)  # fmt: skip
def query(row: Row, index: int) -> Pair:
    """Take the prompt from the column query, problem, user or context."""
    return build_pair(row, index, read_prompt(row), row["chosen"], row["rejected"])


def _answers(columns: frozenset[str] | Row) -> tuple[str, str] | None:
    return next((names for names in ANSWERS if names[0] in columns and names[1] in columns), None)


def _detect_other_answers(columns: frozenset[str]) -> str:
    names = _answers(columns)
    if not names or {"chosen", "rejected"} <= columns:
        return ""
    fits = prompt_column(columns) or names[0] in WHOLE or columns & {*CONVERSATIONS}
    return f"has {' and '.join(names)}" if fits else ""


@schema(
    "other names", columns=(), detect=_detect_other_answers,
    optional=(*PROMPT_COLUMNS, *CONVERSATIONS, *(name for names in ANSWERS for name in names), *OPTIONAL),
    before=("explicit prompt", "implicit prompt", "orca", "alpaca", "distilabel", "query", "ms-swift"),
    example={"instruction": "Name the capital of France.", "chosen_response": "Paris.", "rejected_response": "Lyon."},
)  # fmt: skip
def other_names(row: Row, index: int) -> FromRow:
    """Take chosen and rejected from columns of other names, like chosen_response or preferred."""
    names = _answers(row)
    if names is None:
        shown = ", ".join("/".join(pair) for pair in ANSWERS)
        raise UserError(f"the row has none of the column pairs {shown}; map yours with data.columns")
    prompt = row.get("prompt") if "prompt" in row else read_prompt(row)
    chosen, rejected = (read_text(row[name]) for name in names)
    if prompt is None and is_conversation(chosen):
        return implicit_prompt.normalise({**row, "chosen": chosen, "rejected": rejected}, index)
    column = next((name for name in CONVERSATIONS if row.get(name) is not None), "")
    if prompt is None and column:
        prompt = read_conversation(row[column], column)
    return build_pair(row, index, prompt, chosen, rejected)


@schema(
    "stack-exchange-paired", columns=("question", "response_j", "response_k"), optional=OPTIONAL,
    example={"question": "What is the capital of France?", "response_j": "Paris.", "response_k": "Lyon."},
)  # fmt: skip
def stack_exchange_paired(row: Row, index: int) -> Pair:
    """Take response_j, which has more votes, as chosen and response_k as rejected (stack-exchange-paired)."""
    return build_pair(row, index, row["question"], row["response_j"], row["response_k"])


@schema(
    "openai", columns=("input", "preferred_output", "non_preferred_output"), optional=OPTIONAL,
    example={
        "input": {"messages": [{"role": "user", "content": "What is the capital of France?"}]},
        "preferred_output": [{"role": "assistant", "content": "Paris."}],
        "non_preferred_output": [{"role": "assistant", "content": "Lyon."}],
    },
)  # fmt: skip
def openai(row: Row, index: int) -> Pair:
    """Take the input's messages and tools, and the preferred and the other output (OpenAI's fine-tuning files)."""
    pair = build_pair(row, index, _unwrapped(row["input"]), row["preferred_output"], row["non_preferred_output"])
    return replace(pair, tools=read_tools(row["input"])) if isinstance(row["input"], dict) else pair


def _two_outputs(rows: Any) -> bool:
    return all(_are_two(row.get("output")) for row in rows)


def _are_two(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == len(("chosen", "rejected"))


@schema(
    "alpaca outputs", columns=("instruction", "output"), matches=_two_outputs, optional=(*INPUTS, *OPTIONAL),
    example={"instruction": "Name the capital of this country.", "input": "France", "output": ["Paris.", "Lyon."]},
)  # fmt: skip
def alpaca_outputs(row: Row, index: int) -> Pair:
    """Take the first of two outputs as chosen and the second as rejected (older LLaMA-Factory)."""
    if not _two_outputs([row]):
        raise UserError("output is not a list of two answers, the better one first; fix or remove the row")
    return build_pair(row, index, read_prompt(row), *row["output"])
