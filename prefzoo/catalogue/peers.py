"""Where other libraries mean another loss by the same name, as text, Markdown, JSON and HTML."""

from __future__ import annotations

import html
from dataclasses import asdict

from prefzoo.losses import PEERS, PEERS_READ, Peer

TITLE = "The same name, another loss"


def peers(name: str | None = None) -> list[dict[str, str]]:
    """Return what other libraries mean.

    Args:
        name: A loss, to get only the entries that train it or have its name; None for all.

    Returns:
        Tool, name there, loss here, difference and source, in the order of the tools.
    """
    return [asdict(one) for one in PEERS if name is None or _concerns(one, name)]


def _concerns(one: Peer, name: str) -> bool:
    return name == one.ours or name in one.name.replace(",", " ").split()


def text_peers(name: str | None = None) -> list[tuple[str, str]]:
    """Return the list as lines, each with its role: title, pick or note."""
    lines, tool = [("title", TITLE), ("note", PEERS_READ)] if name is None else [], ""
    for one in peers(name):
        lines += [("title", f"\n{one['tool']}")] if one["tool"] != tool else []
        tool = one["tool"]
        lines += [("pick", f"{one['name']} trains {one['ours']}: {one['difference']}")]
        lines += [("note", f"    {one['source']}")]
    return lines


def markdown_peers() -> list[str]:
    """Return the list as lines of Markdown: a table."""
    lines = [f"## {TITLE}", "", PEERS_READ, ""]
    lines += ["| library | its name | here | what differs | source |", "|---|---|---|---|---|"]
    for one in peers():
        cells = one["tool"], one["name"], f"`{one['ours']}`", one["difference"], one["source"]
        lines += [f"| {' | '.join(cells)} |"]
    return [*lines, ""]


def html_peers() -> str:
    """Return the list as an HTML table whose losses link to their entries on the same page."""
    head = "".join(f"<th>{title}" for title in ("library", "its name", "here", "what differs"))
    rows = []
    for one in peers():
        safe = {key: html.escape(value) for key, value in one.items()}
        link = f"<a href='#{safe['ours']}'>{safe['ours']}</a>"
        rows.append(f"<tr><td>{safe['tool']}<td>{safe['name']}<td>{link}<td>{safe['difference']}")
        rows.append(f"<br><span class=note>{safe['source']}</span>")
    return f"<h2 id=peers>{TITLE}</h2><p>{html.escape(PEERS_READ)}<table><tr>{head}{''.join(rows)}</table>"
