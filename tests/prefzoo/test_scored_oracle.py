"""The scored tokens against a slow and obvious reference, under the chat templates of many model families."""

from __future__ import annotations

import random
from typing import Any

import oracle
import pytest
from transformers.utils import logging

from prefzoo.data.examples import Pair
from prefzoo.data.tokenising import tokenise
from prefzoo.data.tokens import TokenExample

logging.set_verbosity_error()
QUICK, MANY = range(4), range(4, 80)
SEEDS = [pytest.param(QUICK, id="quick"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]
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
    functions = oracle.TOOLS if tools else None
    done = tokenise(
        [Pair(start, chosen, rejected, 0, tools=functions, template=given or None)], tokenizer, 10**6, "drop"
    )
    same = shared(chosen, rejected)
    for side, answer in enumerate((chosen, rejected)):
        whole = [*start, *answer]
        check_side(family, tokenizer, done.examples[0], side, whole, len(start) + same, tools=functions, **given)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("merging", [False, True], ids=["words", "merging"])
@pytest.mark.parametrize("family", oracle.FAMILIES)
def test_conversations_of_every_family(family: str, merging: bool, seeds: range) -> None:
    tokenizer = oracle.tokenizer_of(family, merging=merging)
    for seed in seeds:
        check_pair(family, tokenizer, random.Random(seed), tools=False)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("merging", [False, True], ids=["words", "merging"])
@pytest.mark.parametrize("family", oracle.WITH_TOOLS)
def test_calls_of_tools_are_scored_as_rendered_and_outputs_never(family: str, merging: bool, seeds: range) -> None:
    tokenizer = oracle.tokenizer_of(family, merging=merging)
    for seed in seeds:
        check_pair(family, tokenizer, random.Random(seed), tools=True)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("family", ["qwen3", "smollm"])
def test_thinking_switched_off(family: str, seeds: range) -> None:
    tokenizer = oracle.tokenizer_of(family)
    for seed in seeds:
        check_pair(family, tokenizer, random.Random(seed), tools=False, enable_thinking=False)


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("family", oracle.FAMILIES)
def test_the_templates_own_marks(family: str, seeds: range) -> None:
    tokenizer = oracle.tokenizer_of(family, marked=True)
    for seed in seeds:
        check_pair(family, tokenizer, random.Random(seed), tools=family in oracle.WITH_TOOLS)
