"""A slow and obvious reference for which tokens are scored; it shares no code with prefzoo.

The test templates mark the assistant's words by hand. The marks are replaced by two private characters, and the
conversation is rendered with them. A token is the assistant's if its characters overlap with text between two marks.
"""

from __future__ import annotations

import json
import random
import re
from functools import cache
from pathlib import Path
from typing import Any

from conftest import build_tokenizer

OPEN, CLOSE = "\uf0f0", "\uf0f1"
TEMPLATES = Path(__file__).parent / "templates"
SPECIAL = {  # special tokens of each family: BOS, EOS, and others in its template
    "chatml": ("<s>", "<|im_end|>", ["<|im_start|>"]),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", ["<|start_header_id|>", "<|end_header_id|>"]),
    "qwen2_5": (None, "<|im_end|>", ["<|im_start|>"]),
    "qwen3": (None, "<|im_end|>", ["<|im_start|>"]),
    "gemma": ("<bos>", "<eos>", ["<start_of_turn>", "<end_of_turn>"]),
    "mistral": ("<s>", "</s>", ["[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"]),
    "phi": ("<s>", "<|endoftext|>", ["<|user|>", "<|assistant|>", "<|system|>", "<|end|>"]),
    "smollm": ("<|im_start|>", "<|im_end|>", []),
    "zephyr": ("<s>", "</s>", []),  # its headers are plain text
    "olmo": ("<|endoftext|>", "<|endoftext|>", []),
    "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", ["<｜User｜>", "<｜Assistant｜>"]),
    "deepseek_r1": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", ["<｜User｜>", "<｜Assistant｜>"]),
}
FAMILIES = [name for name in SPECIAL if name != "deepseek_r1"]  # its template begins the answer in the prompt
WITH_TOOLS = ["llama3", "qwen2_5", "qwen3", "mistral", "deepseek"]
MARK = re.compile(r"\{%-? generation %\}\n|\{%-? endgeneration %\}\n")


def template_of(family: str) -> str:
    """Return a family's chat template, with marks around the assistant's words."""
    return (TEMPLATES / f"{family}.jinja").read_text(encoding="utf-8")


@cache
def tokenizer_of(family: str, *, marked: bool = False, merging: bool = False) -> Any:
    """Return a small tokenizer with a family's special tokens and template; with `merging`, tokens may span words."""
    bos, eos, others = SPECIAL[family]
    tokenizer = build_tokenizer(None, merging=merging)
    tokenizer.add_special_tokens({"eos_token": eos, "additional_special_tokens": others})
    tokenizer.bos_token = None
    if bos:
        tokenizer.add_special_tokens({"bos_token": bos})
    tokenizer.chat_template = template_of(family) if marked else MARK.sub("", template_of(family))
    return tokenizer


def expected_tokens(
    family: str, tokenizer: Any, conversation: list[dict[str, Any]], first: int, **given: Any
) -> tuple[list[int], list[bool]]:
    """Return a conversation's tokens, and which are scored: the assistant's, from message number `first` on."""
    shown = MARK.sub(lambda m: f"{{{{- '{CLOSE if 'end' in m.group() else OPEN}' }}}}\n", template_of(family))
    text = tokenizer.apply_chat_template(conversation, tokenize=False, chat_template=shown, **given)
    spans, plain = [], ""
    for part in re.split(f"({OPEN}|{CLOSE})", text):
        if part == OPEN:
            spans.append([len(plain), len(plain)])
        elif part == CLOSE:
            spans[-1][1] = len(plain)
        else:
            plain += part
    assert plain == tokenizer.apply_chat_template(conversation, tokenize=False, **given)
    turns = [i for i, message in enumerate(conversation) if message["role"] == "assistant"]
    assert len(turns) == len(spans)
    asked = [span for i, span in zip(turns, spans, strict=True) if i >= first]
    read = tokenizer(plain, add_special_tokens=False, return_offsets_mapping=True)
    flags = [any(a < end and b > start for start, end in asked) for a, b in read["offset_mapping"]]
    return read["input_ids"], flags


WORDS = [
    "the river", " river ", "ice", "Yes.", "\n\nlong\n", "42", "<b>bold</b>", "naïve café 🌊", "assistant", "user:",
    "<think>", "a\n", ".\n\n", "name a river in the north", "{'json': 1}", "  ", "\tcold", "winter,", "<", "|>", "ок",
]  # fmt: skip
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Look something up.",
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
        },
    }
    for name in ("search", "weather")
]


def words(source: random.Random) -> str:
    """Return a random text that is not only blanks; templates may trim it."""
    text = "".join(source.choice(WORDS) for _ in range(source.randint(1, 6)))
    return text if text.strip() and "</think>" not in text else "river" + text


def exchange(source: random.Random, *, tools: bool) -> list[dict[str, Any]]:
    """Return an answer of the assistant, perhaps after calls of tools and their outputs."""
    turns: list[dict[str, Any]] = []
    for _ in range(source.randint(0, 2) if tools else 0):
        name = source.choice(TOOLS)["function"]["name"]
        call = {"name": name, "arguments": {"q": words(source)}}
        turns.append(
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "a1b2c3d4e", "type": "function", "function": call}],
            }
        )
        turns.append({"role": "tool", "name": name, "tool_call_id": "a1b2c3d4e", "content": json.dumps(words(source))})
    return [*turns, {"role": "assistant", "content": words(source)}]


def conversation(source: random.Random, turns: int, *, tools: bool) -> list[dict[str, Any]]:
    """Return `turns` answers of the assistant, with a message of the user before each except the first."""
    messages = exchange(source, tools=tools)
    for _ in range(turns - 1):
        messages += [{"role": "user", "content": words(source)}, *exchange(source, tools=tools)]
    return messages


def prompt(source: random.Random, *, system: bool) -> list[dict[str, Any]]:
    """Return the messages before the answers: a user's, perhaps after a system message and an earlier exchange."""
    messages = [{"role": "system", "content": words(source)}] if system else []
    if source.random() < 0.3:  # noqa: PLR2004
        messages += [{"role": "user", "content": words(source)}, {"role": "assistant", "content": words(source)}]
    return [*messages, {"role": "user", "content": words(source)}]
