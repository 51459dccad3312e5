"""Text and messages to token ids, by the chat template if there is one.

The boundary between prompt and answer is exact, and an answer's end is scored once.
"""

from __future__ import annotations

from typing import Any

from prefzoo.data.examples import Message, Text
from prefzoo.errors import UserError


def encode_prompt(tokenizer: Any, prompt: Text) -> list[int]:
    """Return the token ids of a prompt up to the start of an answer, where generation and training both begin."""
    return _ids(tokenizer, _prompt_text(tokenizer, prompt))


def encode_answer(tokenizer: Any, prompt: Text, answer: Text) -> tuple[list[int], list[int], bool]:
    """Tokenise a prompt and an answer together, and split them; a token across the boundary belongs to the answer.

    Args:
        tokenizer: a transformers tokenizer, with or without a chat template.
        prompt: text, or messages.
        answer: text, or messages.

    Returns:
        The prompt's token ids; the answer's, with its end-of-turn or EOS as the last; and whether the prompt alone
        would have been tokenised otherwise.

    Raises:
        UserError: the chat template refuses the messages.
    """
    head = _prompt_text(tokenizer, prompt)
    start = _ids(tokenizer, head)
    whole = _ids(tokenizer, head + _answer_text(tokenizer, prompt, answer))
    length = next(
        (i for i, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), min(len(start), len(whole))
    )
    return whole[:length], _with_end_of_turn(tokenizer, whole[length:]), length < len(start)


def _with_end_of_turn(tokenizer: Any, answer: list[int]) -> list[int]:
    """Return the answer up to its end-of-turn (templates may add blanks after it), or with EOS added if it has none."""
    last = len(answer)
    while last and not tokenizer.decode(answer[last - 1 : last]).strip():
        last -= 1
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | {tokenizer.eos_token_id}
    if last and answer[last - 1] in special:
        return answer[:last]
    return answer if tokenizer.eos_token_id is None else [*answer, tokenizer.eos_token_id]


def _prompt_text(tokenizer: Any, prompt: Text) -> str:
    if not tokenizer.chat_template:
        return prompt if isinstance(prompt, str) else "\n".join(m["content"] for m in prompt) + "\n"
    return _template(tokenizer, _messages("user", prompt), True)


def _answer_text(tokenizer: Any, prompt: Text, answer: Text) -> str:
    if isinstance(answer, str) and tokenizer.eos_token:
        answer = answer.removesuffix(tokenizer.eos_token)  # or the template's own would be a second
    if not tokenizer.chat_template:
        return answer if isinstance(answer, str) else "\n".join(str(m["content"]) for m in answer)
    head, messages = _prompt_text(tokenizer, prompt), _messages("assistant", answer)
    whole = _template(tokenizer, [*_messages("user", prompt), *messages], False)
    if whole.startswith(head):
        return whole[len(head) :]
    if len(messages) > 1:
        raise UserError("the chat template writes a prompt differently once it is answered; keep one answer per row")
    return str(messages[0]["content"])  # a reasoning template: generation starts from its header for the next answer


def _template(tokenizer: Any, messages: list[Message], generation: bool) -> str:
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(messages, add_generation_prompt=generation, tokenize=False)
    except TemplateError as e:
        roles = ", ".join(m["role"] for m in messages)
        raise UserError(f"the chat template refuses the roles {roles}: {e}; change or remove the row") from e
    return text


def _messages(role: str, text: Text) -> list[Message]:
    return [{"role": role, "content": text}] if isinstance(text, str) else text


def _ids(tokenizer: Any, text: str) -> list[int]:
    """Return ids with exactly one BOS where the tokenizer or its template sets one, and no EOS that it adds itself."""
    ids: list[int] = tokenizer(text, add_special_tokens=not tokenizer.chat_template, verbose=False)["input_ids"]
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    if not tokenizer.chat_template and eos is not None and ids[-1:] == [eos] and not text.endswith(tokenizer.eos_token):
        ids = ids[:-1]
    while bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
        ids = ids[1:]
    return ids
