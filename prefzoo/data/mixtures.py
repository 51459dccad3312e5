"""Several data sets as one: which rows are whose, and how many rows of each source training sees in an epoch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from prefzoo.data.tokens import TokenExample
from prefzoo.errors import UserError


@dataclass(frozen=True)
class Part:
    """The rows of one source within a data set of several.

    Attributes:
        name: the source's, in metrics and tables.
        spec: its path or hub id.
        schema: what its rows were recognised as, in words.
        first: index of its first row in the whole.
        rows: how many rows it has.
        weight: its share of the mixture in relation to the others' weights; None where all rows count alike.
    """

    name: str
    spec: str
    schema: str
    first: int
    rows: int
    weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class SourceCounts(Part):
    """What training sees of one source.

    Attributes:
        kept: how many of its rows are used.
        drawn: how many rows of an epoch are its own; more than `kept` where it is repeated.
        share: of the epoch's rows.
        tokens: of its used rows, a prompt counted once for its answers.
    """

    kept: int
    drawn: int
    share: float
    tokens: int

    @property
    def words(self) -> str:
        """How often its rows are seen in an epoch, in words."""
        times, more = divmod(self.drawn, self.kept)
        if not times:
            return f"{self.drawn:,} of its rows, the others in later epochs"
        if not more:
            return "each row once" if times == 1 else f"repeated: each row {times} times"
        return f"repeated: each row {times} or {times + 1} times"


@dataclass(frozen=True)
class Origins:
    """The sources of a data set of several; row `i` of the whole belongs to the last one whose first row is not after.

    Attributes:
        parts: the sources, in order; at least two.
    """

    parts: Sequence[Part]

    @cached_property
    def _firsts(self) -> list[int]:
        return [part.first for part in self.parts]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sources."""
        return tuple(part.name for part in self.parts)

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights of the sources; empty where all rows count alike."""
        return tuple(part.weight for part in self.parts if part.weight is not None)

    def number(self, row: int) -> int:
        """Return the number of a row's source, from 0."""
        return bisect_right(self._firsts, row) - 1

    def place(self, row: int) -> str:
        """Return where a row of the whole stands, like `b.jsonl: row 3`."""
        part = self.parts[self.number(row)]
        return f"{part.spec}: row {row - part.first + 1}"

    def members(self, examples: Sequence[TokenExample]) -> list[list[int]]:
        """Return for each source the indices of its rows among some examples."""
        indices: list[list[int]] = [[] for _ in self.parts]
        for i, example in enumerate(examples):
            indices[self.number(example.row)].append(i)
        return indices

    def counts(self, examples: Iterable[TokenExample]) -> list[SourceCounts]:
        """Count what training sees of each source.

        Args:
            examples: the rows that are used.

        Returns:
            The counts of each source, in order.

        Raises:
            UserError: nothing is left of a source.
        """
        kept, tokens = [0] * len(self.parts), [0] * len(self.parts)
        for example in examples:
            number = self.number(example.row)
            kept[number] += 1
            tokens[number] += example.total_tokens
        lost = [part for part, count in zip(self.parts, kept, strict=True) if not count]
        if lost:
            raise UserError(f"{one.spec}: none of its {one.rows:,} rows is left; remove the source" for one in lost)
        drawn = quotas(self.weights, sum(kept)) if self.weights else kept
        return [
            SourceCounts(**asdict(p), kept=k, drawn=d, share=d / sum(drawn), tokens=t)
            for p, k, d, t in zip(self.parts, kept, drawn, tokens, strict=True)
        ]


def quotas(weights: Sequence[float], size: int) -> list[int]:
    """Divide the rows of an epoch among sources by their weights, none of which goes empty.

    Args:
        weights: one for each source, greater than 0.
        size: rows of an epoch: those of all sources together.

    Returns:
        Rows of each source, which add up to `size`; the largest remainders are rounded up.
    """
    total = sum(weights)
    exact = [size * weight / total for weight in weights]
    rows = [max(1, int(share)) for share in exact]
    by_remainder = sorted(range(len(rows)), key=lambda i: rows[i] - exact[i])
    for i in by_remainder[: max(0, size - sum(rows))]:
        rows[i] += 1
    rows[max(range(len(rows)), key=rows.__getitem__)] += size - sum(rows)
    return rows
