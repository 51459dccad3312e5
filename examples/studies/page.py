"""The page of the studies: a template whose every number is read from the studies' files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FIELD = re.compile(r"\{([\w.]+)(?::([^{}]*))?\}")
TABLE = re.compile(r"^\[\[([\w.]+): (.+)\]\]$", re.MULTILINE)  # [[defaults.variants: variant, value:.1f, ...]]
SECTION = re.compile(r"^(?=## )", re.MULTILINE)
NEEDS = re.compile(r"^<!-- needs (\w+) -->\n", re.MULTILINE)
COMMAND = "make study-{}"
LEFT = "<!-- left to run -->"
HEAD = "<!-- Made by `make studies-page` of recipes/studies/page.md; edit that. -->\n"
START = "<!-- Made by `make studies-page` of recipes/studies/summary.md; edit that. -->\n"
END = "<!-- end of it -->\n"
BLOCK = re.compile(re.escape(START) + "(.*?)" + re.escape(END), re.DOTALL)
PARAGRAPH = "\n\n"


def read_numbers(results: Path) -> dict[str, Any]:
    """Return what every `numbers.json` in the folders of `results` holds, by folder."""
    files = sorted(results.glob("*/numbers.json"))
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in files}


def render(template: str, numbers: Mapping[str, Any]) -> str:
    """Fill a template.

    `{study.key.key:.1f}` is one number of `numbers.json`; `{study.variants.dpo.value:.1f}` takes the row whose first
    column is `dpo` of a list. `[[study.variants: variant, value:.1f]]`, alone on a line, is a table of a list's rows.
    A section of which a study has no numbers yet is left out, and a line in place of `<!-- left to run -->` names the
    commands by which such studies are run.

    Args:
        template: Markdown; a section may begin with `<!-- needs STUDY -->` lines.
        numbers: by study, as `read_numbers` returns them.

    Raises:
        KeyError: a study that has numbers lacks one that the template names.
    """
    left = [name for name in dict.fromkeys(NEEDS.findall(template)) if name not in numbers]
    commands = ", ".join(f"`{COMMAND.format(name)}`" for name in left)
    parts = [part for part in SECTION.split(template) if not set(NEEDS.findall(part)) & set(left)]
    page = HEAD + "".join(_section(part, numbers) for part in parts)
    return page.replace(f"{LEFT}\n", f"Not run to their end yet, and left out here: {commands}.\n" if left else "")


def summary(template: str, numbers: Mapping[str, Any]) -> str:
    """Fill the template of the README's paragraphs; one of which a study has no numbers yet is left out.

    Raises:
        KeyError: a study that has numbers lacks one that the template names.
    """
    parts = template.split(PARAGRAPH)
    return PARAGRAPH.join(_section(part, numbers) for part in parts if set(NEEDS.findall(part)) <= set(numbers))


def with_summary(readme: str, text: str) -> str:
    """Return a README with `text` between its two marks; unchanged where it has none."""
    return BLOCK.sub(lambda _: START + text + END, readme)


def written_by_hand(template: str) -> list[str]:
    """Return the lines of a template that hold a number which no file gives and no citation covers."""
    faults = []
    for line in template.splitlines():
        rest = TABLE.sub("", FIELD.sub("", re.sub(r"`[^`]*`|<!--.*?-->", "", line)))
        rest = re.sub(r"^(#+ |\d+\. )|\(results/[^)]*\)|Study \d", "", rest)
        if re.search(r"\d", re.sub(r"arXiv:[\d.]+", "", rest)) and "arXiv:" not in rest:
            faults.append(line)
    return faults


def _section(text: str, numbers: Mapping[str, Any]) -> str:
    text = TABLE.sub(lambda m: _table(_at(numbers, m[1]), m[2].split(", ")), NEEDS.sub("", text))
    return FIELD.sub(lambda m: _cell(_at(numbers, m[1]), m[2] or ""), text)


def _at(numbers: Mapping[str, Any], path: str) -> Any:
    value: Any = numbers
    for key in path.split("."):
        if isinstance(value, list):
            value = next(row for row in value if key in (str(v) for v in list(row.values())[:1]))
        elif key in value:
            value = value[key]
        else:
            raise KeyError(f"{path}: no {key} among {', '.join(value)}")
    return value


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as a Markdown table; a column is `key`, `key:format` or `title=key:format`."""
    parsed = []
    for column in columns:
        title, _, rest = column.rpartition("=")
        key, _, form = rest.partition(":")
        parsed.append((title or key.replace("_", " "), key, form))
    lines = ["| " + " | ".join(title for title, _, _ in parsed) + " |", "|" + "---|" * len(parsed)]
    lines += ["| " + " | ".join(_cell(row[key], form) for _, key, form in parsed) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any, form: str) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):  # of tokens and by how much each gained
        return ", ".join(f"{v['token'].strip() or repr(v['token'])} {v['by']:+.2f}" for v in value).replace("|", "\\|")
    return format(value, form)
