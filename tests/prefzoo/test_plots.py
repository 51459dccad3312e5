"""The pictures: the curves are the losses', and every loss has one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from prefzoo import losses
from prefzoo.cli.losses import show_plots
from prefzoo.errors import UserError
from prefzoo.evals.report.loss_plots import POINTS, draw, loss_curve


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
