"""Where probability moves at an answer's first token: sums, order, and what the model itself gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prefzoo.engine.first_tokens import first_token_probs, moved_mass


def test_probabilities_are_the_models_own_whatever_the_lengths(tiny_model: Any) -> None:
    prompts = [[1, 5, 6], [1, 20, 21, 22, 23]]
    probs = first_token_probs(tiny_model, prompts)
    assert probs.shape == (2, 340) and probs.sum(1) == pytest.approx(torch.ones(2))
    with torch.no_grad():
        logits = tiny_model(input_ids=torch.tensor([prompts[1]])).logits[0, -1]
    assert torch.allclose(probs[1], logits.float().softmax(-1))


def test_what_gains_and_what_loses_is_named_largest_first(tiny_tokenizer: Any) -> None:
    a, b, c, d = (tiny_tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "abcd")
    before, after = torch.zeros(340), torch.zeros(340)
    before[[a, b, c, d]], after[[a, b, c, d]] = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.1, 0.2, 0.2, 0.5])
    moved = moved_mass(before, after, a, b, tiny_tokenizer)
    assert [token.text for token in moved.gained] == ["d"] and [token.text for token in moved.lost] == ["a", "b"]
    assert moved.chosen.text == "a" and moved.chosen.after == pytest.approx(0.1)
    assert moved.rejected.before == pytest.approx(0.3)


def test_nothing_moved(tiny_tokenizer: Any) -> None:
    same = torch.full((340,), 1 / 340)
    moved = moved_mass(same, same, 3, 4, tiny_tokenizer)
    assert moved.gained == moved.lost == () and moved.chosen.before == moved.chosen.after
