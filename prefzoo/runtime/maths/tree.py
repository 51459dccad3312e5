"""The parts of a formula, and how each is written: on a line of Unicode, or in MathML."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

SUMS = "∑∏∫"
FENCES = tuple("()[]{}|‖")
THIN = '<mspace width="0.17em"></mspace>'
BINARY = frozenset("+−=<>:·×±≤≥≠∈→≈∝∼≪≫")
ACCENTS = {"bar": ("\u0304", "¯"), "tilde": ("\u0303", "~"), "hat": ("\u0302", "^")}
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Node:
    """A part of a formula."""

    def text(self) -> str:
        """Return the part in Unicode, on one line."""
        raise NotImplementedError

    def markup(self) -> str:
        """Return the part in MathML."""
        raise NotImplementedError


@dataclass(frozen=True)
class Leaf(Node):
    """A letter or name (mi), number (mn), operator (mo) or words (mtext).

    Of the kinds that MathML does not have, a `fence` is a bracket that grows, and a `space` has its width in em as
    its word.
    """

    kind: str
    word: str

    def text(self) -> str:
        if self.kind == "space":
            return "  " if float(self.word) >= 1 else ""
        return self.word

    def markup(self) -> str:
        if self.kind == "space":
            return f'<mspace width="{self.word}em"></mspace>'
        if self.kind == "fence":
            return f"<mo>{html.escape(self.word)}</mo>"
        fixed = ' stretchy="false"' if self.word in FENCES else ""
        return f"<{self.kind}{fixed}>{html.escape(self.word)}</{self.kind}>"


@dataclass(frozen=True)
class Row(Node):
    """Parts after each other."""

    parts: tuple[Node, ...]

    def text(self) -> str:
        line = ""
        for i, part in enumerate(self.parts):
            line += _spaced(part, self.parts[i - 1] if i else None, line)
        return re.sub(r" (?=[,)\]])|(?<=[(\[]) ", "", line).strip()

    def markup(self) -> str:
        inside = ""
        for part, before in zip(self.parts, (None, *self.parts), strict=False):
            name, after_name = _is_name(part), _is_name(before) and part.text()[:1] not in ("(", "[")
            inside += THIN * (after_name or (name and before is not None and not _is_operator(before))) + part.markup()
        return inside if len(self.parts) == 1 else f"<mrow>{inside}</mrow>"


@dataclass(frozen=True)
class Fraction(Node):
    """A numerator over a denominator."""

    above: Node
    below: Node

    def text(self) -> str:
        return f"{_bracketed(self.above)}/{_bracketed(self.below)}"

    def markup(self) -> str:
        return f"<mfrac>{self.above.markup()}{self.below.markup()}</mfrac>"


@dataclass(frozen=True)
class Script(Node):
    """A base with a subscript, a superscript or both."""

    base: Node
    below: Node | None
    above: Node | None

    def text(self) -> str:
        line = self.base.text()
        if self.below is not None:
            word = self.below.text()
            line += word.translate(SUBSCRIPTS) if word.isdecimal() else f"_{_bracketed(self.below)}".rstrip("_")
        if self.above is not None:
            word = self.above.text()
            line += word.translate(SUPERSCRIPTS) if word.isdecimal() else f"^{_bracketed(self.above, scripts=False)}"
        return line

    def markup(self) -> str:
        below, above = (part.markup() if part is not None else "" for part in (self.below, self.above))
        name = "msubsup" if below and above else "msub" if below else "msup"
        if isinstance(self.base, Leaf) and self.base.word in SUMS:
            name = {"msubsup": "munderover", "msub": "munder", "msup": "mover"}[name]
        return f"<{name}>{self.base.markup()}{below}{above}</{name}>"


@dataclass(frozen=True)
class Accent(Node):
    """A letter under a bar, a tilde or a hat."""

    base: Node
    name: str

    def text(self) -> str:
        return self.base.text() + ACCENTS[self.name][0]

    def markup(self) -> str:
        return f'<mover accent="true">{self.base.markup()}<mo>{ACCENTS[self.name][1]}</mo></mover>'


def _spaced(part: Node, before: Node | None, line: str) -> str:
    """Return a part's text with the spaces that set it off from what comes before it."""
    word = part.text()
    if isinstance(part, Leaf) and part.word in BINARY:
        return word if _is_sign(part, before) else f" {word} "
    if isinstance(part, Leaf) and part.word == ",":
        return ", "
    if _is_function(before):
        word = f"({word})" if isinstance(part, Fraction) else word
        return word if word.startswith(("(", "[", " ")) else f" {word}"
    if isinstance(before, Fraction) and word[:1].isalnum():
        return f" {word}"
    touches = line[-1:].isalnum() or line[-1:] in (")", "]", "|")
    apart = _is_function(part) or isinstance(part, Fraction) or (isinstance(part, Script) and part.above is not None)
    named = isinstance(before, Script) and before.below is not None and word[:1].isalnum()
    return f" {word}" if named or (touches and apart) else word


def _is_function(node: Node | None) -> bool:
    """Return whether a part is a name that applies to what comes after it, like log or a sum over t."""
    if isinstance(node, Script):
        return node.base == Leaf("mo", "∑") or _is_function(node.base)
    return isinstance(node, Leaf) and node.kind == "mi" and len(node.word) > 1


def _is_name(node: Node | None) -> bool:
    """Return whether a part is a name like log, which stands off its neighbours."""
    return not (isinstance(node, Script) and node.base == Leaf("mo", "∑")) and _is_function(node)


def _is_operator(node: Node) -> bool:
    return isinstance(node, Leaf) and node.kind in ("mo", "fence", "space")


def _is_sign(operator: Leaf, before: Node | None) -> bool:
    """Return whether a plus or minus belongs to what comes after it."""
    if operator.word not in "+−":
        return False
    return before is None or (isinstance(before, Leaf) and _is_operator(before) and before.word not in ")]|")


def _bracketed(node: Node, *, scripts: bool = True) -> str:
    """Return a part's text, in brackets unless it is one thing; `scripts`: whether one with an index counts as one."""
    while isinstance(node, Row) and len(node.parts) == 1:
        node = node.parts[0]
    word = node.text()
    whole = isinstance(node, Leaf | Accent) or (scripts and isinstance(node, Script))
    whole = whole or bool(re.fullmatch(r"\|[^|]*\||\w?\([^()]*\)", word))
    return word if whole or not word else f"({word})"
