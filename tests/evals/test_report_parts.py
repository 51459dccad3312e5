"""What the report is made of: text that cannot leave its place, charts that say what they show."""

import json
from xml.etree import ElementTree

import pytest

from evals.report.charts import Interval, interval_chart
from evals.report.embed import script_json

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
    assert {e.tag for e in root} == {"title", "desc", "line", "text", "circle"}
    assert [e.text for e in root if e.tag in ("title", "text")] == [text, text]


def test_points_lie_on_their_intervals_in_order_and_what_is_missing_is_left_out() -> None:
    rows = [Interval("a", 1, 0, 2), Interval("gone", float("nan"), 0, 1), Interval("b", 3, 2, 4)]
    root = ElementTree.fromstring(interval_chart(rows, "t"))
    points = [float(e.get("cx", "")) for e in root if e.tag == "circle"]
    lines = [(float(e.get("x1", "")), float(e.get("x2", ""))) for e in root if e.tag == "line"]
    assert len(points) == 2 and points[0] < points[1]
    assert all(low < at < high for at, (low, high) in zip(points, lines, strict=True))
    assert interval_chart([], "t") == "" == interval_chart(rows[1:2], "t")


def test_equal_values_still_draw() -> None:
    assert "nan" not in interval_chart([Interval("a", 1, 1, 1)], "t", 1)
