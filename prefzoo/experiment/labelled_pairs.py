"""Pairs that people labelled, read from data of any format as the texts that judges compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from prefzoo.data.examples import Example, Pair, Text
from prefzoo.data.faults import Faults
from prefzoo.data.reading import DataSource, Mixture, read_source
from prefzoo.data.rows import Row
from prefzoo.errors import UserError
from prefzoo.evals.judges.conversations import simplified
from prefzoo.evals.judges.protocol import Answer, PromptRow
from prefzoo.evals.metrics.judge_quality import LabelledPair

SKIPPED = "skipped: "  # starts the reason of a row that is left out, among all that was done to rows


@dataclass(frozen=True)
class LabelledPairs:
    """Labelled pairs, and what was left out of their file.

    Attributes:
        pairs: those that are used, ties among them.
        left_out: how many rows are not used, by reason.
    """

    pairs: list[LabelledPair] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many there are with those that are left out."""
        return len(self.pairs) + sum(self.left_out.values())

    @property
    def ties(self) -> int:
        """How many of the pairs are ties."""
        return sum(p.tie for p in self.pairs)

    def losses(self) -> list[str]:
        """Return how many rows are left out, a text for each reason."""
        return [f"{n} of {self.total} pairs left out: {reason}" for reason, n in self.left_out.items()]


def read_labelled(source: DataSource | Mixture, folder: Path) -> LabelledPairs:
    """Read the pairs of a data set of any format as texts, which judges compare.

    Args:
        source: the data set.
        folder: what a path in it is relative to.

    Returns:
        A pair per row; one with two equal scores, with `tie: true`, or of which the file prefers neither answer, is a
        tie.

    Raises:
        UserError: it cannot be read, or no row is a labelled pair of texts.
    """
    data, _ = read_source(_for_a_judge(source), folder, turns=False)
    faults, labelled = Faults(source.spec, source.on_bad_row), []
    for example in data.examples:
        try:
            labelled.append(_pair(example, data.rows[example.row]))
        except UserError as e:
            faults.add(data.place(source.spec, example.row), str(e), data.rows[example.row])
    faults.settle(len(data.rows))
    if not labelled:
        raise UserError(f"{source.spec}: no row is a labelled pair of texts, which a judge needs")
    skipped = {k.removeprefix(SKIPPED): n for k, n in data.counts.items() if k.startswith(SKIPPED)}
    return LabelledPairs(labelled, skipped)


def _for_a_judge(source: DataSource | Mixture) -> DataSource | Mixture:
    """Return a data set whose answers may be empty, and whose ties are read: a judge compares those too."""
    if isinstance(source, DataSource):
        return replace(source, judged=True)
    return Mixture(tuple(replace(one, judged=True) for one in source.sources))


def _pair(example: Example, row: Row) -> LabelledPair:
    if not isinstance(example, Pair):
        raise UserError("a single labelled answer; labelled pairs need prompt, chosen and rejected")
    chosen, rejected = _text(example.chosen, "chosen"), _text(example.rejected, "rejected")
    prompt, number = simplified(example.prompt), str(row.get("id", example.row + 1))
    asked = PromptRow(number, prompt, tuple(row.get("checks") or ()), row.get("topic"))
    tie = example.scores is not None and example.scores[0] == example.scores[1]
    by = str(row.get("annotator") or "")
    return LabelledPair(asked, Answer(chosen, True, 0), Answer(rejected, True, 0), tie, by)


def _text(text: Text, name: str) -> str:
    """Return an answer's text, or that of its only message.

    Raises:
        UserError: there are several messages.
    """
    if isinstance(text, str):
        return text
    if len(text) != 1:
        raise UserError(f"{name} is a conversation of several messages; a judge compares answers of one message each")
    return str(text[0]["content"])
