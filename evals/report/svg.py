"""matplotlib's SVG made fit for the page: no ids, style sheets or links, colours as CSS variables, marks with names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from markupsafe import Markup

from prefzoo.evals.report.style import VARIABLES

COLOUR = re.compile(r"#[0-9a-f]{6}\b")
NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
HREF = "{http://www.w3.org/1999/xlink}href"
DROPPED = ("font-family", "stroke-dashoffset", "stroke-linejoin")  # the page's own font and joins hold


@dataclass(frozen=True)
class Label:
    """What the page knows of one drawn thing.

    Attributes:
        kind: its CSS class: `mark`, `line` or `interval`.
        variant: whose it is; the legend's chips find it by this name.
        words: what hovering over it shows; empty for nothing.
    """

    kind: str
    variant: str
    words: str = ""


def inline(svg: str, labels: Mapping[str, Label], *, title: str, description: str) -> Markup:
    """Return a chart as an `<svg>` element for the page.

    Args:
        svg: what matplotlib's SVG backend wrote, with `svg.fonttype` none.
        labels: by the id of the group that they describe.
        title: the chart's name.
        description: the chart in words, for those who cannot see it.
    """
    root = _page_svg(svg, labels)
    root.attrib = {"class": "chart", "role": "img", **root.attrib}
    for i, (tag, text) in enumerate((("title", title), ("desc", description))):
        root.insert(i, _element(tag, text))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def swatch(svg: str) -> Markup:
    """Return a marker as a small `<svg>` element that screen readers skip: its name stands beside it."""
    root = _page_svg(svg, {})
    root.attrib = {"class": "swatch", "aria-hidden": "true", **root.attrib}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _page_svg(svg: str, labels: Mapping[str, Label]) -> Element:
    source = ElementTree.fromstring(svg)
    # Markers are defined once and used by reference; the page gets copies, since ids would clash between charts.
    shapes = {f"#{e.get('id')}": e.get("d", "") for e in source.iter() if _tag(e) == "path" and e.get("id")}
    root = Element("svg", viewBox=source.get("viewBox", ""))
    root.extend(_kept(source, labels, shapes))
    return root


def _kept(parent: Element, labels: Mapping[str, Label], shapes: Mapping[str, str]) -> Iterator[Element]:
    """Yield what is drawn: paths, markers and texts, those of a label in a group of their own."""
    for child in parent:
        tag, style = _tag(child), _style(child.get("style", ""))
        if tag == "g" and child.get("id") in labels:
            yield _group(labels[child.get("id", "")], list(_kept(child, labels, shapes)))
        elif tag == "g":
            yield from _kept(child, labels, shapes)
        elif tag == "path":
            yield Element("path", d=_rounded(child.get("d", "")), style=style)
        elif tag == "use":
            x, y = (_rounded(child.get(k, "0")) for k in "xy")
            shape = _rounded(shapes[child.get(HREF, "")])
            yield Element("path", d=shape, transform=f"translate({x} {y})", style=style)
        elif tag == "text":
            yield _text(child, style)


def _group(label: Label, drawn: list[Element]) -> Element:
    group = Element("g", {"class": label.kind, "data-variant": label.variant})
    if label.words:
        group.append(_element("title", label.words))
    group.extend(drawn)
    return group


def _text(source: Element, style: str) -> Element:
    text = _element("text", source.text or "")
    text.attrib = {k: _rounded(source.get(k, "")) for k in ("x", "y", "transform") if k in source.attrib}
    if text.get("transform", "").startswith("rotate(-0 "):
        del text.attrib["transform"]
    text.set("style", style)
    return text


def _style(declarations: str) -> str:
    """Return a style with the page's colours and font."""
    pairs = [(k.strip(), v.strip()) for k, _, v in (d.partition(":") for d in declarations.split(";")) if v]
    # Older versions of matplotlib write the font as one declaration, the size first.
    pairs = [("font-size", v.split()[0]) if k == "font" else (k, v) for k, v in pairs]
    kept = "; ".join(f"{k}: {v}" for k, v in pairs if k not in DROPPED)
    return COLOUR.sub(lambda m: VARIABLES.get(m[0], m[0]), kept)


def _rounded(numbers: str) -> str:
    """Return path data or a transform with two decimals, on one line."""
    return " ".join(NUMBER.sub(lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), numbers).split())


def _element(tag: str, text: str) -> Element:
    made = Element(tag)
    made.text = text
    return made


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]
