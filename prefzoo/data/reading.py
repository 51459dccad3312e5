"""Read the data sets that a recipe names, one or several, as pairs or labelled answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from prefzoo.data.examples import Example, Pair
from prefzoo.data.faults import Faults, OnBadRow
from prefzoo.data.files import Position
from prefzoo.data.mixtures import Origins, Part
from prefzoo.data.rows import Row
from prefzoo.data.schemas.columns import fold_columns, settle
from prefzoo.data.schemas.normalise import Normalised, ReadRows, conclude, read_part
from prefzoo.data.schemas.rankings import Pairs
from prefzoo.data.sources import Address, iterate_rows
from prefzoo.data.spool import Spool
from prefzoo.data.views import changed, joined
from prefzoo.errors import UserError
from prefzoo.runtime.progress import Report, Stages, unseen

AT_ONCE = 5_000  # rows per part; a data set with more rows is written to a temporary file, part by part


@dataclass(frozen=True)
class DataSource:
    """One data set, with the settings for reading it.

    Attributes:
        spec: a path, `package://module/path`, or a hub id.
        columns: a schema's name of a column -> the file's name of it.
        form: the name of the schema; detected if None.
        on_bad_row: what to do with rows that cannot be used: `error` raises, `drop` leaves them out.
        name: its name in a mixture; if empty, the spec is its name.
        weight: its weight in a mixture, relative to the weights of the other sources; None if no source has a weight.
        rows: the number of rows to read, from the first on; all if None.
        split: the split of a data set on the hub or in a folder; `train` if None.
        revision: the commit, branch or tag of a data set on the hub; the newest if None.
        streaming: whether rows are read as they arrive from the hub, without a copy on disk.
        pairs: which pairs to build from several rated answers to a prompt.
        judged: whether a judge will compare the answers. Then one answer of a pair may be empty, and a tie becomes a
            pair with equal scores.
    """

    spec: str
    columns: Mapping[str, str] = field(default_factory=dict)
    form: str | None = None
    on_bad_row: OnBadRow = "error"
    name: str = ""
    weight: float | None = None
    rows: int | None = None
    split: str | None = None
    revision: str | None = None
    streaming: bool = False
    pairs: Pairs = "best_worst"
    judged: bool = False

    @property
    def address(self) -> Address:
        """The location of the rows."""
        return Address(self.spec, self.split, self.revision, self.streaming)


@dataclass(frozen=True)
class Mixture:
    """Several data sets that are concatenated.

    Attributes:
        sources: the data sets, at least two.
    """

    sources: tuple[DataSource, ...]

    @property
    def spec(self) -> str:
        """The specs of all sources, separated by commas."""
        return ", ".join(source.spec for source in self.sources)

    @property
    def on_bad_row(self) -> OnBadRow:
        """What to do with rows that cannot be used; all sources have the same setting."""
        return self.sources[0].on_bad_row


def read_source(
    source: DataSource | Mixture, folder: Path, *, turns: bool = True, stages: Stages = unseen
) -> tuple[Normalised, Faults]:
    """Read a data set or a mixture as pairs or labelled answers.

    Args:
        source: the data set or mixture.
        folder: the folder that relative paths start from.
        turns: whether to split plain-text transcripts into messages, which a chat template needs.
        stages: shows the progress of reading.

    Returns:
        The pairs or labelled answers, and the rows that were left out. The rows of a mixture are numbered
        consecutively, source after source.

    Raises:
        UserError: the data cannot be read, no schema fits it, rows are refused, or some sources have pairs and others
            single answers.
    """
    if isinstance(source, DataSource):
        faults = Faults(source.spec, source.on_bad_row)
        with stages(f"reading {source.spec}") as report:
            return _read(source, folder, faults, report, turns=turns), faults
    read: list[tuple[Normalised, Faults]] = []
    lines: list[str] = []
    for one in source.sources:
        try:
            read.append(read_source(one, folder, turns=turns, stages=stages))
        except UserError as e:
            lines += e.lines
    if lines:
        raise UserError(lines)
    return _joined(source, read)


def _read(source: DataSource, folder: Path, faults: Faults, report: Report, *, turns: bool) -> Normalised:
    """Read one data set, part by part unless its rows must be grouped.

    Raises:
        UserError: see `read_source`.
    """
    position = Position()
    rows = islice(iterate_rows(source.address, folder, faults, position), source.rows)
    first = _part(rows, 0, source, position, report)
    faults.settle()
    if not first:
        raise UserError(f"{source.spec}: no rows in it; at least one is needed")
    folded = fold_columns(first, source.spec, source.columns, source.form, turns=turns)
    columns = {**source.columns, **folded}
    schema = settle(first, source.spec, columns, source.form, turns=turns)
    if len(first) == AT_ONCE and schema.gather is not None:  # any row may belong to any group, so all are needed
        while following := _part(rows, len(first), source, position, report):
            first += following
    part = read_part(schema, first, source.spec, columns, faults, pairs=source.pairs, judged=source.judged)
    while more := _part(rows, len(part.rows), source, position, report):
        part = part if isinstance(part.rows, Spool) else _spooled(part)
        further = read_part(
            schema, more, source.spec, columns, faults, len(part.rows), source.pairs, judged=source.judged
        )
        _append(part, further)
    if source.rows is not None and len(part.rows) < source.rows:
        raise UserError(
            f"{source.spec}: rows is {source.rows:,}, but the data set has only {len(part.rows):,}; lower or remove it"
        )
    return replace(conclude(part, schema, source.spec, faults, turns=turns), folded=tuple(folded.values()))


def _part(rows: Iterator[Row], before: int, source: DataSource, position: Position, report: Report) -> list[Row]:
    """Return the next `AT_ONCE` rows or what remains, and report the progress."""
    part = list(islice(rows, AT_ONCE))
    read = before + len(part)
    if len(part) == AT_ONCE:
        total, share = position.total(read), position.share
        report(read, min(total, source.rows or total), "" if share is None else f"{share:.0%} of the file")
    return part


def _spooled(part: ReadRows) -> ReadRows:
    """Return a part whose rows and examples are in temporary files, so that others can be appended."""
    spooled = ReadRows(Spool(), Spool(), Counter(), {}, part.rated)
    _append(spooled, part)
    return spooled


def _append(whole: ReadRows, part: ReadRows) -> None:
    assert isinstance(whole.rows, Spool)
    assert isinstance(whole.examples, Spool)
    for row in part.rows:
        whole.rows.append(row)
    for example in part.examples:
        whole.examples.append(example)
    whole.counts += part.counts
    whole.unused |= part.unused
    whole.rated |= part.rated


def _joined(mixture: Mixture, read: Sequence[tuple[Normalised, Faults]]) -> tuple[Normalised, Faults]:
    """Return the concatenation of several data sets, with consecutive row numbers.

    Raises:
        UserError: some data sets have pairs and others single answers.
    """
    kinds = [isinstance(data.examples[0], Pair) for data, _ in read]
    if len(set(kinds)) > 1:
        pairs, single = (mixture.sources[kinds.index(kind)].spec for kind in (True, False))
        raise UserError(f"{pairs} has pairs, and {single} has single labelled answers; train on one of the two kinds")
    faults = Faults(mixture.spec, mixture.on_bad_row)
    parts: list[Part] = []
    for source, (data, own) in zip(mixture.sources, read, strict=True):
        first = parts[-1].first + parts[-1].rows if parts else 0
        parts.append(Part(source.name, source.spec, data.words, first, len(data.rows), source.weight))
        faults.rows += own.rows
    rows = joined([data.rows for data, _ in read])
    examples: Any = joined([_renumbered(data.examples, p.first) for (data, _), p in zip(read, parts, strict=True)])
    unused = tuple(dict.fromkeys(name for data, _ in read for name in data.unused))
    schema = "; ".join(dict.fromkeys(data.schema for data, _ in read))
    counts = sum((data.counts for data, _ in read), Counter[str]())
    rated = any(data.rated for data, _ in read)
    return Normalised(rows, examples, schema, unused, counts, Origins(parts), rated=rated), faults


def _renumbered(examples: Sequence[Example], first: int) -> Sequence[Example]:
    """Return examples with `first` added to their row numbers."""
    return changed(examples, lambda e: replace(e, row=e.row + first)) if first else examples
