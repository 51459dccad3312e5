"""matplotlib's SVG made fit for the page: no ids, style sheets or links, colours as CSS variables, marks with names."""

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
DROPPED = re.compile(r"\b(?:font-family|stroke-dashoffset|stroke-linejoin): [^;]*(?:; |$)")  # the page has its own
HREF = "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Mark:
    """A drawn thing that belongs to a variant.

    Attributes:
        artist: what draws it.
        kind: its CSS class: `mark`, `line` or `interval`.
        variant: whose it is; the legend's chips find it by this name.
        words: what hovering over it shows; empty for nothing.
    """

    artist: Artist
    kind: str
    variant: str
    words: str = ""


def inline(svg: str, marks: Mapping[str, Mark], attributes: Mapping[str, str], texts: Mapping[str, str]) -> Markup:
    """Return a picture as an `<svg>` element for the page.

    Args:
        svg: what matplotlib's SVG backend wrote, with `svg.fonttype` none.
        marks: by the id of the group that draws them.
        attributes: of the element.
        texts: of its first children by their tags, as `title` and `desc`.

    Returns:
        The element as safe markup.
    """
    source = ElementTree.fromstring(svg)
    # Markers are defined once and used by reference; the page gets copies, since ids would clash between charts.
    shapes = {f"#{e.get('id')}": e.get("d", "") for e in source.iter() if _tag(e) == "path" and e.get("id")}
    root = Element("svg", dict(attributes), viewBox=source.get("viewBox", ""))
    for tag, text in texts.items():
        SubElement(root, tag).text = text
    root.extend(_kept(source, marks, shapes))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _kept(parent: Element, marks: Mapping[str, Mark], shapes: Mapping[str, str]) -> Iterator[Element]:
    """Yield what is drawn: paths, markers and texts, those of a mark in a group of their own."""
    for child in parent:
        tag, attributes = _tag(child), {"style": _page_style(child.get("style", ""))}
        mark = marks.get(child.get("id", ""))
        if tag == "g" and mark is not None:
            group = Element("g", {"class": mark.kind, "data-variant": mark.variant})
            if mark.words:
                SubElement(group, "title").text = mark.words
            group.extend(_kept(child, marks, shapes))
            yield group
        elif tag == "g":
            yield from _kept(child, marks, shapes)
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
    """Replace colours by the page's variables, and leave out what the page decides."""
    return COLOUR.sub(lambda m: VARIABLES.get(m[0], m[0]), DROPPED.sub("", style))


def _rounded(numbers: str, digits: int = 1) -> str:
    """Return path data or a transform on one line, with as many decimals as a screen can show."""
    return " ".join(NUMBER.sub(lambda m: f"{float(m[0]):.{digits}f}".removesuffix(".0"), numbers).split())


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]
