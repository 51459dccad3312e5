"""Read the part of LaTeX that formulas of losses need: letters, Greek, fractions, scripts, accents, functions, text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prefzoo.runtime.maths.tree import ACCENTS, Accent, Fraction, Leaf, Node, Row, Script

TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
SYMBOLS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ",
    "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ",
    "Theta": "Θ", "Lambda": "Λ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω", "ell": "ℓ",
    "infty": "∞", "partial": "∂", "nabla": "∇",
}  # fmt: skip
OPERATORS = {
    "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "in": "∈", "to": "→", "times": "×",
    "cdot": "·", "approx": "≈", "propto": "∝", "sim": "∼", "pm": "±", "ll": "≪", "gg": "≫", "mid": "|", "|": "‖",
    "sum": "∑", "prod": "∏", "int": "∫", "dots": "…", "ldots": "…", "cdots": "…", "top": "⊤",
}  # fmt: skip
CHARACTERS = {"-": "−", "*": "·"}
SPACES = {"quad": 1.0, "qquad": 2.0, ",": 0.17, ";": 0.28, ":": 0.22, " ": 0.25}
IGNORED = ("textstyle", "displaystyle", "!", "bigl", "bigr", "big")
UPRIGHT = ("mathrm", "operatorname", "mathbf", "mathcal", "mathbb")
WORDS = ("text", "textrm", "mbox")
FRACTIONS = ("frac", "tfrac", "dfrac")
END = ""


def parse(latex: str) -> Row:
    """Return the tree of a formula; an unknown command becomes its name, without the backslash."""
    return _Parser(latex).row()


class _Parser:
    """Reads a formula's tokens from left to right."""

    def __init__(self, source: str) -> None:
        self.tokens: list[str] = TOKEN.findall(source)
        self.at = 0

    def row(self, until: str = END) -> Row:
        """Read up to a token, or to the end."""
        return Row(tuple(self._parts(until)))

    def _peek(self) -> str:
        """Return the next token that is no space; END after the last one."""
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else END

    def _next(self) -> str:
        token = self._peek()
        self.at += 1
        return token

    def _parts(self, until: str) -> Iterator[Node]:
        while (token := self._peek()) not in (until, END):
            node = self._one()
            scripts: dict[str, Node] = {}
            while (mark := self._peek()) in ("_", "^"):
                self._next()
                scripts[mark] = self._argument()
            if scripts:
                yield Script(node or Row(()), scripts.get("_"), scripts.get("^"))
            elif node is not None:
                yield node
        if token == until:
            self._next()

    def _argument(self) -> Node:
        r"""Read one argument: a group, a command, a letter, or a single digit, as in `\frac12`."""
        if self._peek()[:1].isdigit():
            self.tokens[self.at : self.at + 1] = list(self._peek())
        return self._one() or Row(())

    def _one(self) -> Node | None:
        """Read a letter, a number, a group or a command; None where there is nothing to show."""
        token = self._peek()
        if token in ("_", "^", "}", END):  # a stray one is left out
            self.at += token == "}"
            return None
        self._next()
        if token == "{":
            return self.row("}")
        if token.startswith("\\"):
            return self._command(token[1:])
        if token[0].isdigit():
            return Leaf("mn", token)
        return Leaf("mi", token) if token.isalpha() else Leaf("mo", CHARACTERS.get(token, token))

    def _command(self, name: str) -> Node | None:
        if name in FRACTIONS:
            return Fraction(self._argument(), self._argument())
        if name in ACCENTS:
            return Accent(self._argument(), name)
        if name in UPRIGHT or name in WORDS:
            return self._words(name)
        if name == "left":
            return self._fenced()
        if name in IGNORED:
            return None
        if name in SPACES:
            return Leaf("space", str(SPACES[name]))
        if name in OPERATORS or not name.isalpha():
            return Leaf("mo", OPERATORS.get(name, name).strip("\\"))
        return Leaf("mi", SYMBOLS.get(name, name))  # Greek, a function such as log, or a command that is not known

    def _fenced(self) -> Row:
        """Read up to the matching right fence; both grow with what is between them."""
        before = Leaf("fence", self._next())
        inside = self.row("\\right")
        return Row((before, *inside.parts, Leaf("fence", self._next())))

    def _words(self, name: str) -> Leaf:
        """Read a braced argument as it is written, with its spaces if it is text."""
        kind = "mtext" if name in WORDS else "mi"
        if self._peek() != "{":
            return Leaf(kind, self._argument().text())
        rest = self.tokens[self.at + 1 :]
        inside = rest[: rest.index("}")] if "}" in rest else rest
        self.at += len(inside) + 2
        shown = "".join(inside).replace("\\", "")
        return Leaf(kind, shown if kind == "mtext" else re.sub(r"\s", "", shown))
