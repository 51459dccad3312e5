"""Read data sets as a recipe describes them, one source or several: their rows, then pairs or labelled answers."""

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

AT_ONCE = 5_000  # rows that are held in memory; those of a larger data set lie in a file


@dataclass(frozen=True)
class DataSource:
    """A data set, and how its rows are read.

    Attributes:
        spec: a path, `package://module/path`, or a hub id.
        columns: the name that a schema has for a column -> the file's.
        form: name of the schema; None to detect it.
        on_bad_row: whether rows that cannot be used are an error, or are left out.
        name: what it is called among several; empty for its spec.
        weight: its share of a mixture in relation to the others' weights; None where all rows count alike.
        rows: how many of its rows are read, the first ones; None for all.
        split, revision: of a data set on the hub, or in a folder; None for `train`, and for the newest.
        streaming: whether the hub's rows are read as they arrive, without a copy on the disk.
        pairs: which pairs are made of several rated answers to a prompt.
        judged: whether a judge compares the answers: one may be empty, and a tie is a pair with equal scores.
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
        """Where its rows are."""
        return Address(self.spec, self.split, self.revision, self.streaming)


@dataclass(frozen=True)
class Mixture:
    """Several data sets that are read as one.

    Attributes:
        sources: the data sets, at least two.
    """

    sources: tuple[DataSource, ...]

    @property
    def spec(self) -> str:
        """The sources' specs."""
        return ", ".join(source.spec for source in self.sources)

    @property
    def on_bad_row(self) -> OnBadRow:
        """Whether rows that cannot be used are an error, or are left out."""
        return self.sources[0].on_bad_row


def read_source(
    source: DataSource | Mixture, folder: Path, *, turns: bool = True, stages: Stages = unseen
) -> tuple[Normalised, Faults]:
    """Read a data set.

    Args:
        source: the data set, or several.
        folder: where relative paths start.
        turns: whether plain-text transcripts become conversations, as a chat template needs.
        stages: shows how much of each data set is read.

    Returns:
        The data set as pairs or labelled answers, and the rows that were left out. Rows of several data sets are
        numbered through.

    Raises:
        UserError: the data cannot be read, no schema fits it, rows are refused, or some data sets have pairs and others
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
    """Read one data set; of a large one, no more than a part is in memory at a time.

    Raises:
        UserError: as `read_source`.
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
    if len(first) == AT_ONCE and schema.gather is not None:  # rows that belong together may be far apart
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
            f"{source.spec}: rows asks for {source.rows:,}, and it has {len(part.rows):,}; lower or remove it"
        )
    return replace(conclude(part, schema, source.spec, faults, turns=turns), folded=tuple(folded.values()))


def _part(rows: Iterator[Row], before: int, source: DataSource, position: Position, report: Report) -> list[Row]:
    """Return the next rows, and report how much of the data set was read."""
    part = list(islice(rows, AT_ONCE))
    read = before + len(part)
    if len(part) == AT_ONCE:
        total, share = position.total(read), position.share
        report(read, min(total, source.rows or total), "" if share is None else f"{share:.0%} of the file")
    return part


def _spooled(part: ReadRows) -> ReadRows:
    """Return the beginning of a data set that is larger than what is held in memory."""
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
    """Return several data sets as one, whose rows are numbered through."""
    kinds = [isinstance(data.examples[0], Pair) for data, _ in read]
    if len(set(kinds)) > 1:
        pairs, single = (mixture.sources[kinds.index(kind)].spec for kind in (True, False))
        raise UserError(f"{pairs} has pairs, and {single} single labelled answers; one training takes one kind of them")
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
    """Return examples whose rows are numbered from `first` on."""
    return changed(examples, lambda e: replace(e, row=e.row + first)) if first else examples
