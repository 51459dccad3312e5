"""Load the style sheets, scripts and templates of all pages. Templates escape every text."""

from __future__ import annotations

from importlib.resources import files

import jinja2


def part(name: str) -> str:
    """Return the text of a style sheet, a script or a template."""
    return (files("prefzoo.evals.report") / name).read_text(encoding="utf-8")


def environment() -> jinja2.Environment:
    """Return a jinja environment whose templates escape every text, and fail on unknown names."""
    templates = jinja2.Environment(
        loader=jinja2.FunctionLoader(part), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    templates.filters["sentence"] = lambda text: text[:1].upper() + text[1:]
    return templates
