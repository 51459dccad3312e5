"""Turn pairs and labelled answers into token ids, and count what is dropped, cut or changed."""

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
from prefzoo.runtime.counts import counted
from prefzoo.runtime.progress import Report


@dataclass(frozen=True)
class Reading:
    """The settings for tokenising conversations.

    Attributes:
        score: which assistant turns are scored: `all` from the first one in which the answers differ, or only the
            `last` one of each answer.
        variables: variables for the chat template; a row's own variables override them.
    """

    score: Score = "all"
    variables: Mapping[str, Any] = field(default_factory=dict)


ALL_TURNS = Reading()
TOO_LONG, PROMPT_TOO_LONG = "dropped: too long", "dropped: prompt alone is too long"
EQUAL_CUT, UNSCORED_CUT = "dropped: equal once cut", "dropped: nothing scored once cut"
BY_LENGTH = (TOO_LONG, PROMPT_TOO_LONG, EQUAL_CUT, UNSCORED_CUT)  # reasons that a larger data.max_length removes
EQUAL, NO_PROMPT = "dropped: equal once tokenised", "dropped: no prompt, and no BOS to begin with"
CURES = {NO_PROMPT: "give each row a prompt", EQUAL: "the two answers of a row must differ"}


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
    """Tokenise pairs or labelled answers, with the chat template if the tokenizer has one.

    Args:
        examples: pairs or labelled answers, from `normalise`.
        tokenizer: a transformers tokenizer.
        max_length: most tokens of a prompt with one of its answers.
        too_long: what to do with longer examples: `drop` them, or `cut` their answers.
        spec: name of the data set, for messages.
        report: called with (examples done, all examples, "") after each example.
        reading: which turns are scored, and the variables of the chat template.
        faults: collects the rows that the template refuses; if None, such rows raise an error.

    Returns:
        The examples that were not dropped, in order, and the number of rows that were dropped or changed, by reason.

    Raises:
        UserError: the template refuses rows (the first few are listed) or does not read one of the variables, or no
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
    """Check that tokenising did not drop every example.

    Args:
        kept: number of examples that were not dropped.
        counts: number of rows that were dropped or changed, by reason.
        lengths: tokens of the shortest and longest example, dropped ones included; 0 if there is none.
        max_length: most tokens that an example may have.
        spec: name of the data set, for messages.

    Raises:
        UserError: no example is left.
    """
    if kept:
        return
    if any(counts.get(reason) for reason in BY_LENGTH):
        range_ = f"; pairs have {lengths[0]} to {lengths[1]} tokens" if lengths[1] else ""
        left = f"no pair is left at max_length {max_length} ({counted(counts)}{range_})"
        raise UserError(f"{spec}: {left}; raise data.max_length")
    cure = next((cure for reason, cure in CURES.items() if counts.get(reason)), "correct these rows")
    raise UserError(f"{spec}: no pair is left ({counted(counts)}); {cure}")


def chat_of(tokenizer: Any, example: Example, variables: Mapping[str, Any]) -> Chat:
    """Combine a tokenizer with an example's tools and variables for the chat template.

    Args:
        tokenizer: a transformers tokenizer.
        example: a pair or a labelled answer, which may have its own tools and variables.
        variables: the variables for all rows; the example's own override them.

    Returns:
        The tokenizer with tools and variables.

    Raises:
        UserError: the template does not read one of the example's variables.
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
        reading: which turns are scored, and the variables of the chat template.
        counts: a reason's count is increased if the example is dropped or changed.

    Returns:
        The token ids; None if the example is dropped.

    Raises:
        UserError: the template refuses the example.
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
    if good.ids[:shared] != bad.ids[:shared]:  # the answers differ before their first assistant turn
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
        counts[EQUAL] += 1
        return None
    _count([good, bad], counts)
    return tokens


def split_shared(pair: Pair) -> tuple[Text, Text, Text]:
    """Return prompt, chosen and rejected, after moving the messages that both answers begin with to the prompt."""
    prompt, chosen, rejected = pair.prompt, pair.chosen, pair.rejected
    if isinstance(chosen, str) or isinstance(rejected, str):
        return prompt, chosen, rejected
    most = min(_last_turn(chosen), _last_turn(rejected))
    same = next((i for i in range(most) if chosen[i] != rejected[i]), most)
    if same <= 0:
        return prompt, chosen, rejected
    before = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return [*before, *chosen[:same]], chosen[same:], rejected[same:]


def _last_turn(messages: Text) -> int:
    """Return the index of the assistant's last message; 0 if there is none."""
    turns = [i for i, message in enumerate(messages) if isinstance(message, dict) and message["role"] == "assistant"]
    return turns[-1] if turns else 0


def _scored(answers: Sequence[Encoded], start: int) -> Scored | None:
    """Return the flags of scored tokens from `start` on, for each answer; None if all are scored."""
    flags = tuple(answer.scored[start:] for answer in answers)
    return None if all(map(all, flags)) else flags


def _count(answers: Sequence[Encoded], counts: Counter[str]) -> None:
    if any(answer.merged for answer in answers):
        counts["boundary moved"] += 1
    if any(answer.left_out for answer in answers):
        counts["text of an answer left out by the chat template"] += 1


def _with_prompt(tokenizer: Any, tokens: TokenExample, counts: Counter[str]) -> TokenExample | None:
    """Return the example, with one BOS token as its prompt if that is empty. A token must precede each scored one.

    EOS replaces a missing BOS. Return None if the tokenizer has neither.
    """
    if tokens.prompt:
        return tokens
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        counts[NO_PROMPT] += 1
        return None
    counts["begun with a BOS: no prompt"] += 1
    return replace(tokens, prompt=[first])


def fit_row(tokens: TokenExample, max_length: int, too_long: TooLong, counts: Counter[str]) -> TokenExample | None:
    """Drop or cut an example that is too long.

    Args:
        tokens: the example.
        max_length: most tokens of its prompt with one of its answers.
        too_long: what to do with a longer example: `drop` it, or `cut` its answers.
        counts: a reason's count is increased if the example is dropped or cut.

    Returns:
        The example, unchanged or cut; None if it is dropped.
    """
    if len(tokens) <= max_length:
        return tokens
    left = max_length - len(tokens.prompt)
    if too_long == "drop" or left <= 0:
        counts[TOO_LONG if too_long == "drop" else PROMPT_TOO_LONG] += 1
        return None
    cut = tokens.truncated(left)
    if isinstance(cut, TokenPair) and cut.chosen == cut.rejected:
        counts[EQUAL_CUT] += 1
        return None
    if not all(cut.scored_lengths):
        counts[UNSCORED_CUT] += 1
        return None
    counts["cut"] += 1
    return cut
