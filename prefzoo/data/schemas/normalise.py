"""Rows to pairs or labelled answers, by the schema that fits them."""

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
    """A data set as it was read.

    Attributes:
        rows: as the file has them, with the columns of their schema.
        examples: pairs or labelled answers, one for each row that is used.
        schema: the name of the schema.
        unused: columns that hold text and are not read.
        counts: how many rows were changed or skipped on the way, by reason.
        origins: which rows are of which source; None where there is one source.
        folded: columns of the file that were read under the lower-case name of a schema, like `Prompt`.
        rated: whether rows have several rated answers, of which pairs were made.
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
        """Return where a row stands, like `b.jsonl: row 3`; `spec` names the data set where there is one source."""
        return f"{spec}: row {row + 1}" if self.origins is None else self.origins.place(row)

    @property
    def words(self) -> str:
        """What was recognised, in words: the schema, the kind of text, and the columns that are not used."""
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
        rows: of one data set; their columns and values decide which schema they have.
        spec: name of the data set, for messages.
        columns: the schema's name of a column -> the file's.
        form: name of the schema, if it is not to be detected.
        turns: whether plain-text transcripts become conversations, as a chat template needs.
        faults: takes the rows that are refused; by default they are errors.
        pairs: which pairs are made of several rated answers to a prompt.

    Returns:
        The examples, with the schema that was recognised and all that was changed.

    Raises:
        UserError: no schema fits, or several do; columns are missing; rows are refused (a line `spec: row n: ...`, rows
            from 1, for each of the first few, and a count); or no row is left.
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
    """Some rows of a data set as they were read.

    Attributes:
        rows: with the columns of their schema.
        examples: one for each row that is used.
        counts: how many rows were changed or skipped, by reason.
        unused: columns that hold text and are not read, in the order of the file.
        rated: whether rows have several rated answers.
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
        schema: of the whole.
        rows: those to turn.
        spec: name of the data set, for messages.
        columns: the schema's name of a column -> the file's.
        faults: takes the rows that are refused.
        start: index of the first of them in the data set.
        pairs: which pairs are made of several rated answers to a prompt.
        judged: whether a judge compares the answers, as of a `DataSource`.

    Returns:
        The rows and the examples, of which none may be left.

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
    """Check a data set that was read to its end.

    Args:
        part: all of it.
        schema: of its rows.
        spec: name of the data set, for messages.
        faults: the rows that were refused.
        turns: whether a chat template writes its prompts.

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
        rows: of one data set.
        spec: name of the data set, for messages.
        form: name of the schema, if it is not to be detected.

    Returns:
        An example for each row, in order.

    Raises:
        UserError: as `read_examples`.
    """
    return read_examples(rows, spec, form=form).examples


def _as_list(rows: Iterable[Any], spec: str) -> list[Row]:
    """Return rows as a list.

    Raises:
        UserError: there are none, or they are no mappings.
    """
    listed: list[Any] = [rows] if isinstance(rows, Mapping) else list(rows)
    if not listed or isinstance(rows, Mapping):
        fault = "rows is one mapping, not a list of them" if listed else "no rows; at least one is needed"
        raise UserError(f"{spec}: {fault}")
    number = next((n for n, row in enumerate(listed, 1) if not isinstance(row, Mapping)), 0)
    if number:
        raise UserError(
            f"{spec}: row {number} is {type(listed[number - 1]).__name__}, not a mapping of columns; of a data frame "
            'take df.to_dict("records")'
        )
    return listed


def describe(rows: Sequence[Row], spec: str = "data") -> str:
    """Return the schema of rows in words, with the kind of text that they hold."""
    return read_examples(rows, spec).words


def _alike(examples: Sequence[Example], schema: Schema, spec: str) -> Any:
    if len({isinstance(example, Pair) for example in examples}) > 1:
        raise UserError(f"{spec}: schema {schema.name!r} makes pairs of some rows and single answers of others; fix it")
    return examples


def _built(schema: Schema, row: Row, index: int, which: Pairs, *, judged: bool) -> tuple[list[Example], bool]:
    """Return the examples that a schema makes of a row, and whether they are of several rated answers.

    Raises:
        SkipRow: the row holds no preference; for a judge a tie is none, unless both answers are the same.
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
    """Return what a schema makes of a row.

    Raises:
        SkipRow: the row holds no preference.
        UserError: the row is refused, or the schema fails on it.
    """
    try:
        given = schema.normalise({**dict.fromkeys(schema.columns), **row}, index)
    except (UserError, SkipRow):
        raise
    except RAISED as e:  # a plug-in's own error: the user needs to know whose, and at which row
        raise UserError(f"schema {schema.name!r} fails: {describe_error(e)}; fix the schema, or the row") from e
    if not isinstance(given, Pair | LabelledAnswer | RatedAnswers):
        raise UserError(f"schema {schema.name!r} gives {type(given).__name__}, not a Pair or a LabelledAnswer; fix it")
    media = next((name for name in MEDIA_COLUMNS if row.get(name)), "")
    if media:
        raise UserError(f"the row has {media}, and only text can be trained on; remove the column or the row")
    return given


def _completed(example: Example, row: Row, *, empty: bool) -> Example:
    """Return an example with its row's tools and variables of the chat template, checked.

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
