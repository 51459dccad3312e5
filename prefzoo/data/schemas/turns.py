"""Split plain-text transcripts into messages, at names like Human and Assistant or at marks of chat templates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from prefzoo.data.examples import Message

NAMES = (
    ("Human", "Assistant"), ("USER", "ASSISTANT"), ("User", "Assistant"), ("Human", "AI"), ("User", "AI"),
    ("human", "assistant"), ("user", "assistant"), ("prompter", "assistant"), ("H", "A"), ("Question", "Answer"),
    ("Q", "A"),
)  # fmt: skip
EXERCISES = ("H", "Question", "Q", "Instruction")  # a text may begin with such a word and be no transcript
HEADS = (("Instruction", "Response"), ("Human", "Assistant"), ("User", "Assistant"))
SYSTEM_NAMES = ("System", "SYSTEM")
ROLE_TOKENS = "system|user|assistant|tool"


@dataclass(frozen=True)
class Style:
    """One way to write a conversation as text.

    Attributes:
        shown: its marks, for messages.
        mark: matches the start of a turn; the group `role` is its role's mark.
        roles: role's mark -> role.
        ends: what closes a turn, and is no part of its content.
        preamble: whether text before the first mark is a system message; else it must be blank.
        hint: is in every transcript of this style; quicker to look for than the mark.
        alone: whether a prompt of this style is one whose answers have no mark of the assistant.
    """

    shown: str
    mark: re.Pattern[str]
    roles: dict[str, str]
    ends: tuple[str, ...] = ()
    preamble: bool = False
    hint: str = ""
    alone: bool = True


def _named(user: str, assistant: str, breaks: str) -> Style:
    roles = {user: "user", assistant: "assistant", **dict.fromkeys(SYSTEM_NAMES, "system")}
    mark = re.compile(rf"(?:\A\s*|{breaks})(?P<role>{'|'.join(roles)}):")
    return Style(f"{user} / {assistant}", mark, roles, alone=user not in EXERCISES)


def _headed(user: str, assistant: str) -> Style:
    roles = {user: "user", "Input": "user", "System": "system", assistant: "assistant"}
    mark = re.compile(rf"(?:\A|\n)\s*### (?P<role>{'|'.join(roles)}):?[ \t]*(?=\n|\Z|\S)")
    return Style(f"### {user} / ### {assistant}", mark, roles, preamble=True, hint="### ", alone=user not in EXERCISES)


def _roles(**more: str) -> dict[str, str]:
    return {**{role: role for role in ROLE_TOKENS.split("|")}, **more}


@dataclass(frozen=True)
class Transcripts:
    """A prompt with its answers, split into turns.

    Attributes:
        style: in which they are written.
        prompt: its turns; empty for whole transcripts.
        answers: the turns of each.
    """

    style: Style
    prompt: list[Message]
    answers: list[list[Message]]

    @property
    def change(self) -> str:
        """What was done to the row, for `note`."""
        return f"split into turns, written as a transcript ({self.style.shown})"


STYLES = (
    Style("<|im_start|>", re.compile(r"<\|im_start\|>(?P<role>\w+)(?:\n|<\|im_sep\|>|\Z)"), _roles(), ("<|im_end|>",)),
    Style(
        "<|start_header_id|>", re.compile(r"<\|start_header_id\|>(?P<role>\w+)<\|end_header_id\|>"),
        _roles(ipython="tool"), ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    ),
    Style(
        "<|header_start|>", re.compile(r"<\|header_start\|>(?P<role>\w+)<\|header_end\|>"), _roles(ipython="tool"),
        ("<|eot|>", "<|eom|>"),
    ),
    Style(
        "<|start_of_role|>", re.compile(r"<\|start_of_role\|>(?P<role>\w+)<\|end_of_role\|>"), _roles(),
        ("<|end_of_text|>",),
    ),
    Style(
        "<｜User｜>", re.compile(r"<｜(?P<role>User|Assistant)｜>"), {"User": "user", "Assistant": "assistant"},
        ("<｜end▁of▁sentence｜>",), preamble=True, hint="<｜User｜>",
    ),
    Style(
        "<|USER_TOKEN|>", re.compile(r"<\|START_OF_TURN_TOKEN\|><\|(?P<role>SYSTEM|USER|CHATBOT)_TOKEN\|>"),
        {"SYSTEM": "system", "USER": "user", "CHATBOT": "assistant"}, ("<|END_OF_TURN_TOKEN|>",),
    ),
    Style(
        "<start_of_turn>", re.compile(r"<start_of_turn>(?P<role>\w+)(?:\n|\Z)"), _roles(model="assistant"),
        ("<end_of_turn>", "<eos>"),
    ),
    Style(
        "<|user|>", re.compile(rf"<\|(?P<role>{ROLE_TOKENS}|prompter)\|>"), _roles(prompter="user"),
        ("</s>", "<|end|>", "<|endoftext|>", "<|end_of_text|>"),
    ),
    Style(
        "[INST]", re.compile(r"(?:<s>)?\s*(?P<role>\[/?INST\])"), {"[INST]": "user", "[/INST]": "assistant"}, ("</s>",)
    ),
    *(_headed(user, assistant) for user, assistant in HEADS),
    *(_named(user, assistant, breaks) for breaks in (r"\n\s*\n\s*", r"\n\s*") for user, assistant in NAMES),
    Style(
        "USER / ASSISTANT", re.compile(r"(?:\A|\s|</s>)(?P<role>USER|ASSISTANT):"),
        {"USER": "user", "ASSISTANT": "assistant"}, ("</s>",), preamble=True, hint="USER:",
    ),
    Style(
        "Human / Assistant", re.compile(r"(?:\A|\s)(?P<role>Human|Assistant):"),
        {"Human": "user", "Assistant": "assistant"}, hint="Human:",
    ),
)  # fmt: skip
BEGIN = re.compile(  # what begins a text that a chat template has written
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|<｜begin▁of▁sentence｜>|<BOS_TOKEN>|\[gMASK\]<sop>)(?=\S)"
)
SYSTEM_IN_LLAMA_2 = re.compile(r"\A\s*<<SYS>>\n?(.*?)\n?<</SYS>>\s*", re.DOTALL)


def split_turns(text: str, style: Style) -> list[Message] | None:
    """Split a transcript into messages.

    Args:
        text: begins with a turn of the user or the system.
        style: in which it is written.

    Returns:
        The messages, an empty one last where the transcript ends with the assistant's mark; adjacent turns of the same
        role are joined by a blank line. None if the text is not such a transcript.
    """
    if style.hint not in text or not (style.preamble or style.mark.match(text.lstrip())):
        return None
    marks = list(style.mark.finditer(text))
    if not marks or any(m["role"] not in style.roles for m in marks):
        return None
    before = text[: marks[0].start()].strip()
    if (before and not style.preamble) or style.roles[marks[0]["role"]] == "assistant":
        return None
    turns: list[Message] = [{"role": "system", "content": before}] if before else []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        content = _closed(text[mark.end() : following.start() if following else len(text)], style)
        turns = _extended(turns, style.roles[mark["role"]], content)
    return _with_system(turns)


def read_transcripts(prompt: str, answers: Sequence[str]) -> Transcripts | None:
    """Split the transcripts of a prompt with its answers.

    Args:
        prompt: ends with the assistant's mark, or the answers begin with it; empty if the answers are transcripts.
        answers: of one prompt.

    Returns:
        The turns in the first style that all of them are written in, or at least the prompt; None if there is none.
    """
    prompt, answers = _begun(prompt), answers if prompt.strip() else [_begun(answer) for answer in answers]
    for style in STYLES:
        head = split_turns(prompt, style) or []
        if prompt.strip() and not any(turn["role"] == "user" for turn in head):
            continue
        is_open = bool(head) and head[-1]["role"] == "assistant"
        begin = prompt if is_open or not head else f"{prompt.rstrip()}\n\n"
        wholes = [split_turns(begin + answer, style) or [] for answer in answers]
        shared = len(head) - is_open
        if all(_goes_on(whole, head[:shared]) for whole in wholes):
            return Transcripts(style, head[:shared], [whole[shared:] for whole in wholes])
    return _unmarked(prompt, answers)


def _begun(text: str) -> str:
    return BEGIN.sub("", text, count=1) if BEGIN.match(text) else text


def _unmarked(prompt: str, answers: Sequence[str]) -> Transcripts | None:
    """Split the transcript of a prompt that ends with the user's words, before answers without any mark."""
    split: list[tuple[Style, list[Message]]] = []
    for style in STYLES:
        turns = (split_turns(prompt, style) or []) if style.alone and style.mark.match(prompt.lstrip()) else []
        if turns and turns[-1]["role"] == "user" and not any(style.mark.search(f"\n\n{one}") for one in answers):
            split.append((style, turns))
    if not split:
        return None
    style, turns = max(split, key=lambda one: len(one[1]))  # the breaks between turns may be lines or blank lines
    return Transcripts(style, turns, [[{"role": "assistant", "content": _closed(one, style)}] for one in answers])


def _goes_on(whole: Sequence[Message], head: Sequence[Message]) -> bool:
    """Return whether a transcript begins with some turns, and the assistant speaks after them."""
    after = whole[len(head) :]
    return (
        list(whole[: len(head)]) == list(head)
        and any(turn["role"] == "assistant" for turn in after)
        and (not head or after[0]["role"] == "assistant")
    )


def _closed(content: str, style: Style) -> str:
    content = content.strip()
    for end in style.ends:
        content = content.removesuffix(end).rstrip()
    return content


def _extended(turns: list[Message], role: str, content: str) -> list[Message]:
    if turns and turns[-1]["role"] == role:
        joined = "\n\n".join(part for part in (turns[-1]["content"], content) if part)
        return [*turns[:-1], {"role": role, "content": joined}]
    return [*turns, {"role": role, "content": content}]


def _with_system(turns: list[Message]) -> list[Message]:
    """Return the turns with the system message that Llama 2 writes into the first one as a message of its own."""
    inner = SYSTEM_IN_LLAMA_2.match(turns[0]["content"])
    if not inner:
        return turns
    rest = {**turns[0], "content": turns[0]["content"][inner.end() :]}
    return [{"role": "system", "content": inner[1]}, rest, *turns[1:]]
