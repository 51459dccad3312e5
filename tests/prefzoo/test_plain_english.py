"""Texts that reach a user avoid turns that a stranger has to decode: messages, help, tables, the report's page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from parsed import parsed

ROOT = Path(__file__).parents[2]
CODE = sorted(path for top in ("prefzoo", "evals") for path in (ROOT / top).rglob("*.py"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "evals" / "report").glob("page.*")),
]
NOT_OURS = ("suites/perplexity/make.py", "data/schemas/")  # texts of a benchmark, examples of rows
ODD = {
    r"\b(is|are) said\b|\bsaid so\b": "reported",
    r"(?<![.\w{])[Kk]ept\b(?! in (bf16|fp32))": "cached, saved, reused, used",
    r"\bbehind\b": "after",
    r"\bwhat of \b|\bfalls to\b": "name the thing",
    r"\bknows? no\b|\bdoes not know\b": "does not support, has no",
    r"\banew\b": "again",
    r"\bnot what was written\b|\bmade again\b": "damaged (its checksum is wrong), created again",
    r"\bhas no meaning\b|\bhave no meaning\b": "has no effect",
    r"\bmend(ed)?\b": "fix, correct",
    r"\bwhoever\b|\bto whom\b": "name them",
    r"\bas many as have\b|\bwhat is broken\b": "damaged",
    r"\bdealt\b": "split",
    r"\bstands? too\b|\bstands? (the other|in its)\b": "is",
    r"\bis no (JSON|YAML|mapping|number|list|function|name|option|checkpoint|sample|knob|input)\b": "is not a",
    r"\bis another than\b": "differs from",
    r"\bas it must be\b": "wrong",
    r"\bpoints of a hundred\b": "percentage points",
    r"\bwork(s|ed)? out (how|what)\b": "estimate",
    r"\bhas it not\b|\bwhich (it|they) (has|have) not\b": "and it has none",
    r"\bhand(s|ed)? (them|the jobs|it) in\b": "submit",
    r"(^|[:;.] )(Whether|Of) [a-z]": "a whole sentence",
}  # fmt: skip
ANY_ODD = re.compile("|".join(ODD))


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each string of a module that may reach a user: docstrings only of commands."""
    tree = parsed(path.read_text(encoding="utf-8"))
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and not _is_command(node):
                docstrings.add(id(first.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, " ".join(node.value.split())


def _is_command(node: ast.AST) -> bool:
    """Whether its docstring is the help of a command, or explains a loss or a modifier to users."""
    decorators = getattr(node, "decorator_list", [])
    names = {ast.unparse(one.func if isinstance(one, ast.Call) else one) for one in decorators}
    return bool(names & {"click.command", "click.group", "loss", "modifier"})


def odd_turns(text: str) -> list[str]:
    """The odd turns of a text, each with what to write instead."""
    if not ANY_ODD.search(text):
        return []
    return [f"{m.group().strip()!r}: write {better}" for turn, better in ODD.items() if (m := re.search(turn, text))]


def test_messages_are_plain_english() -> None:
    odd = [
        f"{path.relative_to(ROOT)}:{line}: {one}"
        for path in CODE
        if not any(part in str(path) for part in NOT_OURS)
        for line, text in texts(path)
        if " " in text
        for one in odd_turns(text)
    ]
    assert not odd, "\n".join(odd)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_plain_english(page: Path) -> None:
    odd = [
        f"{page.name}:{number}: {one}"
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        for one in odd_turns(line)
    ]
    assert not odd, "\n".join(odd)


@pytest.mark.parametrize(
    "text", ["x is said to be odd", "finished; kept", "--a has no meaning with --b", "Of these, none"]
)
def test_odd_turns_are_noticed(text: str) -> None:
    assert odd_turns(text)


def test_strings_of_a_module_are_read_and_its_docstrings_are_not(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        '"""It knows no end."""\n'
        '@click.command("a")\ndef a():\n    """Again."""\n    f"{x} is kept"\n'
        'def b():\n    """Anew."""\n'
    )
    assert {text for _, text in texts(tmp_path / "m.py")} == {"a", "Again.", "is kept"}
