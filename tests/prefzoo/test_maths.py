"""Formulas of docstrings as Unicode and as MathML."""

from __future__ import annotations

import pytest

from prefzoo.runtime.maths import formula_markup, formula_text, markup, plain


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"L = -\log\sigma(\beta h)", "L = −log σ(βh)"),
        (r"a - b + -c", "a − b + −c"),
        (r"\frac{1}{2\tau}", "1/(2τ)"),
        (r"\frac{c - c_0}{|w|}", "(c − c₀)/|w|"),
        (r"\tfrac12 x", "1/2 x"),
        (r"\left(h - \frac{1}{2\tau}\right)^2", "(h − 1/(2τ))²"),
        (r"e^{-\alpha x}", "e^(−αx)"),
        (r"e^{r_t}", "e^(r_t)"),
        (r"\bar c - \tilde r", "c̄ − r̃"),
        (r"\log\frac{a}{b}", "log(a/b)"),
        (r"k\log x", "k log x"),
        (r"\lambda_D n_D", "λ_D n_D"),
        (r"\sum_{t \le m} c_t", "∑_(t ≤ m) c_t"),
        (r"\mathrm{KL}(p \,\|\, q)", "KL(p‖q)"),
        (r"x \text{ for a good answer}, \quad y", "x for a good answer,  y"),
        (r"\max\left(0, x\right)", "max(0, x)"),
        (r"\unheard x", "unheard x"),
        (r"\frac{a", "a/"),
        (r"}_{", ""),
        ("x\\", "x"),
    ],
)
def test_formulas_in_unicode(latex: str, text: str) -> None:
    assert formula_text(latex) == text


def test_formulas_in_mathml() -> None:
    assert formula_markup(r"\frac{1}{2}") == "<math><mfrac><mn>1</mn><mn>2</mn></mfrac></math>"
    assert formula_markup("c_0^2") == "<math><msubsup><mi>c</mi><mn>0</mn><mn>2</mn></msubsup></math>"
    assert formula_markup("a < b", block=True) == (
        '<math display="block"><mrow><mi>a</mi><mo>&lt;</mo><mi>b</mi></mrow></math>'
    )


def test_docstrings_in_both() -> None:
    text = "With $\\epsilon$ (`flip_rate`) *per token*; 0.8*dpo + 0.2*sft costs $5, not $6 <each>."
    assert plain(text) == "With ε (flip_rate) per token; 0.8*dpo + 0.2*sft costs $5, not $6 <each>."
    assert markup(text) == (
        "With <math><mi>ε</mi></math> (<code>flip_rate</code>) <em>per token</em>; 0.8*dpo + 0.2*sft costs $5, not $6 "
        "&lt;each&gt;."
    )
