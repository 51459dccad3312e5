"""The catalogue of losses as Markdown, JSON or one HTML page, generated from the registry."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from prefzoo.catalogue.guide import html_guide, markdown_guide
from prefzoo.catalogue.peers import TITLE as PEERS_TITLE
from prefzoo.catalogue.peers import html_peers, markdown_peers
from prefzoo.losses import GROUPS, MODIFIERS, Loss, Modifier
from prefzoo.runtime.maths import formula_markup, formula_text, markup, plain

UNCITED = "no equation cited"
LEGEND = (
    f"Only what was read is cited. {UNCITED!r}: no equation number, section or code was read. A dash under "
    "'tuned over': no published values were read."
)
SYMBOLS = (
    "Symbols: $c$, $r$ are the policy's log-probs of the chosen and the rejected answer, summed over tokens, in nats; "
    r"$c_0$, $r_0$ the reference's; $|w|$, $|l|$ the answers' token counts; $\bar c$, $\bar r$ are divided by them; "
    r"$\sigma$ is the logistic function."
)
ROWS = {
    "LogProbs": "pairs",
    "TokenLogProbs": "pairs, by token",
    "VocabLogProbs": "pairs, with statistics over the vocabulary",
    "Answers": "single answers",
}
ACTS = {True: "the values of a loss", False: "the log-probs that a loss is given"}
INPUTS = {"reference": "a reference", "scores": "scores", "kl": "KL by token", "mismatched": "shuffled answers"}
ALL_GROUPS = (*GROUPS, MODIFIERS)
ABOUT_MODIFIERS = (
    "A variant changes its loss by a list of modifiers: `modifiers: [{humanline: {}}, "
    "{dr: {beta: 1}}]`. Modifiers of log-probs act before the loss, modifiers of values after it, in "
    "the order of the list. A sum of losses is changed as a whole."
)
FORMATS = ("md", "json", "html")
SIGNS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
body { color: #222; background: #fff; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { border: 1px solid #bbb; padding: .2rem .6rem; text-align: left; vertical-align: top; }
math { font-size: 1.1em; }
math[display=block] { margin: .8rem 0; padding: .6rem; background: #f4f4f4; overflow-x: auto; }
code { background: #f4f4f4; padding: 0 .2rem; } .mark { color: #a04000; } .note { color: #555; font-size: .9rem; }
section { border-left: 3px solid #ccc; padding-left: 1rem; } section h3 { margin-bottom: 0; }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #181818; } code, math[display=block] { background: #262626; }
  .mark { color: #f0a060; } .note { color: #aaa; } a { color: #8ab4f8; } td, th { border-color: #555; }
}
"""


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


def needs(one: dict[str, Any]) -> list[str]:
    """Return in words what the loss or modifier of an `entry` needs: rows first, then a reference, scores and so on."""
    rows = one["changes"] if "changes" in one else ROWS[one["needs"]["policy"]]
    return [rows, *(INPUTS[name] for name in one["needs"] if name in INPUTS)]


def entry(one: Loss | Modifier) -> dict[str, Any]:
    """Return all facts about a loss or modifier as plain values, with the texts of its declaration."""
    head, formula, notes = _parts(one)
    return {
        "name": one.name,
        "group": one.group,
        "summary": head,
        "formula": formula,
        "notes": notes,
        "paper": one.paper,
        "equation": one.equation,
        **(_of_modifier(one) if isinstance(one, Modifier) else _of_loss(one)),
        "knobs": knobs(one),
        "learning_rate": list(one.learning_rate),
        "couples": one.couples,
        "traps": list(one.traps),
        "provisional": one.provisional,
    }


def _of_loss(loss: Loss) -> dict[str, Any]:
    return {
        "needs": {name: kind.__name__ for name, kind in loss.needs.items()},
        "state": loss.state_type.__name__ if loss.state_type else None,
        "unpaired": loss.unpaired,
    }


def _of_modifier(one: Modifier) -> dict[str, Any]:
    return {
        "needs": {name: " or ".join(kind.__name__ for kind in kinds) for name, kinds in one.needs.items()},
        "changes": ACTS[one.of_values],
        "pairs_only": one.pairs_only,
        "excludes": list(one.excludes),
    }


def summary(one: Loss | Modifier) -> str:
    """Return in a line of plain text what a loss or modifier does."""
    return plain(_parts(one)[0])


def _parts(loss: Loss | Modifier) -> tuple[str, str, str]:
    """Return the summary, the formula and the notes of a docstring, each on one line."""
    head, *rest = re.split(r"\$\$(.*?)\$\$", loss.doc, maxsplit=1, flags=re.DOTALL)
    formula, notes = rest or ("", "")
    return " ".join(head.split()), " ".join(formula.split()), " ".join(notes.split())


def catalogue(losses: Sequence[Loss | Modifier], form: str) -> str:
    """Return the text of a catalogue.

    Args:
        losses: The losses and modifiers in it; with more than one, the guide "which to try" comes first in md and html.
        form: One of FORMATS.

    Returns:
        Markdown with LaTeX between dollar signs, HTML with MathML, or JSON in Unicode whose `latex` is the formula's
        source.
    """
    entries = [entry(one) for group in ALL_GROUPS for one in losses if one.group == group]
    if form == "json":
        return json.dumps([_plain(one) for one in entries], indent=1, ensure_ascii=False)
    return _markdown(entries) if form == "md" else _html(entries)


def _plain(one: dict[str, Any]) -> dict[str, Any]:
    """Return an entry with its texts in Unicode."""
    texts = {key: plain(one[key]) for key in ("summary", "notes", "paper", "equation", "couples", "provisional")}
    formulas = {"formula": formula_text(one["formula"]), "latex": one["formula"]}
    return {**one, **texts, **formulas, "traps": [plain(trap) for trap in one["traps"]]}


def _facts(one: dict[str, Any]) -> list[str]:
    """Return the lines below a loss's formula."""
    facts = [f"Paper: {one['paper']}, {one['equation'] or UNCITED}"] if one["paper"] else []
    first, *others = needs(one)
    if one["group"] == MODIFIERS:
        facts += [f"Changes: {first}", *([f"Needs: {', '.join(others)}"] if others else [])]
        facts += [f"Not with: {', '.join(one['excludes'])}"] if one["excludes"] else []
        facts += ["Only for losses of pairs"] if one["pairs_only"] else []
    else:
        facts.append(f"Needs: {', '.join((first, *others))}")
    if one["learning_rate"]:
        facts.append(f"Published learning rates: {', '.join(f'{rate:g}' for rate in one['learning_rate'])}")
    facts += [f"Couples rows: {one['couples']}"] if one["couples"] else []
    facts += [f"Provisional: {one['provisional']}"] if one["provisional"] else []
    return facts + [f"Trap: {trap}" for trap in one["traps"]]


def _cells(knob: dict[str, Any]) -> list[str]:
    return [knob["name"], str(knob["default"]), knob["bounds"], ", ".join(f"{v:g}" for v in knob["grid"]) or "-"]


def _markdown(entries: list[dict[str, Any]]) -> str:
    lines = [f"# {_title(entries)}", "", LEGEND, "", SYMBOLS, ""]
    lines += [*markdown_guide(), *markdown_peers()] if len(entries) > 1 else []
    for group in ALL_GROUPS:
        inside = [one for one in entries if one["group"] == group]
        lines += [f"## {group}", "", *([ABOUT_MODIFIERS, ""] if group == MODIFIERS else [])] if inside else []
        for one in inside:
            mark = " (provisional)" if one["provisional"] else ""
            lines += [f"### `{one['name']}`{mark}", "", one["summary"], ""]
            lines += [f"$$ {one['formula']} $$", ""] if one["formula"] else []
            lines += [one["notes"], ""] if one["notes"] else []
            if one["knobs"]:
                lines += ["| knob | default | bounds | tuned over |", "|---|---|---|---|"]
                lines += ["| " + " | ".join(_cells(knob)) + " |" for knob in one["knobs"]]
                lines += [""]
            lines += [*(f"- {fact}" for fact in _facts(one)), ""]
    return "\n".join(lines)


def _title(entries: list[dict[str, Any]]) -> str:
    count = sum(one["group"] != MODIFIERS for one in entries)
    more = f" and {len(entries) - count} modifiers" if len(entries) > count else ""
    return f"{count} preference losses{more}" if len(entries) > 1 else str(entries[0]["name"])


def _html(entries: list[dict[str, Any]]) -> str:
    safe = html.escape
    title = _title(entries)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{safe(title)}</title><style>{STYLE}</style><h1>{safe(title)}</h1><p>{safe(LEGEND)}<p>{markup(SYMBOLS)}",
    ]
    if len(entries) > 1:
        groups = [group for group in ALL_GROUPS if any(one["group"] == group for one in entries)]
        links = ", ".join(f"<a href='#{safe(group)}'>{safe(group)}</a>" for group in groups)
        above = f"<a href='#guide'>Which loss to try</a>, <a href='#peers'>{PEERS_TITLE.lower()}</a>"
        parts += [f"<p>{above}, {links}", html_guide(), html_peers()]
    for group in ALL_GROUPS:
        inside = [one for one in entries if one["group"] == group]
        names = " ".join(f"<a href='#{safe(one['name'])}'>{safe(one['name'])}</a>" for one in inside)
        about = f"<p>{markup(ABOUT_MODIFIERS)}" if group == MODIFIERS else ""
        parts += [f"<h2 id='{safe(group)}'>{safe(group)}</h2>{about}<p>{names}"] if inside else []
        parts += [part for one in inside for part in _html_entry(one)]
    return "\n".join(parts) + "\n"


def _html_entry(one: dict[str, Any]) -> list[str]:
    safe = html.escape
    mark = " <small class=mark>provisional</small>" if one["provisional"] else ""
    parts = [f"<h3 id='{safe(one['name'])}'>{safe(one['name'])}{mark}</h3><p>{markup(one['summary'])}"]
    parts += [formula_markup(one["formula"], block=True)] if one["formula"] else []
    parts += [f"<p>{markup(one['notes'])}"] if one["notes"] else []
    if one["knobs"]:
        head = "".join(f"<th>{title}" for title in ("knob", "default", "bounds", "tuned over"))
        rows = ("".join(f"<td>{safe(cell)}" for cell in _cells(knob)) for knob in one["knobs"])
        parts.append(f"<table><tr>{head}" + "".join(f"<tr>{row}" for row in rows) + "</table>")
    return [*parts, "<ul>" + "".join(f"<li>{markup(fact)}" for fact in _facts(one)) + "</ul>"]
