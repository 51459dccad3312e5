"""Convert matplotlib's SVG for the page: without ids, style sheets or links, with CSS colours and named marks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from markupsafe import Markup
from matplotlib.artist import Artist

from prefzoo.evals.report.style import VARIABLES

COLOUR = re.compile(r"#[0-9a-f]{6}\b")
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
DROPPED = re.compile(r"\b(?:font-family|stroke-dashoffset|stroke-linejoin): [^;]*(?:; |$)")  # the page sets these
HREF = "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Mark:
    """A part of a chart that belongs to a variant.

    Attributes:
        artist: the matplotlib artist that draws it.
        kind: its CSS class: `mark`, `line` or `interval`.
        variant: the variant's name, by which the legend's buttons select it.
        words: the text shown when the pointer is over it; empty for none.
    """

    artist: Artist
    kind: str
    variant: str
    words: str = ""


def inline(svg: str, marks: Mapping[str, Mark], attributes: Mapping[str, str], texts: Mapping[str, str]) -> Markup:
    """Return a picture as an `<svg>` element for the page.

    Args:
        svg: the output of matplotlib's SVG backend, with `svg.fonttype` none.
        marks: the marks, by the id of the group that draws them.
        attributes: the attributes of the element.
        texts: the texts of its first children, by their tags, such as `title` and `desc`.

    Returns:
        The element as safe markup.
    """
    source = ElementTree.fromstring(svg)
    # matplotlib defines a marker once and refers to it by id. The page gets copies, as ids of two charts could clash.
    shapes = {f"#{e.get('id')}": e.get("d", "") for e in source.iter() if _tag(e) == "path" and e.get("id")}
    root = Element("svg", dict(attributes), viewBox=source.get("viewBox", ""))
    for tag, text in texts.items():
        SubElement(root, tag).text = text
    root.extend(_drawn(source, marks, shapes))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _drawn(parent: Element, marks: Mapping[str, Mark], shapes: Mapping[str, str]) -> Iterator[Element]:
    """Yield the drawn elements: paths, markers and texts. Those of a mark are in a group of their own."""
    for child in parent:
        tag, attributes = _tag(child), {"style": _page_style(child.get("style", ""))}
        mark = marks.get(child.get("id", ""))
        if tag == "g" and mark is not None:
            group = Element("g", {"class": mark.kind, "data-variant": mark.variant})
            if mark.words:
                SubElement(group, "title").text = mark.words
            group.extend(_drawn(child, marks, shapes))
            yield group
        elif tag == "g":
            yield from _drawn(child, marks, shapes)
        elif tag == "path":
            yield Element("path", attributes, d=_rounded(child.get("d", "")))
        elif tag == "use":
            at = _rounded(f"{child.get('x')} {child.get('y')}")
            yield Element("path", attributes, d=_rounded(shapes[child.get(HREF, "")], 2), transform=f"translate({at})")
        elif tag == "text":
            shown = {k: v for k, v in child.items() if k in ("x", "y", "transform") and not v.startswith("rotate(-0 ")}
            text = Element("text", attributes, **{k: _rounded(v) for k, v in shown.items()})
            text.text = child.text
            yield text


def _page_style(style: str) -> str:
    """Replace colours by the page's variables, and drop properties that the page sets."""
    return COLOUR.sub(lambda m: VARIABLES.get(m[0], m[0]), DROPPED.sub("", style))


def _rounded(numbers: str, digits: int = 1) -> str:
    """Return path data or a transform on one line, with numbers rounded to what a screen can show."""
    return " ".join(NUMBER.sub(lambda m: f"{float(m[0]):.{digits}f}".removesuffix(".0"), numbers).split())


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]
