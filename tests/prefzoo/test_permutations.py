"""The order of rows, without torch: the same permutations as torch's."""

from __future__ import annotations

import pytest
import torch

from prefzoo.runtime.permutations import Permutations


@pytest.mark.parametrize("seed", [0, 1, 7, 12_345, 2**31, 2**32 + 3, -1])
def test_they_are_torchs_one_after_the_other(seed: int) -> None:
    ours, theirs = Permutations(seed), torch.Generator().manual_seed(seed)
    for size in (0, 1, 2, 5, 300, 299, 1, 1000):
        assert ours.next(size) == torch.randperm(size, generator=theirs).tolist()
