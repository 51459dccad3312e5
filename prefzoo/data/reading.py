"""Read a data set as a recipe describes it: its rows, then pairs or labelled answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prefzoo.data.faults import Faults, OnBadRow
from prefzoo.data.schemas import Normalised, read_examples
from prefzoo.data.sources import load_file


@dataclass(frozen=True)
class DataSource:
    """A data set, and how its rows are read.

    Attributes:
        spec: a path, `package://module/path`, or a hub id.
        columns: the name that a schema has for a column -> the file's.
        form: name of the schema; None to detect it.
        on_bad_row: whether rows that cannot be used are an error, or are left out.
    """

    spec: str
    columns: Mapping[str, str] = field(default_factory=dict)
    form: str | None = None
    on_bad_row: OnBadRow = "error"


def read_source(source: DataSource, folder: Path, *, turns: bool = True) -> tuple[Normalised, Faults]:
    """Read a data set.

    Args:
        source: the data set.
        folder: where relative paths start.
        turns: whether plain-text transcripts become conversations, as a chat template needs.

    Returns:
        The data set as pairs or labelled answers, and the rows that were left out.

    Raises:
        UserError: the data cannot be had, no schema fits it, or rows are refused.
    """
    faults = Faults(source.spec, source.on_bad_row)
    rows = load_file(source.spec, folder, faults)
    data = read_examples(rows, source.spec, source.columns, form=source.form, turns=turns, faults=faults)
    return data, faults
