"""What a data set holds, and what is lost on the way to token ids: `prefzoo data recipe.yaml`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from prefzoo.data.schemas import Text, normalise, schema
from prefzoo.data.sources import Row, read_rows
from prefzoo.data.tokens import TokenPair, TooLong, tokenise
from prefzoo.progress import Report

STYLES = {"prompt": "dim", "chosen": "green", "rejected": "red"}


@dataclass(frozen=True)
class Lengths:
    """Tokens of one side's answers, EOS included; `p95` is the nearest rank."""

    mean: float
    median: float
    p95: int
    longest: int


@dataclass(frozen=True)
class Audit:
    """One data set, counted.

    Attributes:
        rows, kept: pairs in the file, and pairs that training sees.
        chosen, rejected: lengths of the kept answers; `chosen_longer`, `rejected_longer`: shares of the kept pairs.
        duplicates: rows that repeat an earlier prompt with both its answers.
        repeated_prompts: rows that repeat an earlier prompt, whatever the answers.
        ties: rows whose two scores are equal; None where the rows carry no scores.
        counts: what was dropped or changed, and how often.
        example: (part, token text) of the first kept pair; every token of chosen and rejected is scored.
    """

    spec: str
    schema: str
    rows: int
    kept: int
    chosen: Lengths
    rejected: Lengths
    chosen_longer: float
    rejected_longer: float
    duplicates: int
    repeated_prompts: int
    ties: int | None
    counts: dict[str, int]
    example: tuple[tuple[str, str], ...]


def audit(
    spec: str,
    folder: Path,
    columns: Mapping[str, str],
    tokenizer: Any,
    max_length: int,
    too_long: TooLong,
    report: Report | None = None,
) -> Audit:
    """Read, normalise and tokenise a data set just as training does, and count.

    Raises:
        UserError: as `read_rows`, `normalise` and `tokenise`.
    """
    rows = read_rows(spec, folder, columns)
    pairs = normalise(rows, spec)
    done = tokenise(pairs, tokenizer, max_length, too_long, spec, report)
    kept = done.pairs
    return Audit(
        spec=spec,
        schema=schema(rows),
        rows=len(rows),
        kept=len(kept),
        chosen=_lengths([len(p.chosen) for p in kept]),
        rejected=_lengths([len(p.rejected) for p in kept]),
        chosen_longer=statistics.fmean(len(p.chosen) > len(p.rejected) for p in kept),
        rejected_longer=statistics.fmean(len(p.rejected) > len(p.chosen) for p in kept),
        duplicates=_repeats(_key(p.prompt, p.chosen, p.rejected) for p in pairs),
        repeated_prompts=_repeats(_key(p.prompt) for p in pairs),
        ties=_ties(rows),
        counts=dict(done.counts),
        example=_example(tokenizer, kept[0]),
    )


def render(found: Audit, console: Console) -> None:
    """Print an audit. Text from the data is never read as markup."""
    console.print(Styled(f"{found.spec}: {found.schema}, {found.rows} rows, {found.kept} kept"))
    example = Styled()
    for part, token in found.example:
        example.append(token, style=STYLES[part])
    legend = Styled("first pair: ").append("prompt", "dim").append(", ").append("chosen", "green")
    console.print(legend.append(", ").append("rejected", "red").append(" (all tokens in colour are scored)"))
    console.print(example)
    table = Table("answer tokens", "mean", "median", "p95", "longest", "longer of the pair")
    for name, side, share in (
        ("chosen", found.chosen, found.chosen_longer),
        ("rejected", found.rejected, found.rejected_longer),
    ):
        table.add_row(name, f"{side.mean:.1f}", f"{side.median:g}", str(side.p95), str(side.longest), f"{share:.0%}")
    console.print(table)
    ties = "no scores in the rows" if found.ties is None else str(found.ties)
    console.print(Styled(f"duplicates: {found.duplicates} · rows with a prompt seen before: {found.repeated_prompts}"))
    console.print(Styled(f"ties (equal scores): {ties}"))
    for reason, count in sorted(found.counts.items()):
        console.print(Styled(f"{reason}: {count}"))
    if not found.counts:
        console.print("nothing dropped, cut or changed")


def _lengths(tokens: Sequence[int]) -> Lengths:
    ordered = sorted(tokens)
    rank = -(-95 * len(ordered) // 100)  # ceil(0.95 n), without rounding errors
    return Lengths(statistics.fmean(ordered), statistics.median(ordered), ordered[rank - 1], ordered[-1])


def _key(*parts: Text) -> str:
    return json.dumps(parts, sort_keys=True)


def _repeats(keys: Iterable[Hashable]) -> int:
    listed = list(keys)
    return len(listed) - len(set(listed))


def _ties(rows: Sequence[Row]) -> int | None:
    scored = [r for r in rows if r.get("score_chosen") is not None and r.get("score_rejected") is not None]
    return sum(r["score_chosen"] == r["score_rejected"] for r in scored) if scored else None


def _example(tokenizer: Any, pair: TokenPair) -> tuple[tuple[str, str], ...]:
    """Parts and their token texts; a line break stands between the parts."""
    shown: list[tuple[str, str]] = []
    for part, ids in (("prompt", pair.prompt), ("chosen", pair.chosen), ("rejected", pair.rejected)):
        shown += [(part, tokenizer.decode([i])) for i in ids] + [(part, "\n")]
    return tuple(shown)
