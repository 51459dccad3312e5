"""Load a set of prompts: a built-in one by name, or a user's file of texts or conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefzoo.data.chat import Chat, as_messages
from prefzoo.data.examples import Message, Text
from prefzoo.data.rows import Row
from prefzoo.data.schemas import read_examples
from prefzoo.data.schemas.build import read_system, read_template, read_tools, with_system
from prefzoo.data.schemas.conversations import CONVERSATIONS, read_conversation
from prefzoo.data.schemas.messages import read_text
from prefzoo.data.sources import load_file
from prefzoo.errors import UserError
from prefzoo.evals.judges.conversations import simplified
from prefzoo.evals.judges.protocol import PromptRow
from prefzoo.evals.suites.instruct import build_prompts

BUILT_IN = {"train": 600, "eval": 100}  # default number of prompts of each split
ASKS = ("user", "tool")  # roles of a message that an answer can follow
UNREAD = {
    "tools": read_tools,
    "chat_template_kwargs": read_template,
}  # columns of training data that prompts must not have
MOST = 20  # most faults in one message
Say = Callable[[str], object]


def load_prompts(spec: str, folder: Path, say: Say | None = None) -> list[PromptRow]:
    """Load a set of prompts: `instruct:train`, `instruct:eval` (`:N` at the end for N prompts), or a file.

    A row of a file has a column `prompt` (a text or messages), `messages` or `conversations`. A preference pair without
    these has its prompt at the start of both answers. The text of a `system` column becomes the first message.

    Args:
        spec: the set.
        folder: the folder that a relative path starts from.
        say: called with a line about answers that are left out.

    Returns:
        The prompts. A single message of the user becomes a text.

    Raises:
        UserError: the set or file does not exist, or a row has no prompt.
    """
    if spec.startswith("instruct:"):
        _, split, *count = spec.split(":")
        if count and not (count[0].isdigit() and int(count[0])):
            raise UserError(f"{spec}: {count[0]!r}: not a number of prompts; write instruct:{split}:100")
        return build_prompts(split, int(count[0]) if count else BUILT_IN.get(split, 0))
    return prompts_of(load_file(spec, folder), spec, say)


def prompts_of(rows: Sequence[Row], spec: str, say: Say | None = None) -> list[PromptRow]:
    """Read the prompts from the rows of a file.

    Args:
        rows: the rows.
        spec: the file's name, for messages.
        say: called with a line about answers that are left out.

    Returns:
        The prompt of each row.

    Raises:
        UserError: a row has no usable prompt; with a line for each of the first faults.
    """
    prompts: list[PromptRow] = []
    faults: list[str] = []
    answered = 0
    for number, row in enumerate(rows, 1):
        try:
            prompt, cut = _prompt(row, spec)
            answered += cut
            checks = row.get("checks") or ()
            if not _are_checks(checks):
                raise UserError("checks is not a list of mappings; write it like [{kind: no_commas}], or leave it out")
            prompts.append(PromptRow(str(row.get("id", number)), prompt, tuple(checks), row.get("topic")))
        except UserError as e:
            faults += [f"{spec}: row {number}: {line}" for line in e.lines]
    if faults:
        raise UserError(faults[:MOST])
    if answered and say is not None:
        say(f"{spec}: {answered} of {len(rows)} conversations end with an answer, which is left out of the prompt")
    return prompts


def _prompt(row: Row, spec: str) -> tuple[Text, bool]:
    """Return a row's prompt, and whether an answer at its end was left out.

    Raises:
        UserError: the row has no prompt, or one that cannot be answered.
    """
    unread = next((name for name, read in UNREAD.items() if read(row)), "")
    if unread:
        raise UserError(f"{unread} is not used with prompts; remove the column")
    name = next((name for name in ("prompt", *CONVERSATIONS) if row.get(name) not in (None, "")), "")
    if name == "prompt":
        prompt, cut = _checked(read_text(row["prompt"])), False
    elif name:
        messages = read_conversation(row[name], name)
        asked = _without_answer(messages)
        prompt, cut = _checked(asked), len(asked) < len(messages)
    elif row.get("chosen") and row.get("rejected"):
        prompt, cut = _checked(read_examples([row], spec).examples[0].prompt), False
    else:
        raise UserError("prompt is missing or empty")
    system = read_system(row)
    return simplified(with_system(system, prompt) if system else prompt), cut


def _without_answer(messages: list[Message]) -> list[Message]:
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    return messages[:end]


def _checked(prompt: Any) -> Text:
    """Return a prompt that can be answered.

    Raises:
        UserError: the prompt is neither text nor messages, or does not end with a message of the user or a tool.
    """
    if isinstance(prompt, str):
        if not prompt.strip():
            raise UserError("prompt is missing or empty")
        return prompt
    if not isinstance(prompt, list) or not all(_is_message(m) for m in prompt):
        raise UserError(
            "prompt is neither text nor a list of messages with role and content; write it like "
            '[{"role": "user", "content": "..."}]'
        )
    if not prompt or prompt[-1]["role"] not in ASKS:
        last = f"a message of {prompt[-1]['role']!r}" if prompt else "nothing"
        raise UserError(f"the conversation ends with {last}; the last message must be the user's")
    if not prompt[-1]["content"].strip():
        raise UserError("the last message is empty; fill it, or remove the row")
    return prompt


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("role", "content"))


def _are_checks(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, dict) for one in value)


def check_rendered(prompts: Sequence[PromptRow], tokenizer: Any, variables: Mapping[str, Any], place: str) -> None:
    """Check that a model's chat template renders every conversation, without leaving out a message.

    Only messages of the assistant may be left out.

    Args:
        prompts: the prompts; only conversations are checked.
        tokenizer: the model's tokenizer.
        variables: variables of its chat template.
        place: where the prompts come from, for messages.

    Raises:
        UserError: the template refuses a conversation or leaves out a message; with a line for each fault.
    """
    if not tokenizer.chat_template:
        return
    faults = []
    for row in prompts:
        if isinstance(row.prompt, str):
            continue
        try:
            text = Chat(tokenizer, None, variables).render(as_messages("user", row.prompt), generation=True)
        except UserError as e:
            faults += [f"{place}: prompt {row.id}: {line}" for line in e.lines]
            continue
        lost = next((m for m in row.prompt if m["role"] != "assistant" and m["content"].strip() not in text), None)
        if lost is not None:
            faults.append(
                f"{place}: prompt {row.id}: the chat template leaves out the message of {lost['role']!r}; move "
                "its text into the user's message, or choose another model"
            )
    if faults:
        raise UserError(faults[:MOST])
