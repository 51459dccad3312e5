"""The pictures: the curves are the losses', and every loss has one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from prefzoo import losses
from prefzoo.cli.losses import show_plots
from prefzoo.errors import UserError
from prefzoo.evals.report.loss_plots import POINTS, draw, loss_curve
from prefzoo.evals.report.modifier_plots import draw_modifiers, modified_slopes


def test_dpo_by_hand() -> None:
    curve = loss_curve(losses.get("dpo"))  # type: ignore[arg-type]
    at = curve.margins.index(10.0)
    # beta 0.1: -log sigma(1), less ln 2
    assert curve.values[at] == pytest.approx(math.log1p(math.exp(-1)) - math.log(2))
    assert curve.slopes[POINTS // 2] == pytest.approx(-0.05)  # -beta sigma(0)


@pytest.mark.parametrize("loss", list(losses.all_losses()), ids=lambda x: x.name)
def test_every_curve_is_finite_and_points_the_right_way_at_the_start(loss: losses.Loss) -> None:
    curve = loss_curve(loss)
    assert all(map(math.isfinite, curve.values)) and all(map(math.isfinite, curve.slopes))
    # a better margin is a lower loss; LRML rises through 0: at x = beta h = 0 its slope is (1 - ln 2) / (4 tau) - 3/4
    assert curve.slopes[POINTS // 2] < 0 or loss.name == "discopop"


@pytest.mark.slow
def test_files(tmp_path: Path) -> None:
    one = losses.get("ipo")
    assert isinstance(one, losses.Loss)
    written = draw([one], tmp_path)
    assert [p.name for p in written] == ["ipo.svg", "zoo.png"] and all(p.stat().st_size > 2000 for p in written)
    first = written[0].read_bytes()
    draw([one], tmp_path)
    assert written[0].read_bytes() == first


def test_a_sum_has_no_picture(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a sum; name one of its terms"):
        show_plots("dpo + sft", tmp_path)


def test_the_slopes_under_a_modifier_by_hand() -> None:
    dpo = losses.get("dpo")
    assert isinstance(dpo, losses.Loss)
    clamped = modified_slopes(losses.get_modifier("humanline"), dpo)
    at = {h: i for i, h in enumerate(clamped.margins)}
    # h / 2 is spread over 10 tokens, the rest over 14: the chosen one's are below -1 where h < -20, the rejected one's
    # where h > 28; a clamped answer has no slope, so that half of the pair's is left
    assert clamped.modified[at[-10.0]] == pytest.approx(clamped.plain[at[-10.0]])
    # there the chosen answer's log-ratio stops at -10, the rejected one's is 15
    assert clamped.modified[at[-30.0]] == pytest.approx(-0.05 / (1 + math.exp(0.1 * (-10.0 - 15.0))))
    assert clamped.plain[at[-30.0]] == pytest.approx(-0.1 / (1 + math.exp(-3.0)))
    robust, worst = (modified_slopes(losses.get_modifier(name), dpo) for name in ("dr", "kl"))
    ratios = [[m / p for m, p in zip(one.modified, one.plain, strict=True)] for one in (robust, worst)]
    assert ratios[0] == sorted(ratios[0]) and ratios[1] == sorted(ratios[1], reverse=True)  # it weighs the other way


@pytest.mark.slow
def test_every_modifier_has_a_picture(tmp_path: Path) -> None:
    written = draw_modifiers(list(losses.all_modifiers()), tmp_path)
    assert [p.stem for p in written] == [one.name for one in losses.all_modifiers()]
    show_plots("dr", tmp_path / "one")
    assert (tmp_path / "one" / "dr.svg").read_bytes() == (tmp_path / "dr.svg").read_bytes()
    text = (tmp_path / "dr.svg").read_text()
    assert ">dpo<" in text and ">simpo<" in text and text.count(">with dr<") == 2
