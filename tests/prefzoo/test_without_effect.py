"""Settings that change nothing in a training are named, and so are ties that a loss takes for preferences."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefzoo import losses
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.experiment.data import check_variants
from prefzoo.experiment.plausible import _of_scores
from prefzoo.experiment.search import expand
from prefzoo.experiment.without_effect import without_effect
from prefzoo.recipe.load import load
from prefzoo.training.loss_inputs import contents_of

HEAD = "name: r\nmodel: m\ndata: {train: a.jsonl}\ntrain: {batch: 4, steps: 10}\nvariants: "
AUDIT = {"ties": 0, "rows": 8}


def lines(folder: Path, variants: str, ties: int | None = 0, *overrides: str) -> list[str]:
    (folder / "r.yaml").write_text(HEAD + variants + "\n")
    recipe = load(folder / "r.yaml", overrides)
    return without_effect(recipe, expand(recipe), 8, AUDIT | {"ties": ties})


@pytest.mark.parametrize(
    ("variants", "says"),
    [
        ("{a: {loss: simpo, train: {sync_reference: {}}}}", "sync_reference: simpo reads no reference, so this"),
        ("{a: {loss: dpo, train: {sync_reference: {every: 11}}}}", "every: is 11, and there are 10 steps"),
        ("{a: {loss: dpo, train: {sync_reference: {every: 1, alpha: 1}}}}", "sync_reference: the reference is the"),
    ],
)
def test_a_reference_that_is_moved_in_vain(variants: str, says: str, tmp_path: Path) -> None:
    (line,) = lines(tmp_path, variants)
    assert line.startswith("variants.a.train.sync_reference") and says in line


@pytest.mark.parametrize(
    "sync", ["{every: 10}", "{every: 1, alpha: 1, when: before}", "{every: 1, alpha: 0.9}", "{every: 1, bema: {}}"]
)
def test_a_reference_that_moves(sync: str, tmp_path: Path) -> None:
    assert not lines(tmp_path, f"{{a: {{loss: dpo, train: {{sync_reference: {sync}}}}}}}")
    # of settings for all variants, those without a reference take none
    assert not lines(tmp_path, "{dpo: , simpo: }", 0, f"train.sync_reference={sync}")


def test_ties_for_losses_that_expect_none(tmp_path: Path) -> None:
    (line,) = lines(tmp_path, "{dpo: , ipo: , sft: , dpo_rk: , margin_dpo: }", 3)
    assert line.startswith("data.train: 3 of 8 pairs are ties") and "which dpo, ipo read as preferences" in line
    for variants, ties in (("{dpo: }", 0), ("{dpo: }", None), ("{dpo_rk: , sft: }", 3), ("{kto: }", None)):
        assert not lines(tmp_path, variants, ties)


def test_the_smallest_batch_of_a_sweep_must_be_large_enough(tmp_path: Path) -> None:
    pairs = [TokenPair([1], [2, 3], [4], 0), TokenPair([5], [6], [7, 8], 1)]
    for batch, fits in (("[1, 4]", False), ("[2, 4]", True)):
        (tmp_path / "r.yaml").write_text(f"{HEAD}{{a: {{loss: aot, train: {{batch: {batch}}}}}}}\n")
        recipe = load(tmp_path / "r.yaml")
        if fits:
            check_variants(recipe, contents_of(pairs))
            continue
        with pytest.raises(UserError, match="variants.a: aot compares the rows of a step"):
            check_variants(recipe, contents_of(pairs))


def test_scores_beyond_what_a_loss_expects() -> None:
    def read(scores: tuple[float, float], *names: str) -> list[str]:
        pair = TokenPair([1], [2], [3], 0, scores)
        return list(_of_scores([pair], [losses.get(name) for name in names]))

    (line,) = read((7.0, 0.5), "mappo", "margin_dpo")
    assert line.startswith("data.train: scores lie between 0.5 and 7, and mappo expects 0 to 1")
    assert read((1.0, -0.1), "0.5*mappo + sft") and not read((1.0, 0.0), "mappo") and not read((7.0, 0.5), "odpo")
    assert not list(_of_scores([TokenPair([1], [2], [3], 0)], [losses.get("mappo")]))
