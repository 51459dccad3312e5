from __future__ import annotations

from typing import Any

import pytest
import torch

from prefzoo.data.batches import collate, order, split
from prefzoo.data.tokens import TokenAnswer, TokenPair
from prefzoo.engine.logprobs import score
from prefzoo.types import CHOSEN, PADDING, PROMPT, REJECTED

PAIRS = [TokenPair([5, 6], [7, 8, 3], [9, 3], 40), TokenPair([10], [11, 3], [12, 13, 14, 3], 41)]


def test_one_row_per_answer_by_hand() -> None:
    batch = collate(PAIRS, "rows", pad=0)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 3], [10, 11, 3, 0, 0], [5, 6, 9, 3, 0], [10, 12, 13, 14, 3]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 0, 0], [0, 1, 2, 3, 0], [0, 1, 2, 3, 4]]
    assert batch.targets.tolist() == [7, 8, 3, 11, 3, 9, 3, 12, 13, 14, 3]
    # each source is one position before its target, rows are 5 wide: row 0 at 1, 2, 3; row 1 at 0, 1; row 2 at 1, 2; …
    assert batch.source.tolist() == [1, 2, 3, 5 + 0, 5 + 1, 10 + 1, 10 + 2, 15, 16, 17, 18]
    assert batch.owner.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert batch.pair_ids.tolist() == [40, 41]
    assert not batch.blocks


def test_one_block_per_pair_by_hand() -> None:
    batch = collate(PAIRS, "shared", pad=0)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 3, 9, 3, 10, 11, 3, 12, 13, 14, 3]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 2, 3, 0, 1, 2, 1, 2, 3, 4]]  # both answers follow the prompt
    p, c, r = PROMPT, CHOSEN, REJECTED
    assert batch.segments.tolist() == [[p, p, c, c, c, r, r, p, c, c, r, r, r, r]]
    # the first rejected token is predicted by the last prompt token: at 1 in the first block, at 7 in the second
    assert batch.source.tolist() == [1, 2, 3, 7, 8, 1, 5, 7, 10, 11, 12]
    assert batch.targets.tolist() == [7, 8, 3, 11, 3, 9, 3, 12, 13, 14, 3]
    assert batch.owner.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert batch.blocks == ((2, 3, 2), (1, 2, 4))


def test_one_block_per_answer_by_hand() -> None:
    batch = collate(PAIRS, "packed", pad=0)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 3, 10, 11, 3, 5, 6, 9, 3, 10, 12, 13, 14, 3]]
    assert batch.source.tolist() == [1, 2, 3, 5, 6, 9, 10, 12, 13, 14, 15]
    assert batch.owner.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3]
    assert batch.blocks == ((2, 3, 0), (1, 2, 0), (2, 2, 0), (1, 4, 0))


def test_single_answers_take_one_block_each() -> None:
    pairs = [TokenAnswer([5], [6, 3], True, 0), TokenAnswer([5], [7], False, 1)]
    batch = collate(pairs, "shared", pad=0)
    assert batch.tokens.tolist() == [[5, 6, 3, 5, 7]] and batch.blocks == ((1, 2, 0), (1, 1, 0))
    assert batch.owner.tolist() == [0, 0, 1]


def test_passes_hold_to_their_budget() -> None:
    pairs = [TokenPair([1], [2] * n, [3] * n, n) for n in (2, 3, 9, 1, 1, 1)]  # 5, 7, 19, 3, 3, 3 tokens
    assert split(pairs, range(6), 12, None) == [[0, 1], [2], [3, 4, 5]]
    assert split(pairs, [5, 0, 3], 100, 2) == [[5, 0], [3]]
    assert split(pairs, range(6), 10**6, None) == [list(range(6))]


def test_a_pair_without_a_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="with an empty prompt"):
        collate([TokenPair([], [1], [2], 0)], "rows", pad=0)


def random_pairs(count: int, seed: int) -> list[TokenPair]:
    gen = torch.Generator().manual_seed(seed)

    def ids() -> list[int]:
        length = int(torch.randint(1, 12, (), generator=gen))
        return torch.randint(4, 340, (length,), generator=gen).tolist()

    return [TokenPair(ids(), ids(), ids(), row) for row in range(count)]


def test_the_padding_token_does_not_matter(tiny_model: Any) -> None:
    pairs = random_pairs(4, seed=5)
    with torch.no_grad():
        zero, other = (score(tiny_model, collate(pairs, "rows", pad=pad)).margin for pad in (0, 77))
    torch.testing.assert_close(zero, other, rtol=0, atol=0)
    assert (collate(pairs, "rows", pad=0).segments == PADDING).any()


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
