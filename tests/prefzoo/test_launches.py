"""How many operations a step dispatches on a GPU: few, and as many for 2 pairs as for 32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MANY, SHARE = 8, 1.5  # variants in one pass, and what they may take of what one takes
MOST = 3000  # of a forward and backward pass through 24 layers


@pytest.fixture(scope="module")
def launches() -> Iterator[ModuleType]:
    """The module of the benchmarks that counts operations; the path to it ends with these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import launches

        yield launches


@pytest.mark.slow
@pytest.mark.parametrize("lora", [False, True])
def test_operations_of_a_step_do_not_depend_on_the_number_of_pairs(lora: bool, launches: ModuleType) -> None:
    few, many = (launches.count_step(pairs, layers=2, vocabulary=340, lora=lora).launched for pairs in (2, 32))
    assert few == many


@pytest.mark.parametrize("settings", [{"lora": True}, {"lora": True, "dropout": 0.1}], ids=str)
def test_an_adapters_step_through_24_layers_dispatches_few_operations(
    settings: dict[str, Any], launches: ModuleType
) -> None:
    few, more = (
        launches.count_step(2, layers=layers, vocabulary=340, **settings).launched.total() for layers in (1, 3)
    )
    assert few + (more - few) // 2 * (launches.LAYERS - 1) <= MOST


@pytest.mark.slow
def test_a_step_through_24_layers_dispatches_few_operations(launches: ModuleType) -> None:
    count = launches.count_step(2, layers=launches.LAYERS, vocabulary=340)
    assert count.launched["_flash_attention_forward"] == count.launched["_flash_attention_backward"] == launches.LAYERS
    assert count.launched["_foreach_copy_"] < 2 * launches.LAYERS, "weights are cast in groups"
    assert count.launched.total() <= MOST


@pytest.mark.slow
def test_eight_variants_in_one_pass_take_at_most_half_as_many_operations_again_as_one(launches: ModuleType) -> None:
    """In a layer hardly more than one adapter takes; besides, each loss's own on a few numbers."""
    totals, layers, sizes = {}, {}, {"lora": True, "vocabulary": 340}
    for count in (1, MANY):
        one, two = (launches.count_step(2, variants=count, layers=n, **sizes).launched for n in (1, 2))
        assert one["_flash_attention_forward"] == one["_flash_attention_backward"] == 1, (
            "one call for all variants' blocks"
        )
        layers[count] = two.total() - one.total()
        totals[count] = one.total() + (launches.LAYERS - 1) * layers[count]
    assert totals[MANY] <= SHARE * totals[1] and totals[MANY] <= SHARE * MOST
    assert layers[MANY] <= SHARE * layers[1]
