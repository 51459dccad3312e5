"""What the report is made of: text that cannot leave its place, charts that say what they show."""

from __future__ import annotations

import json
import re
from math import nan
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib as mpl
import matplotlib.figure
import pytest
from markupsafe import escape

from prefzoo.evals.report import page
from prefzoo.evals.report.canvas import Chart, save, swatch
from prefzoo.evals.report.charts import Interval, Line, ScatterPoint, heat_map, interval_chart, line_chart, scatter
from prefzoo.evals.report.embed import script_json
from prefzoo.evals.report.style import (
    CARD,
    COLOURS,
    GRID,
    INK,
    LOOKS,
    LOSSES,
    SOFT,
    VARIABLES,
    clipped,
    look,
    series_numbers,
)

HOSTILE = [
    "</script><script>alert(1)</script>", "<!--", '" onload="x', "a\u2028b\u2029c", "a & b", "&lt;", "'", "$x$ $\\no{$",
    "two\nlines", "題名",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_embedded_json_cannot_leave_its_script_and_reads_back(text: str) -> None:
    embedded = str(script_json({text: [text, None, 1.5]}))
    assert not set(embedded) & set("<>&\u2028\u2029")
    assert json.loads(embedded) == {text: [text, None, 1.5]}


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json([float("nan")])


def drawn(chart: Chart | None) -> Element:
    """The `<svg>` element of a chart that there is."""
    assert chart is not None
    return ElementTree.fromstring(str(escape(chart)))


def groups(root: Element, kind: str) -> list[Element]:
    return [e for e in root.iter("g") if e.get("class") == kind]


def texts(root: Element) -> list[str]:
    return [e.text or "" for e in root.iter("text")]


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", text)]


def path(group: Element) -> Element:
    """The one path of a group."""
    (only,) = group.iter("path")
    return only


@pytest.mark.parametrize("text", HOSTILE)
def test_a_chart_keeps_names_and_title_as_text(text: str) -> None:
    root = drawn(interval_chart([Interval(text, 0.5, 0.4, 0.7)], text, 0.5))
    assert {e.tag for e in root.iter()} == {"svg", "title", "desc", "path", "text", "g"}
    assert root.findtext("title") == text and root.get("role") == "img"
    assert clipped(text) in texts(root)
    assert [e.get("data-variant") for e in root.iter("g")] == [text, text]
    assert groups(root, "mark")[0].findtext("title") == f"{text}: 0.5 (0.4 to 0.7)"


def test_a_chart_brings_no_ids_and_no_fixed_colours() -> None:
    points = [ScatterPoint(f"v{i}", i, i, i - 1, i + 1, i, hollow=bool(i % 2)) for i in range(len(COLOURS))]
    chart = scatter([*points, ScatterPoint("base", 0, 1, series=None)], "t", "x", "y", joined=True)
    svg = str(escape(chart))
    assert "#" not in svg and "id=" not in svg and "font-family" not in svg and "url(" not in svg
    used = set(re.findall(r"var\(--\w+\)", svg))
    assert used == set(VARIABLES.values()) - {"var(--ink)"}  # of names on an axis
    assert "#" not in swatch(0) and swatch(0) != swatch(1)


def test_the_page_has_the_colours_of_the_files() -> None:
    light = dict(re.findall(r"--([\w-]+): light-dark\((#\w+),", Path(page.__file__).with_name("page.css").read_text()))
    assert {f"var(--{name})": colour for name, colour in light.items()}.items() >= {
        variable: colour for colour, variable in VARIABLES.items()
    }.items()
    assert len({*VARIABLES}) == len(COLOURS) + len((INK, SOFT, GRID, CARD))


def test_settings_of_matplotlib_neither_change_a_chart_nor_are_changed() -> None:
    chart = line_chart([Line("a", [1, 2], [3, 4])], "t")
    plain, before = str(escape(chart)), dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "lines.linewidth": 9, "axes.facecolor": "red"}):
        assert str(escape(chart)) == plain
    assert dict(mpl.rcParams) == before


def test_points_lie_on_their_intervals_in_order_and_what_is_missing_is_left_out() -> None:
    rows = [Interval("a", 1, 0, 2), Interval("gone", float("nan"), 0, 1), Interval("b", 3, 2, 4)]
    root = drawn(interval_chart(rows, "t"))
    points = [numbers(path(g).get("transform", ""))[0] for g in groups(root, "mark")]
    ends = [numbers(path(g).get("d", ""))[::2] for g in groups(root, "interval")]
    assert len(points) == 2 and points[0] < points[1]
    assert all(low < at < high for at, (low, high) in zip(points, ends, strict=True))
    assert interval_chart([], "t") is None is interval_chart(rows[1:2], "t")


def test_equal_values_still_draw() -> None:
    root = drawn(interval_chart([Interval("a", 1, 1, 1)], "t", 1))
    assert len(groups(root, "mark")) == 1 and "nan" not in ElementTree.tostring(root, encoding="unicode")


def test_ticks_are_round_and_inside() -> None:
    def ticks(low: float, high: float) -> list[str]:
        root = drawn(interval_chart([Interval("a", 0, low, high)], "t"))
        return [t.replace("\N{MINUS SIGN}", "-") for t in texts(root) if t != "a"]

    assert ticks(-12, 31) == ["-10", "0", "10", "20", "30"]
    assert ticks(-0.3, 0.1) == ["-0.3", "-0.2", "-0.1", "0", "0.1"]  # not 5.6e-17


def test_a_gap_in_a_curve_stays_a_gap() -> None:
    root = drawn(line_chart([Line("a", [1, 2, 3, 4, 5], [1, 2, nan, 4, 5])], "t"))
    (line,) = groups(root, "line")
    assert (path(line).get("d", "").count("M"), path(line).get("d", "").count("L")) == (2, 2)
    assert line_chart([Line("a", [1], [nan])], "t") is None


def test_a_logarithmic_curve_says_the_values_themselves() -> None:
    root = drawn(line_chart([Line("a", [1, 2, 3], [1, 0, 100])], "t", log=True))
    assert "a: 1 at step 1, 100 at 3" in str(root.findtext("desc"))
    assert {"1", "10", "100"} < set(texts(root))
    assert path(groups(root, "line")[0]).get("d", "").count("M") == 2  # zero has no logarithm
    within = drawn(line_chart([Line("a", [1, 2], [2, 8])], "t", log=True))
    assert {"2", "4", "6", "8"} < set(texts(within))


def test_every_loss_has_a_look_of_its_own_by_colour_and_marker() -> None:
    looks = [look(i) for i in range(LOOKS)]
    assert len({(each.colour, each.marker) for each in looks}) == LOOKS >= len(LOSSES)
    assert len({(each.colour, each.dashes) for each in looks[: len(COLOURS) * 7]}) == len(COLOURS) * 7
    assert look(None) not in looks


def test_a_loss_looks_the_same_whatever_stands_beside_it() -> None:
    alone = series_numbers({"dpo": "dpo"})["dpo"]
    for others in (["simpo", "dpo", "ipo"], ["my_own.py:mine", "kto", "dpo"], ["aot", "sppo_hard", "dpo"]):
        assert series_numbers({name: name for name in others})["dpo"] == alone
    mine = "my_own.py:mine"
    assert series_numbers({mine: mine})[mine] == series_numbers({"dpo": "dpo", mine: mine})[mine] >= len(LOSSES)


def test_variants_of_one_loss_share_its_colour_and_differ_in_their_markers() -> None:
    numbers = series_numbers({"low": "dpo", "high": "dpo", "robust": "robust", "mid": "dpo"})
    looks = {name: look(number) for name, number in numbers.items()}
    assert numbers["robust"] == LOSSES.index("robust")  # of the same colour as dpo: a further dpo does not take it
    assert {looks[n].colour for n in ("low", "mid", "high")} == {looks["robust"].colour} == {COLOURS[0]}
    assert len({each.marker for each in looks.values()}) == len(looks)
    many = series_numbers({f"v{i}": "dpo" for i in range(LOOKS + 3)})
    assert set(many.values()) == set(range(LOOKS))


def test_points_without_a_place_are_left_out() -> None:
    chart = scatter([ScatterPoint("a", 1, 2), ScatterPoint("b", nan, 2)], "t", "x", "y")
    assert [e.get("data-variant") for e in drawn(chart).iter("g")] == ["a"]
    assert scatter([], "t", "x", "y") is None


def test_charts_beside_one_another_have_one_scale() -> None:
    sets = [ScatterPoint("a", 1, 2, 1, 3)], [ScatterPoint("b", 30, 60, 50, 70), ScatterPoint("c", 5, nan)]
    every = [point for several in sets for point in several]
    limits = []
    for several in sets:
        axes = mpl.figure.Figure().add_subplot()
        chart = scatter(several, "t", "x", "y", beside=every)
        assert chart is not None
        chart.draw(axes)
        limits.append((axes.get_xlim(), axes.get_ylim()))
    assert limits[0] == limits[1]
    (left, right), (bottom, top) = limits[0]
    assert left < 1 and right > 30 and bottom < 1 and top > 70


def test_a_file_explains_its_looks_best_first(tmp_path: Path) -> None:
    chart = line_chart([Line("best", [1, 2], [1, 2], 0), Line("next", [1, 2], [2, 3], 1)], "the title")
    assert chart is not None
    svg, png = save([chart], tmp_path / "one")
    text = svg.read_text(encoding="utf-8")
    assert text.index(">the title<") < text.index(">best<") < text.index(">next<") and png.stat().st_size > 2000
    assert not set(VARIABLES.values()) & set(re.findall(r"var\(--\w+\)", text))
    save([chart], tmp_path / "two")
    assert (tmp_path / "two.svg").read_bytes() == svg.read_bytes()


def test_a_heat_map_has_each_share_and_leaves_the_diagonal_empty(tmp_path: Path) -> None:
    chart = heat_map(["a", "b"], [[None, 0.25], [0.75, None]], "t")
    assert chart.description == "a beats b: 25%; b beats a: 75%"
    svg, _ = save([chart], tmp_path / "heat")
    assert sorted(re.findall(r">(\d+%)<", svg.read_text(encoding="utf-8"))) == ["25%", "75%"]
