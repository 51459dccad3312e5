"""Statistics of a data set, and of what is lost on the way to token ids: `prefzoo data recipe.yaml`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefzoo.data.examples import Example, Pair, Text
from prefzoo.data.faults import Faults
from prefzoo.data.reading import DataSource, read_source
from prefzoo.data.roles import count_roles
from prefzoo.data.schemas import Normalised
from prefzoo.data.tokenising import ALL_TURNS, Reading, tokenise
from prefzoo.data.tokens import TokenAnswer, TokenExample, Tokenised, TokenPair, TooLong
from prefzoo.runtime.progress import Report

UNSCORED = ", not scored"


@dataclass(frozen=True)
class Lengths:
    """Scored tokens per answer over `n` answers, EOS included; all zero without any.

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
        roles: number of tokens by role (see `count_roles`); None where they were not counted.
        example: (part, text of one token) of the first kept pair, or of the first answer of each label. The part of a
            token in an answer that is not scored, because another than the assistant says it, ends with `UNSCORED`.
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
    roles: dict[str, int] | None
    example: tuple[tuple[str, str], ...]


def audit(
    source: DataSource,
    folder: Path,
    tokenizer: Any,
    max_length: int,
    too_long: TooLong,
    report: Report | None = None,
    reading: Reading = ALL_TURNS,
) -> Audit:
    """Read, normalise and tokenise a data set as training does, and take its statistics.

    Args:
        source, folder: the data set, as for `read_source`.
        tokenizer, max_length, too_long, report, reading: as for `tokenise`.

    Returns:
        The statistics.

    Raises:
        UserError: as `read_source` and `tokenise`.
    """
    data, faults = read_source(source, folder, turns=bool(tokenizer.chat_template))
    tokenised = tokenise(data.examples, tokenizer, max_length, too_long, source.spec, report, reading, faults)
    result = summarise(source.spec, data, with_all_counts(tokenised, data, faults), tokenizer)
    return replace(result, roles=count_roles(data.examples, tokenised.examples, tokenizer, reading))


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
    lengths = [p.scored_lengths for p in kept if isinstance(p, TokenPair)]
    return Audit(
        spec=spec,
        schema=data.words,
        unused=data.unused,
        single=isinstance(kept[0], TokenAnswer),
        rows=len(data.rows),
        kept=len(kept),
        chosen=_lengths(good),
        rejected=_lengths(bad),
        chosen_longer=_share(chosen > rejected for chosen, rejected in lengths),
        rejected_longer=_share(rejected > chosen for chosen, rejected in lengths),
        duplicates=_repeats(_key(*_texts(e)) for e in data.examples),
        repeated_prompts=_repeats(_key(e.prompt) for e in data.examples),
        ties=_ties(data.examples),
        counts=dict(tokenised.counts),
        roles=None,
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
        share = _share(p.scored_lengths[0] > p.scored_lengths[1] for p in examples if isinstance(p, TokenPair))
        lines.append(f"the chosen answer is the longer one in {share:.0%} of the pairs")
    repeated = _repeats(tuple(e.prompt) for e in examples)
    return [*lines, f"{repeated} rows with a prompt seen before"]


def _sides(examples: Sequence[TokenExample]) -> tuple[list[int], list[int]]:
    """Return the lengths of the good and the bad answers: chosen and rejected, or desirable and undesirable ones."""
    good = [e.scored_lengths[0] for e in examples if isinstance(e, TokenPair) or e.label]
    bad = [e.scored_lengths[-1] for e in examples if isinstance(e, TokenPair) or not e.label]
    return good, bad


def _share(flags: Iterable[bool]) -> float:
    """Return the share of true flags; 0 without any."""
    listed = list(flags)
    return sum(listed) / len(listed) if listed else 0.0


def _texts(example: Example) -> tuple[Text, ...]:
    answers = (example.chosen, example.rejected) if isinstance(example, Pair) else (example.completion,)
    return example.prompt, *answers


def _lengths(answers: Sequence[int]) -> Lengths:
    if not answers:
        return Lengths(0, 0.0, 0.0, 0, 0)
    ordered = sorted(answers)
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
    parts: list[tuple[str, TokenExample, int]] = []
    if isinstance(first := kept[0], TokenPair):
        parts = [("chosen", first, 0), ("rejected", first, 1)]
    for name, label in (("desirable", True), ("undesirable", False)):
        answer = next((a for a in kept if isinstance(a, TokenAnswer) and a.label is label), None)
        parts += [(name, answer, 0)] if answer else []
    shown: list[tuple[str, str]] = []
    for part, example, side in parts:
        if not side:
            shown += [("prompt", tokenizer.decode([i])) for i in example.prompt] + [("prompt", "\n")]
        ids = example.answers[side]
        flags = example.scored[side] if example.scored else [True] * len(ids)
        names = [part if flag else part + UNSCORED for flag in flags]
        shown += [(name, tokenizer.decode([i])) for name, i in zip(names, ids, strict=True)] + [(part, "\n")]
    return tuple(shown)
