"""Split plain-text transcripts into messages, at names like `Human:` or at the tokens of chat templates."""

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
EXERCISES = ("H", "Question", "Q", "Instruction")  # many texts that are not transcripts begin with these
HEADS = (("Instruction", "Response"), ("Human", "Assistant"), ("User", "Assistant"))
SYSTEM_NAMES = ("System", "SYSTEM")
ROLE_TOKENS = "system|user|assistant|tool"


@dataclass(frozen=True)
class Style:
    """One way to write a conversation as text.

    Attributes:
        shown: its name in messages.
        mark: pattern that matches the start of a turn; its group `role` is a key of `roles`.
        roles: name of a role in this style -> role.
        ends: texts that may end a turn; they are removed from its content.
        preamble: whether text before the first mark is a system message; if not, there must be none.
        hint: a text that every transcript in this style contains; searching for it is faster than for the mark.
        alone: whether to split a prompt in this style, too, if its answers have no mark of the assistant.
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
    """A prompt with its answers, split into messages.

    Attributes:
        style: the style that they are written in.
        prompt: the messages of the prompt; empty if the answers are whole transcripts.
        answers: the messages of each answer.
        fault: why the row is refused, with the cure; empty if it is not.
    """

    style: Style
    prompt: list[Message]
    answers: list[list[Message]]
    fault: str = ""

    @property
    def change(self) -> str:
        """The change to the row, for `note`."""
        return f"split into turns, written as a transcript ({self.style.shown})"


HARMONY = Style(  # of gpt-oss
    "<|start|>",
    re.compile(r"<\|start\|>(?P<role>[^<]+(?:<\|channel\|>(?!final<)[^<]+)?)(?:<\|channel\|>final)?(?:<\|message\|>|\Z)"),
    _roles(developer="system"), ("<|end|>", "<|return|>"), hint="<|start|>",
)  # fmt: skip
OTHER_CHANNEL = re.compile(r"<\|channel\|>(?!final\b)(?P<name>\w+)[^<]*<\|message\|>")
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
    HARMONY,
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
BEGIN = re.compile(  # BOS tokens, with which a text rendered by a chat template begins
    r"\s*(?:<s>|<bos>|<\|begin_of_text\|>|<\|endoftext\|>|<｜begin▁of▁sentence｜>|<BOS_TOKEN>|\[gMASK\]<sop>)(?=\S)"
)
SYSTEM_IN_LLAMA_2 = re.compile(r"\A\s*<<SYS>>\n?(.*?)\n?<</SYS>>\s*", re.DOTALL)


def split_turns(text: str, style: Style) -> list[Message] | None:
    """Split a transcript into messages.

    Args:
        text: the text, which must begin with a turn of the user or the system.
        style: the style that it is written in.

    Returns:
        The messages; None if the text is not such a transcript. If it ends with the assistant's mark, the last message
        is empty. Adjacent turns of one role are joined by a blank line.
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
    """Split a prompt and its answers into messages.

    Args:
        prompt: the text of the prompt; empty if the answers are whole transcripts.
        answers: the texts of its answers.

    Returns:
        The messages, by the first style that prompt and answers are written in. If there is none, the prompt alone is
        split, and each answer is one message. None if the prompt is not a transcript either.
    """
    other = OTHER_CHANNEL.search("\n".join((prompt, *answers)))
    if other:
        fault = (
            f"a transcript of gpt-oss with the channel {other['name']}, which is not read; leave only the channel final"
        )
        return Transcripts(HARMONY, [], [], f"{fault}, or write the row as messages")
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
    """Split a prompt that ends with a turn of the user, if its answers have no marks."""
    split: list[tuple[Style, list[Message]]] = []
    for style in STYLES:
        turns = (split_turns(prompt, style) or []) if style.alone and style.mark.match(prompt.lstrip()) else []
        if turns and turns[-1]["role"] == "user" and not any(style.mark.search(f"\n\n{one}") for one in answers):
            split.append((style, turns))
    if not split:
        return None
    style, turns = max(split, key=lambda one: len(one[1]))  # some styles differ only in the line breaks between turns
    return Transcripts(style, turns, [[{"role": "assistant", "content": _closed(one, style)}] for one in answers])


def _goes_on(whole: Sequence[Message], head: Sequence[Message]) -> bool:
    """Return whether a transcript begins with the messages `head`, and an assistant message follows them."""
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
    """Move the system message that Llama 2 writes into the first turn to a message of its own."""
    inner = SYSTEM_IN_LLAMA_2.match(turns[0]["content"])
    if not inner:
        return turns
    rest = {**turns[0], "content": turns[0]["content"][inner.end() :]}
    return [{"role": "system", "content": inner[1]}, rest, *turns[1:]]
