"""What the report is made of: text that cannot leave its place, charts that say what they show."""

import json
from math import nan
from xml.etree import ElementTree

import pytest

from prefzoo.evals.report.axes import COLOURED, Scale, clipped, look
from prefzoo.evals.report.charts import Interval, Line, Point, interval_chart, line_chart, scatter
from prefzoo.evals.report.embed import script_json

HOSTILE = ["</script><script>alert(1)</script>", "<!--", '" onload="x', "a\u2028b\u2029c", "a & b", "&lt;", "'"]


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_json_cannot_leave_its_script_and_reads_back(text: str) -> None:
    embedded = str(script_json({text: [text, None, 1.5]}))
    assert not set(embedded) & set("<>&\u2028\u2029")
    assert json.loads(embedded) == {text: [text, None, 1.5]}


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json([float("nan")])


@pytest.mark.parametrize("text", HOSTILE)
def test_a_chart_keeps_names_and_title_as_text(text: str) -> None:
    root = ElementTree.fromstring(interval_chart([Interval(text, 0.5, 0.4, 0.7)], text, 0.5))
    assert {e.tag for e in root.iter()} == {"svg", "title", "desc", "line", "text", "circle", "g"}
    assert root.findtext("title") == text
    assert clipped(text) in [e.text for e in root.iter("text")]
    assert [e.get("data-variant") for e in root.iter("g")] == [text]


def rows_of(chart: str) -> tuple[list[float], list[tuple[float, float]]]:
    """Where the points and the ends of the intervals are drawn."""
    root = ElementTree.fromstring(chart)
    points = [float(e.get("transform", "")[len("translate(") :].split()[0]) for e in root.iter("g")]
    lines = [e for e in root.iter("line") if e.get("class", "").startswith("interval")]
    return points, [(float(e.get("x1", "")), float(e.get("x2", ""))) for e in lines]


def test_points_lie_on_their_intervals_in_order_and_what_is_missing_is_left_out() -> None:
    rows = [Interval("a", 1, 0, 2), Interval("gone", float("nan"), 0, 1), Interval("b", 3, 2, 4)]
    points, lines = rows_of(interval_chart(rows, "t"))
    assert len(points) == 2 and points[0] < points[1]
    assert all(low < at < high for at, (low, high) in zip(points, lines, strict=True))
    assert interval_chart([], "t") == "" == interval_chart(rows[1:2], "t")


def test_equal_values_still_draw() -> None:
    chart = interval_chart([Interval("a", 1, 1, 1)], "t", 1)
    assert rows_of(chart)[0] and "nan" not in chart


def test_ticks_are_round_and_inside() -> None:
    assert Scale(0.131, 0.872, 0, 100).ticks() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert Scale(-12, 31, 0, 100).ticks() == [-10, 0, 10, 20, 30]


def test_a_gap_in_a_curve_stays_a_gap() -> None:
    chart = line_chart([Line("a", [1, 2, 3, 4, 5], [1, 2, nan, 4, 5])], "t")
    lines = [e for e in ElementTree.fromstring(chart).iter("polyline")]
    assert [len(e.get("points", "").split()) for e in lines] == [2, 2]
    assert line_chart([Line("a", [1], [nan])], "t") == ""


def test_a_logarithmic_curve_says_the_values_themselves() -> None:
    chart = line_chart([Line("a", [1, 2, 3], [1, 0, 100])], "t", log=True)
    assert "a: 1 at step 1, 100 at 3" in str(ElementTree.fromstring(chart).findtext("desc"))
    assert len(list(ElementTree.fromstring(chart).iter("polyline"))) == 2  # zero has no logarithm


def test_series_beyond_the_coloured_ones_are_told_from_the_base() -> None:
    looks = [look(i) for i in range(COLOURED + 2)]
    assert len(set(looks[:COLOURED])) == COLOURED and looks[COLOURED] == looks[COLOURED + 1]
    assert look(None) not in looks


def test_points_without_a_place_are_left_out() -> None:
    chart = scatter([Point("a", 1, 2), Point("b", nan, 2)], "t", "x", "y")
    assert [e.get("data-variant") for e in ElementTree.fromstring(chart).iter("g")] == ["a"]
    assert scatter([], "t", "x", "y") == ""
