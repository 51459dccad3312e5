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

from prefzoo.data.examples import Example, Pair, Text
from prefzoo.data.rows import Row
from prefzoo.data.schemas import describe, normalise
from prefzoo.data.sources import read_rows
from prefzoo.data.tokens import TokenAnswer, TokenExample, Tokenised, TokenPair, TooLong, tokenise
from prefzoo.runtime.progress import Report

STYLES = {"prompt": "dim", "chosen": "green", "rejected": "red", "desirable": "green", "undesirable": "red"}


@dataclass(frozen=True)
class Lengths:
    """Tokens of `n` answers of one side, EOS included; `p95` is the nearest rank. Without any answer all are zero."""

    n: int
    mean: float
    median: float
    p95: int
    longest: int


@dataclass(frozen=True)
class Audit:
    """One data set, counted.

    Attributes:
        single: whether the rows are single labelled answers; `chosen` are then the desirable ones, `rejected` the
            undesirable ones, and neither is the longer of a pair.
        rows, kept: rows in the file, and those that training sees.
        chosen, rejected: lengths of the kept answers; `chosen_longer`, `rejected_longer`: shares of the kept pairs.
        duplicates: rows that repeat an earlier prompt with its answer or answers.
        repeated_prompts: rows that repeat an earlier prompt, whatever the answers.
        ties: rows whose two scores are equal; None where the rows carry no scores.
        counts: what was dropped or changed, and how often.
        example: (part, token text) of the first kept pair, or of the first answer of each label; every token of an
            answer is scored.
    """

    spec: str
    schema: str
    single: bool
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
    return counted(spec, rows, pairs, tokenise(pairs, tokenizer, max_length, too_long, spec, report), tokenizer)


def counted(
    spec: str, rows: list[Row], pairs: Sequence[Example], done: Tokenised[TokenExample], tokenizer: Any
) -> Audit:
    """The audit of a data set that is already read: its rows, normalised and tokenised."""
    good, bad = _sides(done.pairs)
    both = [p for p in done.pairs if isinstance(p, TokenPair)]
    return Audit(
        spec=spec,
        schema=describe(rows, spec),
        single=isinstance(done.pairs[0], TokenAnswer),
        rows=len(rows),
        kept=len(done.pairs),
        chosen=_lengths(good),
        rejected=_lengths(bad),
        chosen_longer=_share(len(p.chosen) > len(p.rejected) for p in both),
        rejected_longer=_share(len(p.rejected) > len(p.chosen) for p in both),
        duplicates=_repeats(_key(*_texts(p)) for p in pairs),
        repeated_prompts=_repeats(_key(p.prompt) for p in pairs),
        ties=_ties(rows),
        counts=dict(done.counts),
        example=_example(tokenizer, done.pairs),
    )


def in_words(pairs: Sequence[TokenExample]) -> list[str]:
    """What training sees, a line each: how many rows, how long the answers, which of a pair is the longer."""
    single = isinstance(pairs[0], TokenAnswer)
    good, bad = map(_lengths, _sides(pairs))
    names = ("desirable", "undesirable") if single else ("chosen", "rejected")
    said = [f"{good.n} {names[0]} and {bad.n} {names[1]} answers" if single else f"{good.n} pairs"]
    said += [
        f"{name} answers: mean {side.mean:.1f}, median {side.median:g}, longest {side.longest} tokens"
        for name, side in zip(names, (good, bad), strict=True)
        if side.n
    ]
    if not single:
        share = _share(len(p.chosen) > len(p.rejected) for p in pairs if isinstance(p, TokenPair))
        said.append(f"the chosen answer is the longer one in {share:.0%} of the pairs")
    repeated = _repeats(tuple(p.prompt) for p in pairs)
    return [*said, f"{repeated} rows with a prompt seen before"]


def render(found: Audit, console: Console) -> None:
    """Print an audit. Text from the data is never read as markup."""
    good, bad = ("desirable", "undesirable") if found.single else ("chosen", "rejected")
    labels = f" ({found.chosen.n} {good}, {found.rejected.n} {bad})" if found.single else ""
    console.print(Styled(f"{found.spec}: {found.schema}, {found.rows} rows, {found.kept} kept{labels}"))
    example = Styled()
    for part, token in found.example:
        example.append(token, style=STYLES[part])
    first = "first answer of each label: " if found.single else "first pair: "
    legend = Styled(first).append("prompt", "dim").append(", ").append(good, "green")
    console.print(legend.append(", ").append(bad, "red").append(" (all tokens in colour are scored)"))
    console.print(example)
    console.print(_table(found, good, bad))
    if found.single and not (found.chosen.n and found.rejected.n):
        console.print(f"every answer is {good if found.chosen.n else bad}: there is nothing to tell it from")
    console.print(Styled(f"duplicates: {found.duplicates} · rows with a prompt seen before: {found.repeated_prompts}"))
    if not found.single:
        ties = "no scores in the rows" if found.ties is None else str(found.ties)
        console.print(Styled(f"ties (equal scores): {ties}"))
    for reason, count in sorted(found.counts.items()):
        console.print(Styled(f"{reason}: {count}"))
    if not found.counts:
        console.print("nothing dropped, cut or changed")


def _table(found: Audit, good: str, bad: str) -> Table:
    """Lengths by side; how many there are of each label, or which of a pair is the longer."""
    table = Table(
        "answer tokens", "mean", "median", "p95", "longest", "answers" if found.single else "longer of the pair"
    )
    sides = ((good, found.chosen, found.chosen_longer), (bad, found.rejected, found.rejected_longer))
    for name, side, share in sides:
        last = str(side.n) if found.single else f"{share:.0%}"
        numbers = (f"{side.mean:.1f}", f"{side.median:g}", str(side.p95), str(side.longest)) if side.n else ("-",) * 4
        table.add_row(name, *numbers, last)
    return table


def _sides(examples: Sequence[TokenExample]) -> tuple[list[list[int]], list[list[int]]]:
    """Return the good and the bad answers: chosen and rejected, or the desirable and the undesirable ones."""
    good = [e.answers[0] for e in examples if isinstance(e, TokenPair) or e.label]
    bad = [e.answers[-1] for e in examples if isinstance(e, TokenPair) or not e.label]
    return good, bad


def _share(flags: Iterable[bool]) -> float:
    """Return the share of true flags; 0 without any."""
    listed = list(flags)
    return sum(listed) / len(listed) if listed else 0.0


def _texts(example: Example) -> tuple[Text, ...]:
    answers = (example.chosen, example.rejected) if isinstance(example, Pair) else (example.completion,)
    return example.prompt, *answers


def _lengths(answers: Sequence[Sequence[int]]) -> Lengths:
    if not answers:
        return Lengths(0, 0.0, 0.0, 0, 0)
    ordered = sorted(len(answer) for answer in answers)
    rank = -(-95 * len(ordered) // 100)  # ceil(0.95 n), without rounding errors
    return Lengths(len(ordered), statistics.fmean(ordered), statistics.median(ordered), ordered[rank - 1], ordered[-1])


def _key(*parts: Text) -> str:
    return json.dumps(parts, sort_keys=True)


def _repeats(keys: Iterable[Hashable]) -> int:
    listed = list(keys)
    return len(listed) - len(set(listed))


def _ties(rows: Sequence[Row]) -> int | None:
    scored = [r for r in rows if r.get("score_chosen") is not None and r.get("score_rejected") is not None]
    return sum(r["score_chosen"] == r["score_rejected"] for r in scored) if scored else None


def _example(tokenizer: Any, kept: Sequence[TokenExample]) -> tuple[tuple[str, str], ...]:
    """Return (part, text of one token), with a line break after each part."""
    parts: list[tuple[str, list[int]]] = []
    if isinstance(first := kept[0], TokenPair):
        parts = [("prompt", first.prompt), ("chosen", first.chosen), ("rejected", first.rejected)]
    for name, label in (("desirable", True), ("undesirable", False)):
        answer = next((a for a in kept if isinstance(a, TokenAnswer) and a.label is label), None)
        parts += [("prompt", answer.prompt), (name, answer.completion)] if answer else []
    shown: list[tuple[str, str]] = []
    for part, ids in parts:
        shown += [(part, tokenizer.decode([i])) for i in ids] + [(part, "\n")]
    return tuple(shown)
