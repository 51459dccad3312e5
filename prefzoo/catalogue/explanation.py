"""One loss or modifier in full, as lines of plain text."""

from __future__ import annotations

from collections.abc import Iterator

from prefzoo.catalogue.guide import situations
from prefzoo.catalogue.pages import ACTS, INPUTS, SYMBOLS, UNCITED, knobs
from prefzoo.losses import Loss, Modifier, Sum
from prefzoo.runtime.maths import FORMULA, formula_text, plain


def explanation(one: Loss | Sum | Modifier) -> Iterator[str]:
    """Yield all facts about a loss, a sum of losses or a modifier: formula, paper, needs, knobs and traps."""
    return map(plain, _lines(one))


def needs(one: Loss | Sum | Modifier) -> list[str]:
    """Return in words what a loss or modifier needs besides the policy's log-probs of pairs."""
    if isinstance(one, Modifier):
        return ["pairs"] * one.pairs_only + [word for key, word in INPUTS.items() if key in one.needs]
    return ["single answers"] * one.unpaired + [word for key, word in INPUTS.items() if key in one.needs]


def _lines(one: Loss | Sum | Modifier) -> Iterator[str]:
    yield f"{one.name}\n\n{_indented(one.doc) or 'It has no docstring.'}\n"
    if FORMULA.search(one.doc):
        yield f"{SYMBOLS}\n"
    if one.paper:
        cited = "" if isinstance(one, Sum) else f", {one.equation or UNCITED}"
        yield f"paper: {one.paper}{cited}"
    yield from _of_modifier(one) if isinstance(one, Modifier) else _of_loss(one)
    if one.couples:
        yield f"couples the rows of a batch: {one.couples}"
    if one.provisional:
        yield f"provisional: {one.provisional}"


def _of_modifier(one: Modifier) -> Iterator[str]:
    yield f"changes: {ACTS[one.of_values]}"
    yield f"needs: {', '.join(needs(one)) or 'nothing else'}"
    if one.excludes:
        yield f"not with: {', '.join(one.excludes)}"
    yield from _notes(one)
    yield f"use: a variant's `modifiers: [{{{one.name}: {{}}}}]`, on any loss that it fits"


def _of_loss(loss: Loss | Sum) -> Iterator[str]:
    yield f"needs a reference: {'yes' if loss.needs_reference else 'no'}"
    others = [need for need in needs(loss) if need != INPUTS["reference"]]
    if others:
        yield f"needs also: {', '.join(others)}"
    if isinstance(loss, Sum):
        for _, term in loss.terms:
            yield from _knobs(term, f"{term.name}.")
    else:
        yield from _notes(loss)


def _notes(loss: Loss | Modifier) -> Iterator[str]:
    """Yield the facts that a sum lacks: knobs, learning rates, situations and traps."""
    yield from _knobs(loss, "")
    if loss.learning_rate:
        yield f"published learning rates: {', '.join(f'{rate:g}' for rate in loss.learning_rate)}"
    for one in situations(loss.name):
        yield f"try it for: {one['situation']}"
    for trap in loss.traps:
        yield f"trap: {trap}"


def _indented(doc: str) -> str:
    """Return a docstring with every displayed formula on a line of its own, indented."""
    return FORMULA.sub(lambda m: f"    {formula_text(m.group(1))}" if m.group(1) else m.group(), doc)


def _knobs(loss: Loss | Modifier, prefix: str) -> Iterator[str]:
    for knob in knobs(loss):
        values = ", ".join(f"{v:g}" for v in knob["grid"])
        tuned = f", tuned over {values}" if values else ", no published values were read"
        yield f"  {prefix}{knob['name']}: {knob['bounds']}, default {knob['default']}{tuned}"
