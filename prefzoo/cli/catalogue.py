"""The catalogue of losses as Markdown, JSON or one HTML page, generated from the registry."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from prefzoo.losses import GROUPS, Loss

UNCITED = "no equation cited"
LEGEND = (
    f"Only what was read is cited: {UNCITED!r} means that no equation number, section or code was, and a dash under "
    "'tuned over' that no published values were."
)
FORMATS = ("md", "json", "html")
SIGNS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#222;background:#fff}"
    "table{border-collapse:collapse}td,th{border:1px solid #bbb;padding:.2rem .6rem;text-align:left}"
    "pre{background:#f4f4f4;padding:.6rem;overflow-x:auto}.mark{color:#a04000}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#262626}.mark{color:#f0a060}}"
)


def knobs(loss: Any) -> list[dict[str, Any]]:
    """Return name, bounds in words, default and tuning grid of every knob of a loss."""
    fields = loss.Params.model_json_schema().get("properties", {})
    return [
        {
            "name": name,
            "bounds": " and ".join(f"{sign} {field[key]}" for key, sign in SIGNS.items() if key in field)
            or field.get("type", ""),
            "default": field.get("default"),
            "grid": list(getattr(loss, "grid", {}).get(name, ())),
        }
        for name, field in fields.items()
    ]


def entry(loss: Loss) -> dict[str, Any]:
    """Return all that is known of a loss, in plain values."""
    formula = re.search(r"\$\$(.*?)\$\$", loss.doc, re.DOTALL)
    head, notes = (loss.doc[: formula.start()], loss.doc[formula.end() :]) if formula else (loss.doc, "")
    return {
        "name": loss.name,
        "group": loss.group,
        "summary": " ".join(head.split()),
        "formula": " ".join(formula.group(1).split()) if formula else "",
        "notes": " ".join(notes.split()),
        "paper": loss.paper,
        "equation": loss.equation,
        "needs": {name: kind.__name__ for name, kind in loss.needs.items()},
        "state": loss.state_type.__name__ if loss.state_type else None,
        "unpaired": loss.unpaired,
        "knobs": knobs(loss),
        "learning_rate": list(loss.learning_rate),
        "couples": loss.couples,
        "traps": list(loss.traps),
        "provisional": loss.provisional,
    }


def catalogue(losses: Sequence[Loss], form: str) -> str:
    """Return the text of the whole catalogue, in one of FORMATS."""
    entries = [entry(one) for group in GROUPS for one in losses if one.group == group]
    if form == "json":
        return json.dumps(entries, indent=1, ensure_ascii=False)
    return _markdown(entries) if form == "md" else _html(entries)


def _facts(one: dict[str, Any]) -> list[str]:
    """What stands below a loss's formula, a line each."""
    facts = [f"Paper: {one['paper']}, {one['equation'] or UNCITED}"]
    others = [name for name in one["needs"] if name != "policy"] + (["state"] if one["state"] else [])
    facts.append(f"Needs: {', '.join([one['needs']['policy'], *others])}")
    if one["learning_rate"]:
        facts.append(f"Published learning rates: {', '.join(f'{rate:g}' for rate in one['learning_rate'])}")
    facts += [f"Couples rows: {one['couples']}"] if one["couples"] else []
    facts += [f"Provisional: {one['provisional']}"] if one["provisional"] else []
    return facts + [f"Trap: {trap}" for trap in one["traps"]]


def _cells(knob: dict[str, Any]) -> list[str]:
    return [knob["name"], str(knob["default"]), knob["bounds"], ", ".join(f"{v:g}" for v in knob["grid"]) or "-"]


def _markdown(entries: list[dict[str, Any]]) -> str:
    lines = [f"# {len(entries)} preference losses", "", LEGEND, ""]
    for group in GROUPS:
        inside = [one for one in entries if one["group"] == group]
        lines += [f"## {group}", ""] if inside else []
        for one in inside:
            mark = " (provisional)" if one["provisional"] else ""
            lines += [f"### `{one['name']}`{mark}", "", one["summary"], "", f"$$ {one['formula']} $$", ""]
            lines += [one["notes"], ""] if one["notes"] else []
            if one["knobs"]:
                lines += ["| knob | default | bounds | tuned over |", "|---|---|---|---|"]
                lines += ["| " + " | ".join(_cells(knob)) + " |" for knob in one["knobs"]]
                lines += [""]
            lines += [*(f"- {fact}" for fact in _facts(one)), ""]
    return "\n".join(lines)


def _html(entries: list[dict[str, Any]]) -> str:
    safe = html.escape
    title = f"{len(entries)} preference losses"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{safe(LEGEND)}",
    ]
    for group in GROUPS:
        inside = [one for one in entries if one["group"] == group]
        names = " ".join(f"<a href='#{safe(one['name'])}'>{safe(one['name'])}</a>" for one in inside)
        parts += [f"<h2>{safe(group)}</h2><p>{names}"] if inside else []
        for one in inside:
            mark = " <small class=mark>provisional</small>" if one["provisional"] else ""
            parts.append(f"<h3 id='{safe(one['name'])}'>{safe(one['name'])}{mark}</h3><p>{safe(one['summary'])}")
            parts.append(f"<pre>{safe(one['formula'])}</pre><p>{safe(one['notes'])}")
            if one["knobs"]:
                head = "".join(f"<th>{title}" for title in ("knob", "default", "bounds", "tuned over"))
                rows = ("".join(f"<td>{safe(cell)}" for cell in _cells(knob)) for knob in one["knobs"])
                parts.append(f"<table><tr>{head}" + "".join(f"<tr>{row}" for row in rows) + "</table>")
            parts.append("<ul>" + "".join(f"<li>{safe(fact)}" for fact in _facts(one)) + "</ul>")
    return "\n".join(parts) + "\n"
