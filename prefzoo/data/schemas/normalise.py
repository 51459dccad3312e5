"""Turn rows into pairs or labelled answers with the schema that fits them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prefzoo.data.examples import Example, LabelledAnswer, Pair
from prefzoo.data.faults import Faults
from prefzoo.data.mixtures import Origins
from prefzoo.data.rows import Row
from prefzoo.data.schemas.build import read_template, read_tools
from prefzoo.data.schemas.checks import check_example
from prefzoo.data.schemas.columns import fold_columns, renamed, settle, unused_columns
from prefzoo.data.schemas.messages import read_text
from prefzoo.data.schemas.notes import SkipRow, TiedRow, counted, note
from prefzoo.data.schemas.rankings import FromRow, Pairs, RatedAnswers
from prefzoo.data.schemas.registry import Schema
from prefzoo.data.schemas.shared_prompt import prompt_cure
from prefzoo.errors import UserError
from prefzoo.runtime.plugins import RAISED, describe_error

EMPTY = "with an empty prompt"
SAME = "a tie of two answers that are the same, of which there is nothing to judge"
MEDIA_COLUMNS = ("images", "videos", "audios", "image", "video", "audio")


@dataclass(frozen=True)
class Normalised:
    """A data set as pairs or labelled answers.

    Attributes:
        rows: the rows of the file, with the columns of their schema.
        examples: the pairs or labelled answers; their `row` is an index into `rows`. Skipped rows have none, and a row
            with several rated answers may have several.
        schema: the name of the schema.
        unused: columns that hold text and are not read.
        counts: number of rows that were changed or skipped, by reason.
        origins: the sources of a mixture; None if there is one source.
        folded: columns of the file that were read by their lower-case names, like `Prompt`.
        rated: whether pairs were built from several rated answers.
    """

    rows: Sequence[Row]
    examples: Sequence[Pair] | Sequence[LabelledAnswer]
    schema: str
    unused: tuple[str, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    origins: Origins | None = None
    folded: tuple[str, ...] = ()
    rated: bool = False

    def place(self, spec: str, row: int) -> str:
        """Return the data set and number of a row, like `b.jsonl: row 3`; `spec` is used if there is one source."""
        return f"{spec}: row {row + 1}" if self.origins is None else self.origins.place(row)

    @property
    def words(self) -> str:
        """A description for users: the schema, the kind of text, and the columns that are not used."""
        kinds = {type(e.chosen if isinstance(e, Pair) else e.completion) for e in self.examples}
        text = {frozenset({str}): "plain strings", frozenset({list}): "conversational"}.get(
            frozenset(kinds), "plain strings and conversations"
        )
        columns = f"; columns not used: {', '.join(self.unused)}" if self.unused else ""
        folded = f"; read in lower case: {', '.join(self.folded)}" if self.folded else ""
        return f"{self.schema}, {text}{folded}{columns}"


def read_examples(
    rows: Sequence[Row], spec: str, columns: Mapping[str, str] | None = None, *, form: str | None = None,
    turns: bool = True, faults: Faults | None = None, pairs: Pairs = "best_worst",
) -> Normalised:  # fmt: skip
    """Turn rows into pairs with an explicit prompt, or into labelled answers.

    Args:
        rows: the rows of one data set.
        spec: name of the data set, for messages.
        columns: the schema's name of a column -> the file's name of it.
        form: the name of the schema; detected from columns and values if None.
        turns: whether to split plain-text transcripts into messages, which a chat template needs.
        faults: collects the rows that are refused; if None, such rows raise an error.
        pairs: which pairs to build from several rated answers to a prompt.

    Returns:
        The examples, with the name of their schema and counts of changed and skipped rows.

    Raises:
        UserError: no schema fits, or several do; columns are missing; rows are refused (a line `spec: row n: ...`, with
            n from 1, for each of the first few, and a count); or no row is left.
    """
    faults = Faults(spec) if faults is None else faults
    rows = _as_list(rows, spec)
    mapped = dict(columns or {})
    folded = fold_columns(rows, spec, mapped, form, turns=turns)
    mapped |= folded
    schema = settle(rows, spec, mapped, form, turns=turns)
    part = read_part(schema, rows, spec, mapped, faults, pairs=pairs)
    return replace(conclude(part, schema, spec, faults, turns=turns), folded=tuple(folded.values()))


@dataclass
class ReadRows:
    """Consecutive rows of a data set and their examples.

    Attributes:
        rows, examples, counts, rated: see `Normalised`.
        unused: columns that hold text and are not read, in the order of the file; the values are None.
    """

    rows: Sequence[Row]
    examples: Sequence[Example]
    counts: Counter[str]
    unused: dict[str, None]
    rated: bool = False


def read_part(
    schema: Schema, rows: Sequence[Row], spec: str, columns: Mapping[str, str], faults: Faults, start: int = 0,
    pairs: Pairs = "best_worst", *, judged: bool = False,
) -> ReadRows:  # fmt: skip
    """Turn some rows of a data set into pairs or labelled answers.

    Args:
        schema: the schema of the data set.
        rows: consecutive rows of the data set.
        spec: name of the data set, for messages.
        columns: the schema's name of a column -> the file's name of it.
        faults: collects the rows that are refused.
        start: index of the first of `rows` in the data set.
        pairs: which pairs to build from several rated answers to a prompt.
        judged: whether a judge will compare the answers; see `DataSource`.

    Returns:
        The rows and their examples, which may be empty.

    Raises:
        UserError: columns are missing.
    """
    named = renamed(rows, spec, columns, schema)
    examples: list[Example] = []
    counts: Counter[str] = Counter()
    rated = False
    with counted(counts):
        for index, row in schema.gather(named) if schema.gather else enumerate(named):
            try:
                built, several = _built(schema, row, start + index, pairs, judged=judged)
                rated |= several
                examples += [_completed(example, row, empty=judged) for example in built]
            except SkipRow as e:
                counts[f"skipped: {e}"] += 1
            except UserError as e:
                for line in e.lines:
                    faults.add(f"{spec}: row {start + index + 1}", line, rows[index])
    return ReadRows(named, examples, counts, dict.fromkeys(unused_columns(rows, schema, columns)), rated)


def conclude(part: ReadRows, schema: Schema, spec: str, faults: Faults, *, turns: bool) -> Normalised:
    """Check a data set after all its rows were read.

    Args:
        part: all rows and examples.
        schema: the schema of the rows.
        spec: name of the data set, for messages.
        faults: the rows that were refused.
        turns: whether prompts are rendered with a chat template, so that they must not all be empty.

    Returns:
        The data set.

    Raises:
        UserError: rows are refused, or no row is left, or all prompts are empty, or some rows are pairs and others
            single answers.
    """
    rows, examples, counts = part.rows, part.examples, part.counts
    faults.settle(len(rows))
    if not examples:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in (counts + faults.counts()).items())
        raise UserError(f"{spec}: no row is left of {len(rows):,} ({reasons}); fix the rows, or name the data.format")
    if turns and counts[EMPTY] == len(examples):
        raise UserError(f"{spec}: every prompt is empty; {prompt_cure(rows[0])}")
    alike = _alike(examples, schema, spec)
    return Normalised(rows, alike, schema.name, tuple(part.unused), counts, rated=part.rated)


def normalise(rows: Sequence[Row], spec: str, form: str | None = None) -> Sequence[Pair] | Sequence[LabelledAnswer]:
    """Turn rows into pairs with an explicit prompt, or into labelled answers.

    Args:
        rows: the rows of one data set.
        spec: name of the data set, for messages.
        form: the name of the schema; detected from columns and values if None.

    Returns:
        The examples, in the order of the rows. Rows without a preference, such as ties, are skipped.

    Raises:
        UserError: see `read_examples`.
    """
    return read_examples(rows, spec, form=form).examples


def _as_list(rows: Iterable[Any], spec: str) -> list[Row]:
    """Return rows as a list.

    Raises:
        UserError: there are no rows, or one of them is not a mapping.
    """
    listed: list[Any] = [rows] if isinstance(rows, Mapping) else list(rows)
    if not listed or isinstance(rows, Mapping):
        fault = "rows is one mapping, not a list of them" if listed else "no rows; at least one is needed"
        raise UserError(f"{spec}: {fault}")
    number = next((n for n, row in enumerate(listed, 1) if not isinstance(row, Mapping)), 0)
    if number:
        raise UserError(
            f"{spec}: row {number} is {type(listed[number - 1]).__name__}, not a mapping of columns; for a data frame, "
            'pass df.to_dict("records")'
        )
    return listed


def describe(rows: Sequence[Row], spec: str = "data") -> str:
    """Describe rows for users: their schema, the kind of text, and the columns that are not used."""
    return read_examples(rows, spec).words


def _alike(examples: Sequence[Example], schema: Schema, spec: str) -> Any:
    if len({isinstance(example, Pair) for example in examples}) > 1:
        raise UserError(f"{spec}: schema {schema.name!r} makes pairs of some rows and single answers of others; fix it")
    return examples


def _built(schema: Schema, row: Row, index: int, which: Pairs, *, judged: bool) -> tuple[list[Example], bool]:
    """Return the examples of a row, and whether they are from several rated answers.

    Raises:
        SkipRow: the row has no preference. If `judged`, a tie raises only if both answers are the same.
        UserError: the row is refused, or the schema fails on it.
    """
    try:
        given = _normalised(schema, row, index)
        return ([*given.pairs(which)], True) if isinstance(given, RatedAnswers) else ([given], False)
    except TiedRow as e:
        if not judged:
            raise
        tie: Pair = replace(e.build(), scores=(0.0, 0.0))
    if tie.chosen == tie.rejected:
        raise SkipRow(SAME)
    return [tie], False


def _normalised(schema: Schema, row: Row, index: int) -> FromRow:
    """Apply a schema to a row.

    Raises:
        SkipRow: the row has no preference.
        UserError: the row is refused, or the schema fails on it.
    """
    try:
        given = schema.normalise({**dict.fromkeys(schema.columns), **row}, index)
    except (UserError, SkipRow):
        raise
    except RAISED as e:  # a plug-in's error: tell the user which schema and row it is from
        raise UserError(f"schema {schema.name!r} fails: {describe_error(e)}; fix the schema, or the row") from e
    if not isinstance(given, Pair | LabelledAnswer | RatedAnswers):
        raise UserError(f"schema {schema.name!r} gives {type(given).__name__}, not a Pair or a LabelledAnswer; fix it")
    media = next((name for name in MEDIA_COLUMNS if row.get(name)), "")
    if media:
        raise UserError(f"the row has {media}, and only text can be trained on; remove the column or the row")
    return given


def _completed(example: Example, row: Row, *, empty: bool) -> Example:
    """Add a row's tools and chat template variables to its example, and check the example.

    Raises:
        UserError: the row is refused.
    """
    names = ("prompt", "chosen", "rejected") if isinstance(example, Pair) else ("prompt", "completion")
    example = replace(
        example,
        **{name: read_text(getattr(example, name)) for name in names},
        tools=example.tools or read_tools(row),
        template=example.template or read_template(row),
    )
    check_example(example, empty=empty)
    if not example.prompt or (isinstance(example.prompt, str) and not example.prompt.strip()):
        note(EMPTY)
    return example
