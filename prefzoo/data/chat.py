"""Render messages with a tokenizer's chat template, its tools and its variables."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from prefzoo.data.examples import Message, Text
from prefzoo.errors import UserError, did_you_mean

REASONING = ("reasoning_content", "reasoning", "thinking")  # fields of a message that may hold its reasoning
LATEST = 8  # renderings that are cached: both answers of a pair have the same prompt
_RENDERED: dict[Any, str] = {}
GIVEN = {"messages", "tools", "documents", "add_generation_prompt"}  # set by transformers, like the special tokens


@dataclass(frozen=True)
class Chat:
    """A tokenizer, with all inputs of its chat template but the messages.

    Attributes:
        tokenizer: a transformers tokenizer, with or without a chat template.
        tools: the functions that the assistant may call, as JSON schemas; None if there are none.
        variables: the template's own variables, such as `enable_thinking`.
    """

    tokenizer: Any
    tools: list[dict[str, Any]] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The source of the chat template; empty if the tokenizer has none."""
        if not self.tokenizer.chat_template:
            return ""
        source: str = self.tokenizer.get_chat_template(None, self.tools)
        return source

    def render(self, messages: Sequence[Message], *, generation: bool) -> str:
        """Render messages as one text.

        Args:
            messages: one or more messages.
            generation: whether to add the header of the assistant's next turn.

        Raises:
            UserError: the template refuses the messages.
        """
        key = (self._settings, _key(messages), generation)
        if key not in _RENDERED:
            while len(_RENDERED) >= LATEST:
                _RENDERED.pop(next(iter(_RENDERED)))
            _RENDERED[key] = self._apply(messages, add_generation_prompt=generation, tokenize=False)
        return _RENDERED[key]

    @cached_property
    def _settings(self) -> tuple[Any, ...]:
        """Everything that a rendering depends on, except the messages."""
        tokenizer, given = self.tokenizer, ""
        if self.tools or self.variables:
            given = json.dumps([self.tools, dict(self.variables)], default=repr)
        return tokenizer, self.source, tokenizer.bos_token, self.eos_token, given

    @cached_property
    def eos_token(self) -> str | None:
        """The tokenizer's EOS token as text; None if it has none."""
        token: str | None = self.tokenizer.eos_token
        return token

    def marked(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]] | None:
        """Return the token ids of messages, with flags for those inside the template's `{% generation %}` blocks.

        Return None if the template has no such blocks, or if the tokenizer is not a fast one.
        """
        if not (self.tokenizer.is_fast and _has_marks(self.source)):
            return None
        read = self._apply(messages, return_dict=True, return_assistant_tokens_mask=True)
        return read["input_ids"], [bool(flag) for flag in read["assistant_masks"]]

    def _apply(self, messages: Sequence[Message], **options: Any) -> Any:
        from jinja2 import TemplateError

        try:
            return self.tokenizer.apply_chat_template(list(messages), tools=self.tools, **self.variables, **options)
        except (TemplateError, TypeError, AttributeError, KeyError, IndexError, ValueError) as e:
            roles = ", ".join(m["role"] for m in messages)
            raise UserError(f"the chat template refuses the roles {roles}: {e}; change or remove the row") from e


def as_messages(role: str, text: Text) -> list[Message]:
    """Return a text as one message of a role; prepare messages for a chat template."""
    return [{"role": role, "content": text}] if isinstance(text, str) else [_for_template(m) for m in text]


def _key(messages: Sequence[Message]) -> Any:
    """Return a hashable key that is equal for equal messages only."""
    if all(type(value) is str for message in messages for value in message.values()):
        return tuple([tuple(message.items()) for message in messages])
    return json.dumps(list(messages), default=repr)


def calls_of(message: Message) -> list[dict[str, Any]]:
    """Return the tool calls of a message, each with name and arguments."""
    return [call.get("function", call) for call in message.get("tool_calls") or () if isinstance(call, dict)]


def is_left_out(message: Message) -> bool:
    """Return whether a message is marked as not scored, by `weight: 0` (OpenAI) or `train: false` (axolotl)."""
    weight, train = message.get("weight"), message.get("train")
    return train is False or (isinstance(weight, int | float) and weight == 0)


def without_blanks(value: Any) -> Any:
    """Remove None fields from nested objects: Arrow tables give each object the fields of all objects in its column."""
    if isinstance(value, dict):
        return {name: without_blanks(item) for name, item in value.items() if item is not None}
    return [without_blanks(item) for item in value] if isinstance(value, list) else value


def _for_template(message: Message) -> Message:
    """Remove None fields, copy the reasoning to `reasoning_content`, and parse the arguments of tool calls."""
    ours: Message = without_blanks(message)
    reasoning = next((ours[name] for name in REASONING if ours.get(name)), None)
    if reasoning is not None:
        ours["reasoning_content"] = reasoning
    if ours.get("tool_calls"):
        ours.setdefault("content", "")
        for call in calls_of(ours):
            call["arguments"] = _arguments(call.get("arguments", {}))
    return ours


def _arguments(value: Any) -> Any:
    """Parse the arguments of a tool call if they are JSON text, as in OpenAI's API: a template would quote it again."""
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value
    return parsed if isinstance(parsed, dict) else value


def check_variables(tokenizer: Any, variables: Mapping[str, Any], place: str) -> None:
    """Check that a chat template reads the variables that a user sets.

    Args:
        tokenizer: the tokenizer with the template.
        variables: name -> value.
        place: where the user wrote them, for the message.

    Raises:
        UserError: one line for each variable that the template does not read, or that transformers sets itself.
    """
    if not variables:
        return
    if not tokenizer.chat_template:
        raise UserError(f"{place}: this model's tokenizer has no chat template that could read variables; remove them")
    read = _reads(tokenizer.get_chat_template(None, None)) - GIVEN - {*tokenizer.special_tokens_map}
    faults = [
        f"{place}.{name}: the chat template reads no such variable; it reads {', '.join(sorted(read)) or 'none'}"
        f"{did_you_mean(name, sorted(read))}; remove it, or use a model whose template reads it"
        for name in variables
        if name not in read
    ]
    if faults:
        raise UserError(faults)


def without_unread(tokenizer: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Remove a row's variables that are empty or false and that the chat template does not read.

    Rows of public data sets may set variables for another model's template. Empty or false ones can be removed safely:
    this template renders the same text without them.

    Args:
        tokenizer: the tokenizer with the template.
        variables: name -> value.

    Returns:
        The remaining variables.
    """
    read = _reads(tokenizer.get_chat_template(None, None)) if tokenizer.chat_template else frozenset()
    return {name: value for name, value in variables.items() if value or name in read}


def with_variables(tokenizer: Any, variables: Mapping[str, Any], place: str) -> Any:
    """Return a tokenizer whose chat template has the given variables as defaults, for callers that pass none.

    Args:
        tokenizer: a transformers tokenizer; it is not modified.
        variables: the new defaults: name -> value.
        place: where the user wrote them, for messages.

    Returns:
        A copy of the tokenizer; the same tokenizer if there are no variables.

    Raises:
        UserError: see `check_variables`.
    """
    check_variables(tokenizer, variables, place)
    if not variables:
        return tokenizer
    head = "".join(
        f"{{%- if {n} is not defined %}}{{%- set {n} = {v!r} %}}{{%- endif %}}" for n, v in variables.items()
    )
    theirs, ours = tokenizer.chat_template, copy.deepcopy(tokenizer)
    several = isinstance(theirs, dict)
    ours.chat_template = {name: head + one for name, one in theirs.items()} if several else head + theirs
    return ours


def reads_tools(chat: Chat) -> bool:
    """Return whether the chat template reads the variable `tools`."""
    return "tools" in _reads(chat.source)


@lru_cache(maxsize=32)
def _reads(source: str) -> frozenset[str]:
    """Return the names of the variables that a template reads."""
    import re

    from jinja2 import TemplateError, meta, nodes
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    plain = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", source)
    try:
        parsed = ImmutableSandboxedEnvironment(extensions=[loopcontrols]).parse(plain)
    except TemplateError:
        return frozenset()
    read = meta.find_undeclared_variables(parsed)
    own = {name.name for name in parsed.find_all(nodes.Name) if name.ctx == "store"}
    tests = [*parsed.find_all(nodes.Test), *(f for f in parsed.find_all(nodes.Filter) if f.name in ("default", "d"))]
    optional = {part.node.name for part in tests if isinstance(part.node, nodes.Name)}
    return frozenset(read & (optional | read - own))  # a variable that the template sets if it is undefined is read


@lru_cache(maxsize=32)
def _has_marks(source: str) -> bool:
    import re

    return re.search(r"\{%-?\s*generation\s*-?%\}", source) is not None
