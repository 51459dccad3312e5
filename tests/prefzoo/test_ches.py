"""CHES scores against a slow and obvious computation from the model's own last hidden states."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prefzoo.data.audits.ches import Ches
from prefzoo.data.batches import Layout
from prefzoo.data.tokens import TokenPair
from prefzoo.engine.ches import ches_of

PAIRS = [
    TokenPair([1, 5, 6], [7, 8, 9, 3], [10, 11, 3], 4),
    TokenPair([1, 20], [21, 22, 3], [30, 31, 32, 33, 3], 0, scored=([True, False, True], [True] * 5)),
]


def by_hand(model: Any, pair: TokenPair) -> tuple[float, float]:
    """Sum the last hidden states from the last token of the prompt to the one before the answer's last."""
    sums, counts = [], []
    for side, answer in enumerate(pair.answers):
        with torch.no_grad():
            output = model.model(input_ids=torch.tensor([[*pair.prompt, *answer]])).last_hidden_state[0]
        flags = pair.scored[side] if pair.scored else [True] * len(answer)
        states = [output[len(pair.prompt) - 1 + i] for i, flag in enumerate(flags) if flag]
        sums.append(torch.stack(states).sum(0))
        counts.append(len(states))
    product, square = float(sums[0] @ sums[1]), float(sums[0] @ sums[0])
    return product - square, product / (counts[0] * counts[1]) - square / counts[0] ** 2


@pytest.mark.parametrize("layout", ["shared", "packed", "rows"])
def test_scores_are_those_of_the_paper_in_every_layout(layout: Layout, tiny_model: Any) -> None:
    scores = ches_of(tiny_model, PAIRS, layout)
    expected = [by_hand(tiny_model, pair) for pair in PAIRS]
    assert scores.rows == (5, 1)
    assert scores.scores == pytest.approx([raw for raw, _ in expected], rel=1e-4, abs=1e-3)
    assert scores.normalised == pytest.approx([normalised for _, normalised in expected], rel=1e-4, abs=1e-3)


def test_the_highest_scores_are_named() -> None:
    scores = Ches((3, 9, 4), (0.0, -1.0, -2.0), (-3.0, -0.5, -0.25))
    assert scores.highest == [(4, -0.25), (9, -0.5), (3, -3.0)] and scores.quartiles[1] == -0.5
    assert "median -0.5" in scores.lines[0] and "rows 4 (-0.25), 9 (-0.5), 3 (-3)" in scores.lines[1]
