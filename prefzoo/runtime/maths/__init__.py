"""Show docstrings with LaTeX and backticks as readers should see them: as Unicode text, or as HTML with MathML."""

from __future__ import annotations

import html
import re

from prefzoo.runtime.maths.latex import parse

FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(\S(?:[^$]*?\S)?)\$", re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
EMPHASIS = re.compile(r"(?<![\w*])\*(\w[^*]*\w)\*(?![\w*])")


def formula_text(latex: str) -> str:
    r"""Return a formula as one line of Unicode.

    Args:
        latex: The formula, without dollar signs, like `\log\sigma(\beta h)`.

    Returns:
        Text without a backslash or a brace, like `log σ(βh)`.
    """
    return re.sub(r"\s{2,}", "  ", parse(latex).text())


def formula_markup(latex: str, *, block: bool = False) -> str:
    """Return a formula as MathML.

    Args:
        latex: The formula, without dollar signs.
        block: Whether it stands on a line of its own.

    Returns:
        A `math` element, which browsers show without any script.
    """
    display = ' display="block"' if block else ""
    return f"<math{display}>{parse(latex).markup()}</math>"


def plain(text: str) -> str:
    """Return a docstring's text with its formulas in Unicode, and without backticks and stars of emphasis.

    Code of several words, such as a command, is put into quotes.
    """
    shown = FORMULA.sub(lambda match: formula_text(match.group(1) or match.group(2)), text)
    shown = CODE.sub(lambda match: f"'{match.group(1)}'" if " " in match.group(1) else match.group(1), shown)
    return EMPHASIS.sub(r"\1", shown).replace("`", "'")


def markup(text: str) -> str:
    """Return a docstring's text as HTML: formulas in MathML, names in `code`, emphasis in `em`; all else escaped."""
    parts, at = [], 0
    for match in FORMULA.finditer(text):
        parts += [_prose(text[at : match.start()]), formula_markup(match.group(1) or match.group(2))]
        at = match.end()
    return "".join([*parts, _prose(text[at:])])


def _prose(text: str) -> str:
    shown = CODE.sub(r"<code>\1</code>", html.escape(text, quote=False))
    return EMPHASIS.sub(r"<em>\1</em>", shown).replace("`", "'")
