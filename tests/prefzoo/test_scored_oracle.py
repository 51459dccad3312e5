"""The scored tokens against a slow and obvious reference, under the chat templates of many model families."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import oracle
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from prefzoo.data.examples import Pair
from prefzoo.data.tokenising import tokenise
from prefzoo.data.tokens import TokenExample

EXAMPLES = [pytest.param(5, id="quick"), pytest.param(80, id="many", marks=pytest.mark.slow)]
NO_SYSTEM = ("gemma", "mistral")  # one refuses it, one leaves it out once the last message is an answer


def flags_of(example: TokenExample, side: int) -> list[bool]:
    own = example.scored[side] if example.scored else [True] * len(example.answers[side])
    return [False] * len(example.prompt) + own


def check_side(
    family: str, tokenizer: Any, example: TokenExample, side: int, whole: Any, first: int, **given: Any
) -> None:
    ids, expected = oracle.expected_tokens(family, tokenizer, whole, first, **given)
    ours = example.prompt + example.answers[side]
    assert ours == ids[: len(ours)], tokenizer.decode(ours)
    assert not any(expected[len(ours) :])
    shown = [(tokenizer.decode([i]), a, b) for i, a, b in zip(ours, flags_of(example, side), expected, strict=False)]
    assert flags_of(example, side) == expected[: len(ours)], [s for s in shown if s[1] != s[2]]


def hold(check: Callable[[random.Random], None], examples: int) -> None:
    """Run a check on conversations that hypothesis makes, the same each time, and shrinks where it fails."""
    always = settings(max_examples=examples, derandomize=True, database=None, deadline=None)
    always(given(st.randoms(use_true_random=False))(check))()


def shared(chosen: list[Any], rejected: list[Any]) -> int:
    """How many messages both begin with; each keeps its last."""
    most = min(len(chosen), len(rejected)) - 1
    return next((i for i in range(most) if chosen[i] != rejected[i]), most)


def check_pair(family: str, tokenizer: Any, source: random.Random, *, tools: bool, **given: Any) -> None:
    start = oracle.prompt(source, system=family not in NO_SYSTEM and source.random() < 0.5)
    common = (
        []
        if source.random() < 0.6
        else [*oracle.conversation(source, 1, tools=tools), {"role": "user", "content": "so?"}]
    )
    chosen, rejected = ([*common, *oracle.conversation(source, source.randint(1, 3), tools=tools)] for _ in range(2))
    plain = [[{**m, "content": m["content"].strip()} for m in answer] for answer in (chosen, rejected)]
    assume(plain[0] != plain[1])  # some templates strip blanks, and equal answers are left out
    functions = oracle.TOOLS if tools else None
    done = tokenise(
        [Pair(start, chosen, rejected, 0, tools=functions, template=given or None)], tokenizer, 10**6, "drop"
    )
    same = shared(chosen, rejected)
    for side, answer in enumerate((chosen, rejected)):
        whole = [*start, *answer]
        check_side(family, tokenizer, done.examples[0], side, whole, len(start) + same, tools=functions, **given)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("merging", [False, True], ids=["words", "merging"])
@pytest.mark.parametrize("family", oracle.FAMILIES)
def test_conversations_of_every_family(family: str, merging: bool, examples: int) -> None:
    tokenizer = oracle.tokenizer_of(family, merging=merging)
    hold(lambda source: check_pair(family, tokenizer, source, tools=False), examples)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("merging", [False, True], ids=["words", "merging"])
@pytest.mark.parametrize("family", oracle.WITH_TOOLS)
def test_calls_of_tools_are_scored_as_rendered_and_outputs_never(family: str, merging: bool, examples: int) -> None:
    tokenizer = oracle.tokenizer_of(family, merging=merging)
    hold(lambda source: check_pair(family, tokenizer, source, tools=True), examples)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("family", ["qwen3", "smollm"])
def test_thinking_switched_off(family: str, examples: int) -> None:
    tokenizer = oracle.tokenizer_of(family)
    hold(lambda source: check_pair(family, tokenizer, source, tools=False, enable_thinking=False), examples)


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("family", oracle.FAMILIES)
def test_the_templates_own_marks(family: str, examples: int) -> None:
    tokenizer = oracle.tokenizer_of(family, marked=True)
    hold(lambda source: check_pair(family, tokenizer, source, tools=family in oracle.WITH_TOOLS), examples)
