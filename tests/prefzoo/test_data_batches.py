from __future__ import annotations

from typing import Any

import pytest
import torch

from prefzoo.data.batches import attention_mask, collate, order
from prefzoo.data.tokens import TokenPair
from prefzoo.types import CHOSEN, PADDING, PROMPT, REJECTED, PairBatch

PAIRS = [TokenPair([5, 6], [7, 8, 3], [9, 3], 40), TokenPair([10], [11, 3], [12, 13, 14, 3], 41)]


def test_one_row_per_answer_by_hand() -> None:
    batch = collate(PAIRS, shared=False, pad=0)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 3], [10, 11, 3, 0, 0], [5, 6, 9, 3, 0], [10, 12, 13, 14, 3]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 0], [0, 1, 2, 3, 0], [0, 1, 2, 3, 4]]
    assert batch.targets.tolist() == [7, 8, 3, 11, 3, 9, 3, 12, 13, 14, 3]
    # each source is one position before its target, rows are 5 wide: row 0 at 1, 2, 3; row 1 at 0, 1; row 2 at 1, 2; …
    assert batch.source.tolist() == [1, 2, 3, 5 + 0, 5 + 1, 10 + 1, 10 + 2, 15, 16, 17, 18]
    assert batch.owner.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert batch.pair_ids.tolist() == [40, 41]
    assert not batch.shares_prompts


def test_one_row_per_pair_by_hand() -> None:
    batch = collate(PAIRS, shared=True, pad=0)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 3, 9, 3], [10, 11, 3, 12, 13, 14, 3]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 2, 3], [0, 1, 2, 1, 2, 3, 4]]  # both answers follow the prompt
    p, c, r = PROMPT, CHOSEN, REJECTED
    assert batch.segments.tolist() == [[p, p, c, c, c, r, r], [p, c, c, r, r, r, r]]
    # rows are 7 wide; the first rejected token is predicted by the last prompt token: 1 in row 0, 7 + 0 in row 1
    assert batch.source.tolist() == [1, 2, 3, 7 + 0, 7 + 1, 1, 5, 7 + 0, 7 + 3, 7 + 4, 7 + 5]
    assert batch.targets.tolist() == [7, 8, 3, 11, 3, 9, 3, 12, 13, 14, 3]
    assert batch.owner.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert batch.shares_prompts


def test_masks_by_hand() -> None:
    pairs = [TokenPair([5], [6], [7], 0), TokenPair([5], [6, 3], [7], 1)]
    keys = attention_mask(collate(pairs, shared=False, pad=0))
    assert keys.int().tolist() == [[1, 1, 0], [1, 1, 1], [1, 1, 0], [1, 1, 0]]
    mask = attention_mask(collate(pairs, shared=True, pad=0))
    assert mask.shape == (2, 1, 4, 4) and mask.dtype == torch.bool
    # prompt, chosen, rejected, padding: rejected does not see chosen; padding sees at least itself
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]
    assert mask[1, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 1]]


def test_a_pair_without_a_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="without a prompt token"):
        collate([TokenPair([], [1], [2], 0)], shared=False, pad=0)


def sums(model: Any, batch: PairBatch) -> torch.Tensor:
    """(2B,) summed log-probs from the full logits, plainly."""
    with torch.no_grad():
        out = model(batch.tokens, position_ids=batch.positions, attention_mask=attention_mask(batch)).logits
    tokens = out.log_softmax(-1).flatten(0, 1)[batch.source, batch.targets]
    return torch.zeros(2 * len(batch)).index_add(0, batch.owner, tokens)


def random_pairs(count: int, seed: int) -> list[TokenPair]:
    gen = torch.Generator().manual_seed(seed)

    def ids() -> list[int]:
        length = int(torch.randint(1, 12, (), generator=gen))
        return torch.randint(4, 340, (length,), generator=gen).tolist()

    return [TokenPair(ids(), ids(), ids(), row) for row in range(count)]


def test_both_layouts_give_each_answer_the_log_prob_it_has_alone(tiny_model: Any) -> None:
    pairs = random_pairs(6, seed=3)
    alone = []
    for side in ("chosen", "rejected"):
        for pair in pairs:  # no padding, no mask, no position ids: the model's own defaults
            answer = getattr(pair, side)
            with torch.no_grad():
                logits = tiny_model(torch.tensor([pair.prompt + answer])).logits[0].log_softmax(-1)
            alone.append(sum(float(logits[len(pair.prompt) + i - 1, t]) for i, t in enumerate(answer)))
    for shared in (False, True):
        found = sums(tiny_model, collate(pairs, shared=shared, pad=0))
        torch.testing.assert_close(found, torch.tensor(alone), rtol=1e-5, atol=1e-4)
    one, other = (sums(tiny_model, collate(pairs, shared=shared, pad=0)) for shared in (True, False))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_the_padding_token_does_not_matter(tiny_model: Any) -> None:
    pairs = random_pairs(4, seed=5)
    for shared in (False, True):
        zero, other = (sums(tiny_model, collate(pairs, shared=shared, pad=pad)) for pad in (0, 77))
        torch.testing.assert_close(zero, other, rtol=0, atol=0)
    assert (collate(pairs, shared=True, pad=0).segments == PADDING).any()


@pytest.mark.parametrize(("pairs", "batch", "steps"), [(10, 4, 5), (3, 8, 2), (8, 8, 1)])
def test_every_pair_is_seen_once_before_any_comes_again(pairs: int, batch: int, steps: int) -> None:
    seen = order(pairs, batch, steps, seed=0)
    assert [len(rows) for rows in seen] == [batch] * steps
    flat = [i for rows in seen for i in rows]
    for start in range(0, len(flat), pairs):
        epoch = flat[start : start + pairs]
        assert len(set(epoch)) == len(epoch)


def test_order_depends_on_the_seed_alone_and_is_reshuffled() -> None:
    assert order(20, 4, 10, seed=1) == order(20, 4, 10, seed=1)
    assert order(20, 4, 5, seed=1) == order(20, 4, 10, seed=1)[:5]  # more steps only add to the end
    assert order(20, 20, 1, seed=1) != order(20, 20, 1, seed=2)
    first, second = order(20, 20, 2, seed=1)
    assert first != second and sorted(first) == sorted(second) == list(range(20))
