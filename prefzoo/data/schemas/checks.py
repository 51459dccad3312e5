"""Check pairs and labelled answers, whichever schema built them."""

from __future__ import annotations

from typing import Any

from prefzoo.data.examples import Example, LabelledAnswer, Pair, Text
from prefzoo.errors import UserError


def check_example(example: Example, *, whole: bool = False, empty: bool = False) -> None:
    """Check the types, roles and lengths of a pair's or a labelled answer's texts.

    Args:
        example: the pair or the labelled answer.
        whole: whether chosen and rejected may be whole conversations, with the prompt.
        empty: whether an answer of a pair may be empty.

    Raises:
        UserError: there is a fault; one line with the fault and its cure.
    """
    fault = pair_fault(example, whole=whole, empty=empty) if isinstance(example, Pair) else answer_fault(example)
    if fault:
        raise UserError(fault)


def is_filled(text: Text) -> bool:
    """Return whether a string, or the last message, has more than white space; a tool call counts, too."""
    if isinstance(text, str):
        return bool(text.strip())
    return bool(text) and (bool(text[-1]["content"].strip()) or bool(text[-1].get("tool_calls")))


def pair_fault(pair: Pair, *, whole: bool = False, empty: bool = False) -> str:
    """Return the first fault of a pair.

    Args:
        pair: the pair.
        whole, empty: as for `check_example`.

    Returns:
        One line with the fault and its cure; empty if there is no fault.
    """
    for name, text in (("prompt", pair.prompt), ("chosen", pair.chosen), ("rejected", pair.rejected)):
        if wrong := _type_fault(text):
            return f"{name} {wrong}"
        if name != "prompt" and not is_filled(text) and not (empty and text != []):
            return f"{name} is empty; remove the row"
    if type(pair.chosen) is not type(pair.rejected):
        return "chosen and rejected are of different types; both must be text, or both lists of messages"
    if isinstance(pair.chosen, str) and not isinstance(pair.prompt, str):
        return "prompt is a list of messages, but chosen and rejected are text; write all three alike"
    for name, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if not isinstance(text, str) and not whole and text[0]["role"] != "assistant":
            return f"{name} begins with a message of {text[0]['role']!r}; move it to the prompt"
        if not isinstance(text, str) and text[-1]["role"] != "assistant":
            return f"{name} ends with a message of {text[-1]['role']!r}; the last must be the assistant's"
    return "chosen equals rejected; remove the row" if pair.chosen == pair.rejected else ""


def answer_fault(answer: LabelledAnswer) -> str:
    """Return the first fault of a labelled answer with its cure; empty if there is no fault."""
    for name, text in (("prompt", answer.prompt), ("completion", answer.completion)):
        if wrong := _type_fault(text):
            return f"{name} {wrong}"
    if not is_filled(answer.completion):
        return "completion is empty; remove the row"
    if not isinstance(answer.completion, str) and answer.completion[-1]["role"] != "assistant":
        return f"completion ends with a message of {answer.completion[-1]['role']!r}; the last must be the assistant's"
    if not isinstance(answer.label, bool):
        return f"label is {answer.label!r}; it must be true (a good answer) or false"
    if type(answer.prompt) is not type(answer.completion):
        return "prompt and completion are of different types; both must be text, or both lists of messages"
    return ""


def _type_fault(text: Any) -> str:
    if text is None:
        return "is missing; fill it, or remove the row"
    if isinstance(text, list) and text and all(isinstance(one, str) for one in text):
        return f"is a list of {len(text)} texts, where one is needed; make a row of each"
    if not isinstance(text, (str, list)):
        return f"is {type(text).__name__}, not text or a list of messages; write the text itself there"
    if isinstance(text, str) or all(_is_message(message) for message in text):
        whole = text if isinstance(text, str) else "".join(message["content"] for message in text)
        return "holds half a character (a lone surrogate), where a text was cut; repair it" if _is_cut(whole) else ""
    return "is a list of something other than messages with role and content, both text"


def _is_cut(text: str) -> bool:
    """Return whether a text holds half of a surrogate pair, which tokenizers refuse."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("role", "content"))
