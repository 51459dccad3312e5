"""Statistics of a data set, and of what is lost on the way to token ids: `prefzoo data recipe.yaml`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from prefzoo.data.examples import Example, Pair, Text
from prefzoo.data.faults import Faults
from prefzoo.data.reading import DataSource, read_source
from prefzoo.data.schemas import Normalised
from prefzoo.data.tokenising import tokenise
from prefzoo.data.tokens import TokenAnswer, TokenExample, Tokenised, TokenPair, TooLong
from prefzoo.runtime.progress import Report

STYLES = {"prompt": "dim", "chosen": "green", "rejected": "red", "desirable": "green", "undesirable": "red"}


@dataclass(frozen=True)
class Lengths:
    """Tokens per answer over `n` answers, EOS included; all zero without any.

    Attributes:
        p95: the 95th percentile, by nearest rank.
    """

    n: int
    mean: float
    median: float
    p95: int
    longest: int


@dataclass(frozen=True)
class Audit:
    """Statistics of one data set.

    Attributes:
        spec: name of the data set.
        schema: its schema in words.
        unused: columns that hold text and are not read.
        single: whether it has single labelled answers; then `chosen` are the desirable and `rejected` the undesirable
            ones.
        rows, kept: number of rows in the file, and of those that training sees.
        chosen, rejected: lengths of the kept answers.
        chosen_longer, rejected_longer: the share of kept pairs in which that answer has more tokens; 0 without pairs.
        duplicates: number of rows that repeat an earlier prompt with its answers.
        repeated_prompts: number of rows that repeat an earlier prompt, whatever the answers.
        ties: number of rows with two equal scores; None without scores.
        counts: number of rows dropped or changed, by reason.
        example: (part, text of one token) of the first kept pair, or of the first answer of each label. Every token of
            an answer is scored.
    """

    spec: str
    schema: str
    unused: tuple[str, ...]
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
    source: DataSource,
    folder: Path,
    tokenizer: Any,
    max_length: int,
    too_long: TooLong,
    report: Report | None = None,
) -> Audit:
    """Read, normalise and tokenise a data set as training does, and take its statistics.

    Args:
        source, folder: the data set, as for `read_source`.
        tokenizer, max_length, too_long, report: as for `tokenise`.

    Returns:
        The statistics.

    Raises:
        UserError: as `read_source` and `tokenise`.
    """
    data, faults = read_source(source, folder, turns=bool(tokenizer.chat_template))
    tokenised = tokenise(data.examples, tokenizer, max_length, too_long, source.spec, report, faults=faults)
    return summarise(source.spec, data, with_all_counts(tokenised, data, faults), tokenizer)


def with_all_counts(tokenised: Tokenised[TokenExample], data: Normalised, faults: Faults) -> Tokenised[TokenExample]:
    """Return token ids with a count of everything that was changed or dropped from the file on.

    Args:
        tokenised: with the counts of tokenising alone.
        data: as it was read.
        faults: the rows that were left out.

    Returns:
        The same examples, with all counts.
    """
    return replace(tokenised, counts=data.counts + faults.counts() + tokenised.counts)


def summarise(spec: str, data: Normalised, tokenised: Tokenised[TokenExample], tokenizer: Any) -> Audit:
    """Take the statistics of a data set that has been read.

    Args:
        spec: name of the data set.
        data: as it was read.
        tokenised: the examples as token ids.
        tokenizer: the tokenizer, to show an example.

    Returns:
        The statistics.
    """
    kept = tokenised.examples
    good, bad = _sides(kept)
    pairs = [p for p in kept if isinstance(p, TokenPair)]
    return Audit(
        spec=spec,
        schema=data.words,
        unused=data.unused,
        single=isinstance(kept[0], TokenAnswer),
        rows=len(data.rows),
        kept=len(kept),
        chosen=_lengths(good),
        rejected=_lengths(bad),
        chosen_longer=_share(len(p.chosen) > len(p.rejected) for p in pairs),
        rejected_longer=_share(len(p.rejected) > len(p.chosen) for p in pairs),
        duplicates=_repeats(_key(*_texts(e)) for e in data.examples),
        repeated_prompts=_repeats(_key(e.prompt) for e in data.examples),
        ties=_ties(data.examples),
        counts=dict(tokenised.counts),
        example=_example(tokenizer, kept),
    )


def training_data_lines(examples: Sequence[TokenExample]) -> list[str]:
    """Return lines on the training data: the number of examples, the lengths of answers, and repeated prompts."""
    single = isinstance(examples[0], TokenAnswer)
    good, bad = map(_lengths, _sides(examples))
    names = ("desirable", "undesirable") if single else ("chosen", "rejected")
    lines = [f"{good.n} {names[0]} and {bad.n} {names[1]} answers" if single else f"{good.n} pairs"]
    lines += [
        f"{name} answers: mean {side.mean:.1f}, median {side.median:g}, longest {side.longest} tokens"
        for name, side in zip(names, (good, bad), strict=True)
        if side.n
    ]
    if not single:
        share = _share(len(p.chosen) > len(p.rejected) for p in examples if isinstance(p, TokenPair))
        lines.append(f"the chosen answer is the longer one in {share:.0%} of the pairs")
    repeated = _repeats(tuple(e.prompt) for e in examples)
    return [*lines, f"{repeated} rows with a prompt seen before"]


def render(result: Audit, console: Console) -> None:
    """Print an audit; markup in the data is printed as it is."""
    good, bad = ("desirable", "undesirable") if result.single else ("chosen", "rejected")
    labels = f" ({result.chosen.n} {good}, {result.rejected.n} {bad})" if result.single else ""
    console.print(Styled(f"{result.spec}: {result.schema}, {result.rows} rows, {result.kept} kept{labels}"))
    example = Styled()
    for part, token in result.example:
        example.append(token, style=STYLES[part])
    first = "first answer of each label: " if result.single else "first pair: "
    legend = Styled(first).append("prompt", "dim").append(", ").append(good, "green")
    console.print(legend.append(", ").append(bad, "red").append(" (all tokens in colour are scored)"))
    console.print(example)
    console.print(_table(result, good, bad))
    if result.single and not (result.chosen.n and result.rejected.n):
        console.print(f"every answer is {good if result.chosen.n else bad}: there is nothing to tell it from")
    console.print(
        Styled(f"duplicates: {result.duplicates} · rows with a prompt seen before: {result.repeated_prompts}")
    )
    if not result.single:
        ties = "no scores in the rows" if result.ties is None else str(result.ties)
        console.print(Styled(f"ties (equal scores): {ties}"))
    for reason, count in sorted(result.counts.items()):
        console.print(Styled(f"{reason}: {count}"))
    if not result.counts:
        console.print("nothing dropped, cut or changed")


def _table(result: Audit, good: str, bad: str) -> Table:
    """Return the lengths by side, with the number of answers, or the share of pairs in which the side is longer."""
    table = Table(
        "answer tokens", "mean", "median", "p95", "longest", "answers" if result.single else "longer of the pair"
    )
    sides = ((good, result.chosen, result.chosen_longer), (bad, result.rejected, result.rejected_longer))
    for name, side, share in sides:
        last = str(side.n) if result.single else f"{share:.0%}"
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


def _ties(examples: Sequence[Example]) -> int | None:
    scores = [e.scores for e in examples if isinstance(e, Pair) and e.scores is not None]
    return sum(chosen == rejected for chosen, rejected in scores) if scores else None


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
