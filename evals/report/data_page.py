"""Write the audit of a recipe's data as one HTML page: odd rows, lengths, languages, and sample rows by role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from prefzoo.data.audit import Audit, AuditedData
from prefzoo.data.audits.findings import Finding, example_words
from prefzoo.data.examples import Example
from prefzoo.data.mixtures import Origins
from prefzoo.data.roles import TEMPLATE, UNSCORED, roles_of
from prefzoo.data.tokenising import Reading, encode_row
from prefzoo.data.tokens import TokenExample, TokenPair
from prefzoo.evals.report.parts import environment, part
from prefzoo.runtime import run_folders
from prefzoo.version import __version__

PAIRS = 10  # rows shown of each data set
MOST = 1500  # most tokens shown of a prompt or answer
NAMES = {"assistant": "assistant, scored", UNSCORED: "assistant, not scored", TEMPLATE: "chat template"}
STYLES = {"assistant": "scored", UNSCORED: "unscored", TEMPLATE: "template", "system": "system", "user": "user"}


@dataclass(frozen=True)
class Segment:
    """A run of neighbouring tokens of one role, decoded. `style` is its CSS class."""

    text: str
    name: str
    style: str


@dataclass(frozen=True)
class ShownText:
    """A prompt or an answer as it is tokenised.

    Attributes:
        title: its kind, such as `prompt` or `chosen`.
        segments: its text, split by role.
        tokens, scored: number of all its tokens, and of its scored tokens.
        more: number of tokens that are not shown.
    """

    title: str
    segments: Sequence[Segment]
    tokens: int
    scored: int
    more: int


@dataclass(frozen=True)
class ShownRow:
    """A row of the data.

    Attributes:
        title: its number from 1, with its source if there are several.
        scores: scores of the chosen and the rejected answer; None without scores.
        prompt: the prompt.
        answers: the answers.
    """

    title: str
    scores: tuple[float, float] | None
    prompt: ShownText
    answers: Sequence[ShownText]


@dataclass(frozen=True)
class ShownSet:
    """A data set on the page.

    Attributes:
        use: `train` or `eval`.
        audit: its statistics, with the number of tokens of each role.
        rows: sample rows, evenly spread.
        findings: each kind of odd rows, with example rows in words.
        roles, languages: name, count and share of each.
        bars: histogram of scored tokens: the largest number of tokens in a bin and, for each kind of answer, the count
            and its ratio to the largest count.
    """

    use: str
    audit: Audit
    rows: Sequence[ShownRow]
    findings: Sequence[tuple[Finding, str]]
    roles: Sequence[tuple[str, int, float]]
    languages: Sequence[tuple[str, int, float]]
    bars: Sequence[tuple[int, Sequence[tuple[int, float]]]]


def write_page(name: str, sets: Mapping[str, AuditedData], tokenizer: Any, reading: Reading, out: Path) -> None:
    """Write the page of a recipe's data atomically.

    Args:
        name: the recipe's name.
        sets: the data sets by use, audited with counts of tokens by role.
        tokenizer, reading: the tokenizer and the settings with which they were tokenised.
        out: the file to write.
    """
    run_folders.write_text(out, page(name, sets, tokenizer, reading))


def page(name: str, sets: Mapping[str, AuditedData], tokenizer: Any, reading: Reading) -> str:
    """Return the page of a recipe's data.

    Args:
        name: the recipe's name.
        sets: the data sets by use, audited with counts of tokens by role.
        tokenizer, reading: the tokenizer and the settings with which they were tokenised.

    Returns:
        The page, as HTML.
    """
    shown = [_shown_set(use, data, tokenizer, reading) for use, data in sets.items()]
    styles = {segment.style: segment.name for one in shown for row in one.rows for segment in _segments(row)}
    return environment().get_template("page.data.html.j2").render(
        name=name, sets=shown, version=__version__, style=Markup(part("page.css") + part("page.data.css")),
        legend=[(style, styles[style]) for style in sorted(styles, key=_place)],
    )  # fmt: skip


def _shown_set(use: str, data: AuditedData, tokenizer: Any, reading: Reading) -> ShownSet:
    audit, kept = data.audit, data.tokens.examples
    picked = [kept[i * len(kept) // PAIRS] for i in range(PAIRS)] if len(kept) > PAIRS else list(kept)
    wanted = {tokens.row for tokens in picked}
    examples: dict[int, list[Example]] = {}
    for example in data.examples:
        if example.row in wanted:
            examples.setdefault(example.row, []).append(example)
    roles = sorted((audit.roles or {}).items(), key=lambda item: _place(_style(item[0])))
    origins = Origins(audit.sources) if audit.sources else None
    longest = max((n for _, *counts in audit.histogram for n in counts), default=1)
    return ShownSet(
        use, audit,
        [
            _shown_row(tokens, _text_of(tokens, examples[tokens.row], tokenizer, reading), tokenizer, reading, origins)
            for tokens in picked
        ],
        [(one, example_words(one)) for one in audit.findings],
        _with_shares([(NAMES.get(role, role), n) for role, n in roles]),
        _with_shares(list(audit.languages.items())),
        [(most, [(n, n / longest) for n in counts]) for most, *counts in audit.histogram],
    )  # fmt: skip


def _text_of(tokens: TokenExample, examples: Sequence[Example], tokenizer: Any, reading: Reading) -> Example:
    """Return the example that gave these tokens; a row with several answers has several examples."""
    if len(examples) > 1:
        for example in examples:
            read = encode_row(tokenizer, example, reading, Counter())
            answers = zip(read.answers, tokens.answers, strict=True) if read else ()
            if read and all(whole[: len(cut)] == cut for whole, cut in answers):
                return example
    return examples[0]


def _shown_row(
    tokens: TokenExample, example: Example, tokenizer: Any, reading: Reading, origins: Origins | None
) -> ShownRow:
    roles = roles_of(example, tokens, tokenizer, reading)
    titles: tuple[str, ...] = ("chosen", "rejected")
    if not isinstance(tokens, TokenPair):
        titles = ("desirable",) if tokens.label else ("undesirable",)
    texts = [
        _shown_text(title, ids, spoken, tokenizer)
        for title, ids, spoken in zip(("prompt", *titles), (tokens.prompt, *tokens.answers), roles, strict=True)
    ]
    scores = tokens.scores if isinstance(tokens, TokenPair) else None
    title = f"Row {tokens.row + 1}" if origins is None else origins.place(tokens.row)
    return ShownRow(title, scores, texts[0], texts[1:])


def _shown_text(title: str, ids: Sequence[int], roles: Sequence[str], tokenizer: Any) -> ShownText:
    segments, at = [], 0
    padded = [*roles, *[TEMPLATE] * len(ids)][: len(ids)]  # the BOS of an empty prompt has no role
    for role, run in groupby(padded[:MOST]):
        length = len(list(run))
        segments.append(Segment(tokenizer.decode(ids[at : at + length]), NAMES.get(role, role), _style(role)))
        at += length
    return ShownText(title, segments, len(ids), roles.count("assistant"), max(0, len(ids) - MOST))


def _segments(row: ShownRow) -> list[Segment]:
    return [segment for text in (row.prompt, *row.answers) for segment in text.segments]


def _style(role: str) -> str:
    return STYLES.get(role, "tool")


def _place(style: str) -> int:
    return ("scored", "unscored", "user", "system", "tool", "template").index(style)


def _with_shares(counts: Sequence[tuple[str, int]]) -> list[tuple[str, int, float]]:
    total = sum(n for _, n in counts)
    return [(name, n, n / total) for name, n in counts]
