"""Turn pairs and labelled answers into token ids. Whatever is dropped, cut, changed or left out is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, overload

from prefzoo.data.chat import Chat, check_variables, reads_tools, without_blanks, without_unread
from prefzoo.data.encoding import Encoded, Score, encode_answer
from prefzoo.data.examples import Example, LabelledAnswer, Pair, Text
from prefzoo.data.faults import Faults
from prefzoo.data.tokens import Scored, TokenAnswer, TokenExample, Tokenised, TokenPair, TooLong
from prefzoo.errors import UserError
from prefzoo.runtime.progress import Report


@dataclass(frozen=True)
class Reading:
    """How conversations are read.

    Attributes:
        score: whether `all` of the assistant's turns from the first in which the answers differ are scored, or only
            the `last` of each answer.
        variables: of the chat template, for all rows; a row's own come before them.
    """

    score: Score = "all"
    variables: Mapping[str, Any] = field(default_factory=dict)


ALL_TURNS = Reading()


@overload
def tokenise(
    examples: Sequence[Pair], tokenizer: Any, max_length: int, too_long: TooLong, spec: str = ...,
    report: Report | None = ..., reading: Reading = ..., faults: Faults | None = ...,
) -> Tokenised[TokenPair]: ...  # fmt: skip


@overload
def tokenise(
    examples: Sequence[Example], tokenizer: Any, max_length: int, too_long: TooLong, spec: str = ...,
    report: Report | None = ..., reading: Reading = ..., faults: Faults | None = ...,
) -> Tokenised[TokenExample]: ...  # fmt: skip


def tokenise(
    examples: Sequence[Example],
    tokenizer: Any,
    max_length: int,
    too_long: TooLong,
    spec: str = "data",
    report: Report | None = None,
    reading: Reading = ALL_TURNS,
    faults: Faults | None = None,
) -> Tokenised[TokenExample]:
    """Apply the chat template, if there is one, and split each prompt from its answers.

    Args:
        examples: pairs or single answers, as `normalise` gives them.
        tokenizer: a transformers tokenizer.
        max_length: most tokens of a prompt with one of its answers.
        too_long: what to do with longer examples: drop them, or cut their answers.
        spec: name of the data set, for messages.
        report: called with (examples done, all examples, "") after each.
        reading: which turns are scored, and what the chat template is given.
        faults: takes the rows that the template refuses; by default they are errors.

    Returns:
        The examples that remain, in order, and counts of what was dropped, changed or left out, by reason.

    Raises:
        UserError: the template refuses rows (the first few are named), does not read a variable that it is given, or no
            example is left.
    """
    if tokenizer is None:
        raise UserError(f"{spec}: the tokenizer is missing; pass the model's, like AutoTokenizer.from_pretrained(...)")
    if not examples:
        raise UserError(f"{spec}: no examples; at least one is needed")
    check_variables(tokenizer, reading.variables, "data.chat_template_kwargs")
    kept: list[TokenExample] = []
    counts: Counter[str] = Counter()
    lengths: list[int] = []
    faults = Faults(spec) if faults is None else faults
    for number, example in enumerate(examples, 1):
        try:
            tokens = encode_row(tokenizer, example, reading, counts)
        except UserError as e:
            for line in e.lines:
                faults.add(f"{spec}: row {example.row + 1}", line, asdict(example))
            continue
        if tokens is not None:
            lengths.append(len(tokens))
            fitting = fit_row(tokens, max_length, too_long, counts)
            kept += [fitting] if fitting else []
        if report:
            report(number, len(examples), "")
    faults.settle()
    check_kept(len(kept), counts, (min(lengths, default=0), max(lengths, default=0)), max_length, spec)
    return Tokenised(kept, counts)


def check_kept(kept: int, counts: Mapping[str, int], lengths: tuple[int, int], max_length: int, spec: str) -> None:
    """Check that examples are left.

    Args:
        kept: how many there are.
        counts: why others were dropped.
        lengths: tokens of the shortest and of the longest, dropped ones included; 0 without any.
        max_length: most tokens that an example may have.
        spec: name of the data set, for messages.

    Raises:
        UserError: none is left.
    """
    if kept:
        return
    range_ = f"; pairs have {lengths[0]} to {lengths[1]} tokens" if lengths[1] else ""
    reasons = ", ".join(f"{name} {n}" for name, n in counts.items())
    raise UserError(f"{spec}: no pair is left at max_length {max_length} ({reasons}{range_}); raise data.max_length")


def chat_of(tokenizer: Any, example: Example, variables: Mapping[str, Any]) -> Chat:
    """Gather what a chat template is given for an example.

    Args:
        tokenizer: a transformers tokenizer.
        example: a row may have tools and variables of its own.
        variables: those of all rows.

    Returns:
        The tokenizer, with the row's tools and all variables.

    Raises:
        UserError: the template does not read a variable of the row's.
    """
    if not example.template and not example.tools:
        return Chat(tokenizer, None, variables)
    own = without_unread(tokenizer, without_blanks(example.template or {}))
    check_variables(tokenizer, own, "chat_template_kwargs")
    return Chat(tokenizer, without_blanks(example.tools) or None, {**variables, **own})


def encode_row(tokenizer: Any, example: Example, reading: Reading, counts: Counter[str]) -> TokenExample | None:
    """Tokenise one example.

    Args:
        tokenizer: a transformers tokenizer.
        example: a pair or a labelled answer.
        reading: which turns are scored, and what the chat template is given.
        counts: grows by what is dropped, changed or left out.

    Returns:
        Its token ids; None where nothing can be learned from it.

    Raises:
        UserError: the template refuses it.
    """
    chat = chat_of(tokenizer, example, reading.variables)
    if chat.tools and not (tokenizer.chat_template and reads_tools(chat)):
        counts["tools left out: the chat template writes none"] += 1
    if len(without_blanks(example.template or {})) > len({*chat.variables} & {*(example.template or {})}):
        counts["chat_template_kwargs left out: empty or false, and not read by the chat template"] += 1
    tokens = (
        _encode_pair(chat, example, reading.score, counts)
        if isinstance(example, Pair)
        else _encode_answer(chat, example, reading.score, counts)
    )
    return None if tokens is None else _with_prompt(tokenizer, tokens, counts)


def _encode_answer(chat: Chat, answer: LabelledAnswer, score: Score, counts: Counter[str]) -> TokenAnswer:
    whole = encode_answer(chat, answer.prompt, answer.completion, score)
    _count([whole], counts)
    start = whole.start
    scored = _scored([whole], start)
    return TokenAnswer(whole.ids[:start], whole.ids[start:], answer.label, answer.row, scored)


def _encode_pair(chat: Chat, pair: Pair, score: Score, counts: Counter[str]) -> TokenPair | None:
    prompt, chosen, rejected = split_shared(pair)
    good, bad = (encode_answer(chat, prompt, answer, score) for answer in (chosen, rejected))
    shared = min(good.start, bad.start)
    if good.ids[:shared] != bad.ids[:shared]:  # the answers differ before the assistant speaks
        shared = next(i for i, (a, b) in enumerate(zip(good.ids, bad.ids, strict=False)) if a != b)
    tokens = TokenPair(
        good.ids[:shared],
        good.ids[shared:],
        bad.ids[shared:],
        pair.row,
        pair.scores,
        _scored([good, bad], shared),
        pair.quantiles,
    )
    if not isinstance(pair.chosen, str) and not chat.tokenizer.chat_template:
        counts["messages joined by newlines: no chat template"] += 1
    if tokens.chosen == tokens.rejected:
        counts["dropped: equal once tokenised"] += 1
        return None
    _count([good, bad], counts)
    return tokens


def split_shared(pair: Pair) -> tuple[Text, Text, Text]:
    """Return prompt, chosen and rejected, with the messages that both answers begin with as a part of the prompt."""
    prompt, chosen, rejected = pair.prompt, pair.chosen, pair.rejected
    if isinstance(chosen, str) or isinstance(rejected, str):
        return prompt, chosen, rejected
    most = min(_last_said(chosen), _last_said(rejected))
    same = next((i for i in range(most) if chosen[i] != rejected[i]), most)
    if same <= 0:
        return prompt, chosen, rejected
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [*asked, *chosen[:same]], chosen[same:], rejected[same:]


def _last_said(messages: Text) -> int:
    """Return the index of the assistant's last message; 0 without one."""
    turns = [i for i, message in enumerate(messages) if isinstance(message, dict) and message["role"] == "assistant"]
    return turns[-1] if turns else 0


def _scored(answers: Sequence[Encoded], start: int) -> Scored | None:
    """Return which tokens from `start` on are scored; None where all are."""
    flags = tuple(answer.scored[start:] for answer in answers)
    return None if all(map(all, flags)) else flags


def _count(answers: Sequence[Encoded], counts: Counter[str]) -> None:
    if any(answer.merged for answer in answers):
        counts["boundary moved"] += 1
    if any(answer.left_out for answer in answers):
        counts["text of an answer left out by the chat template"] += 1


def _with_prompt(tokenizer: Any, tokens: TokenExample, counts: Counter[str]) -> TokenExample | None:
    """Return the example, with one BOS as its prompt if that is empty: something must predict an answer's first token.

    None where the tokenizer has no such token.
    """
    if tokens.prompt:
        return tokens
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        counts["dropped: no prompt, and no BOS to begin with"] += 1
        return None
    counts["begun with a BOS: no prompt"] += 1
    return replace(tokens, prompt=[first])


def fit_row(tokens: TokenExample, max_length: int, too_long: TooLong, counts: Counter[str]) -> TokenExample | None:
    """Drop or cut an example that is too long.

    Args:
        tokens: the example.
        max_length: most tokens of its prompt with one of its answers.
        too_long: whether a longer one is dropped, or its answers are cut.
        counts: grows by one where that happens.

    Returns:
        The example, its cut, or None.
    """
    if len(tokens) <= max_length:
        return tokens
    left = max_length - len(tokens.prompt)
    if too_long == "drop" or left <= 0:
        counts["dropped: too long" if too_long == "drop" else "dropped: prompt alone is too long"] += 1
        return None
    cut = tokens.truncated(left)
    if isinstance(cut, TokenPair) and cut.chosen == cut.rejected:
        counts["dropped: equal once cut"] += 1
        return None
    if not all(cut.scored_lengths):
        counts["dropped: nothing scored once cut"] += 1
        return None
    counts["cut"] += 1
    return cut
