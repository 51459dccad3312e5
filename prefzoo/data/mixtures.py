"""Mix several data sets: find the source of each row, and divide an epoch among the sources."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from prefzoo.data.tokens import TokenExample
from prefzoo.errors import UserError


@dataclass(frozen=True)
class Part:
    """The rows of one source in a mixture.

    Attributes:
        name: the source's name in metrics and tables.
        spec: its path or hub id.
        schema: a description of its schema.
        first: index of its first row in the mixture.
        rows: its number of rows.
        weight: its weight, relative to the weights of the other sources; None if no source has a weight.
    """

    name: str
    spec: str
    schema: str
    first: int
    rows: int
    weight: float | None = None


@dataclass(frozen=True, kw_only=True)
class SourceCounts(Part):
    """How much of one source training sees.

    Attributes:
        kept: number of its examples that are used.
        drawn: number of examples in an epoch that come from it; more than `kept` if it is repeated.
        share: `drawn` divided by the number of examples in an epoch.
        tokens: number of tokens of its used examples; a prompt counts once per pair.
    """

    kept: int
    drawn: int
    share: float
    tokens: int

    @property
    def words(self) -> str:
        """A phrase that states how often its rows are seen in an epoch."""
        times, more = divmod(self.drawn, self.kept)
        if not times:
            return f"{self.drawn:,} of its rows, the others in later epochs"
        if not more:
            return "each row once" if times == 1 else f"repeated: each row {times} times"
        return f"repeated: each row {times} or {times + 1} times"


@dataclass(frozen=True)
class Origins:
    """The sources of a mixture. Row `i` belongs to the last source whose first row is at or before `i`.

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
        """The weights of the sources; empty if they have none."""
        return tuple(part.weight for part in self.parts if part.weight is not None)

    def number(self, row: int) -> int:
        """Return the index of the source that a row belongs to."""
        return bisect_right(self._firsts, row) - 1

    def place(self, row: int) -> str:
        """Return the source of a row and its number there, like `b.jsonl: row 3`."""
        part = self.parts[self.number(row)]
        return f"{part.spec}: row {row - part.first + 1}"

    def members(self, examples: Sequence[TokenExample]) -> list[list[int]]:
        """Return for each source the positions of its examples in `examples`."""
        indices: list[list[int]] = [[] for _ in self.parts]
        for i, example in enumerate(examples):
            indices[self.number(example.row)].append(i)
        return indices

    def counts(self, examples: Iterable[TokenExample]) -> list[SourceCounts]:
        """Count how much of each source training sees.

        Args:
            examples: the examples that are used.

        Returns:
            The counts of each source, in order.

        Raises:
            UserError: a source has no example that is used.
        """
        kept, tokens = [0] * len(self.parts), [0] * len(self.parts)
        for example in examples:
            number = self.number(example.row)
            kept[number] += 1
            tokens[number] += example.total_tokens
        lost = [part for part, count in zip(self.parts, kept, strict=True) if not count]
        if lost:
            raise UserError(f"{one.spec}: none of its {one.rows:,} rows can be used; remove the source" for one in lost)
        drawn = quotas(self.weights, sum(kept)) if self.weights else kept
        return [
            SourceCounts(**asdict(p), kept=k, drawn=d, share=d / sum(drawn), tokens=t)
            for p, k, d, t in zip(self.parts, kept, drawn, tokens, strict=True)
        ]


def quotas(weights: Sequence[float], size: int) -> list[int]:
    """Divide the rows of an epoch among sources in proportion to their weights, at least one row for each.

    Args:
        weights: the weight of each source, greater than 0.
        size: number of rows of an epoch: that of all sources together.

    Returns:
        The number of rows of each source. They add up to `size`: the largest remainders are rounded up.
    """
    total = sum(weights)
    exact = [size * weight / total for weight in weights]
    rows = [max(1, int(share)) for share in exact]
    by_remainder = sorted(range(len(rows)), key=lambda i: rows[i] - exact[i])
    for i in by_remainder[: max(0, size - sum(rows))]:
        rows[i] += 1
    rows[max(range(len(rows)), key=rows.__getitem__)] += size - sum(rows)
    return rows
