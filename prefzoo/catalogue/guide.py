"""The guide "which to try" as text, Markdown, JSON and HTML: situations, and the losses made for them."""

from __future__ import annotations

import html
from typing import Any

from prefzoo import losses as zoo
from prefzoo.losses import SITUATIONS, Situation, Sum
from prefzoo.runtime.maths import markup, plain

TITLE = "Which loss to try"
INTRODUCTION = (
    "Start from what you know about your data or your results. Each list begins with the best known loss. "
    "Run two or three beside dpo, each with its published settings (sweep: paper), and let the report "
    "decide."
)


def situations(name: str | None = None) -> list[dict[str, Any]]:
    """Return the guide, its texts without Markdown.

    Args:
        name: A loss, to get only the situations in which it is recommended; None for all.

    Returns:
        Title, advice, losses (name, reason, paper), other losses that fit, and source of each situation.
    """
    chosen = (_situation(one) for one in SITUATIONS if name is None or name in dict(one.picks))
    return [{**one, "advice": plain(one["advice"])} for one in chosen]


def _situation(one: Situation) -> dict[str, Any]:
    picks = [{"name": name, "reason": reason, "paper": _cited(name)} for name, reason in one.picks]
    return {
        "situation": one.title,
        "advice": one.advice,
        "losses": picks,
        "others": one.others(list(zoo.all_losses())),
        "source": one.source or "; ".join(dict.fromkeys(pick["paper"] for pick in picks if pick["paper"])),
    }


def _cited(name: str) -> str:
    """Return paper and equation of a loss, or of each term of a sum that has a paper."""
    loss = zoo.look_up(name)
    if isinstance(loss, Sum):
        return "; ".join(cited for _, term in loss.terms if (cited := _cited(term.name)))
    return f"{loss.paper}, {loss.equation}" if loss.equation else loss.paper


def text_guide(name: str | None = None) -> list[tuple[str, str]]:
    """Return the guide as lines, each with its role: title, advice, pick or note."""
    lines = [] if name else [("title", TITLE), ("advice", INTRODUCTION)]
    for one in situations(name):
        lines += [("title", f"\n{one['situation']}"), ("advice", one["advice"])]
        lines += [("pick", f"{pick['name']}: {pick['reason']}") for pick in one["losses"]]
        lines += [("note", f"also fitting: {', '.join(one['others'])}")] if one["others"] else []
        lines += [("note", f"source: {one['source']}")]
    return lines


def markdown_guide() -> list[str]:
    """Return the guide as lines of Markdown."""
    lines = [f"## {TITLE}", "", INTRODUCTION, ""]
    for one in map(_situation, SITUATIONS):
        lines += [f"### {one['situation']}", "", one["advice"], ""]
        lines += [f"- `{pick['name']}`: {pick['reason']}" for pick in one["losses"]]
        lines += [f"- also fitting: {', '.join(f'`{name}`' for name in one['others'])}"] if one["others"] else []
        lines += ["", f"Source: {one['source']}", ""]
    return lines


def html_guide() -> str:
    """Return the guide as HTML whose losses link to their entries on the same page."""
    parts = [f"<h2 id=guide>{TITLE}</h2><p>{html.escape(INTRODUCTION)}"]
    for one in map(_situation, SITUATIONS):
        parts.append(f"<section><h3>{html.escape(one['situation'])}</h3><p>{markup(one['advice'])}<ul>")
        parts += [f"<li>{_linked(pick['name'])}: {markup(pick['reason'])}" for pick in one["losses"]]
        parts.append("</ul>")
        if one["others"]:
            parts.append(f"<p class=note>Also fitting: {', '.join(map(_linked, one['others']))}")
        parts.append(f"<p class=note>Source: {html.escape(one['source'])}</section>")
    return "\n".join(parts)


def _linked(name: str) -> str:
    """Return a loss's name as a link to its entry; a sum has no entry of its own."""
    safe = html.escape(name)
    return f"<code>{safe}</code>" if isinstance(zoo.look_up(name), Sum) else f"<a href='#{safe}'>{safe}</a>"
