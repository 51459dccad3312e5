"""Read a data set as training does, and compute the statistics of `prefzoo data` and `data_audit.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefzoo.data.audits.ches import Ches
from prefzoo.data.audits.examine import TestedOn, TextAudit, dropped_rows, examine
from prefzoo.data.audits.findings import Finding, finding_of
from prefzoo.data.audits.kinds import Drop
from prefzoo.data.audits.lengths import Lengths, measure_tokens
from prefzoo.data.examples import Example
from prefzoo.data.faults import BadRow, Faults
from prefzoo.data.flips import flip_labels
from prefzoo.data.mixtures import SourceCounts
from prefzoo.data.reading import DataSource, Mixture, read_source
from prefzoo.data.schemas import Normalised
from prefzoo.data.token_cache import Tokeniser, tokenise_once
from prefzoo.data.tokenising import ALL_TURNS, Reading
from prefzoo.data.tokens import TokenAnswer, TokenExample, Tokenised, TokenPair, TooLong
from prefzoo.data.views import select
from prefzoo.errors import UserError
from prefzoo.runtime.progress import Stages, unseen

UNSCORED = ", not scored"


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
        unwanted: number of rows that are left out as the recipe asks.
        chosen, rejected: lengths of the kept answers, in scored tokens.
        chosen_longer, rejected_longer: the share of kept pairs in which that answer has more tokens; 0 without pairs.
        differing: tokens from the first to the last in which the answers of a kept pair differ; None without pairs.
        histogram: (most tokens, chosen answers, rejected ones) for lengths in steps of doubling.
        duplicates: number of rows that repeat an earlier prompt with its answers.
        repeated_prompts: number of rows that repeat an earlier prompt, whatever the answers.
        ties: number of rows with two equal scores; None without scores.
        languages: number of rows by the language of the chosen answer, or of the single one.
        findings: odd rows by kind, used or not; each kind with its first rows.
        counts: number of rows dropped or changed, by reason.
        roles: number of tokens by role (see `roles_of`); None where they were not counted.
        example: (part, text of one token) of the first kept pair, or of the first answer of each label. The part of a
            token in an answer that is not scored, because another than the assistant says it, ends with `UNSCORED`.
        sources: what training sees of each source; empty where there is one.
        ches: how similar the answers of each pair are to a model; None unless asked for.
    """

    spec: str
    schema: str
    unused: tuple[str, ...]
    single: bool
    rows: int
    kept: int
    unwanted: int
    chosen: Lengths
    rejected: Lengths
    chosen_longer: float
    rejected_longer: float
    differing: Lengths | None
    histogram: tuple[tuple[int, int, int], ...]
    duplicates: int
    repeated_prompts: int
    ties: int | None
    languages: dict[str, int]
    findings: tuple[Finding, ...]
    counts: dict[str, int]
    roles: dict[str, int] | None
    example: tuple[tuple[str, str], ...]
    sources: tuple[SourceCounts, ...] = ()
    ches: Ches | None = None


@dataclass(frozen=True)
class AuditedData:
    """A data set that was read, and its audit.

    Attributes:
        examples: its rows as text, without those that the recipe leaves out.
        tokens: those of them that training sees, with a count of all that was dropped or changed.
        audit: its statistics.
        left_out: the rows that were left out because they cannot be used, or as the recipe asks.
        rated: whether rows have several rated answers, of which pairs were made.
    """

    examples: Sequence[Example]
    tokens: Tokenised[TokenExample]
    audit: Audit
    left_out: list[BadRow]
    rated: bool = False


def read_and_audit(
    source: DataSource | Mixture, folder: Path, tokenizer: Any, max_length: int, too_long: TooLong,
    reading: Reading = ALL_TURNS, drop: Sequence[Drop] = (), tested_on: Sequence[TestedOn] = (), flip: float = 0.0,
    stages: Stages = unseen,
) -> AuditedData:  # fmt: skip
    """Read, normalise and tokenise a data set, and take its statistics.

    Args:
        source, folder: the data set, as for `read_source`.
        tokenizer, max_length, too_long, reading: as for `tokenise`.
        drop: which rows are left out besides those that cannot be used.
        tested_on: the test data of a model that is trained on the data.
        flip: the share of the labels to flip.
        stages: shows the progress of reading, of the audit, and of tokenising.

    Returns:
        The data, with its audit.

    Raises:
        UserError: as `read_source` and `tokenise`, or no row is left.
    """
    data, faults = read_source(source, folder, turns=bool(tokenizer.chat_template), stages=stages)
    with stages(f"auditing {source.spec}") as report:
        texts = examine(data.examples, tested_on, report)
    data = _without_dropped(data, dropped_rows(texts, drop, data.origins), source.spec, faults)
    flipped: Any
    flipped, flips = flip_labels(data.examples, flip)
    data = replace(data, examples=flipped)
    tokeniser = Tokeniser(tokenizer, max_length, too_long, reading)
    with stages(f"tokenising {source.spec}") as report:
        tokens = tokenise_once(data, tokeniser, source.spec, faults, report)
    tokens = replace(tokens, counts=data.counts + flips + faults.counts() + tokens.counts)
    result = _summarise(source.spec, data, texts, tokens, len(faults.unwanted), tokenizer)
    return AuditedData(data.examples, tokens, result, faults.left_out, data.rated)


def audit(
    source: DataSource | Mixture, folder: Path, tokenizer: Any, max_length: int, too_long: TooLong,
    reading: Reading = ALL_TURNS,
) -> Audit:  # fmt: skip
    """Read a data set as training does, and take its statistics, with the tokens of each role.

    Args:
        source, folder: the data set, as for `read_source`.
        tokenizer, max_length, too_long, reading: as for `tokenise`.

    Returns:
        The statistics.

    Raises:
        UserError: as `read_source` and `tokenise`.
    """
    return read_and_audit(source, folder, tokenizer, max_length, too_long, reading).audit


def _without_dropped(data: Normalised, reasons: dict[int, str], spec: str, faults: Faults) -> Normalised:
    """Leave rows out, and record each with its reason.

    Raises:
        UserError: none is left.
    """
    if not reasons:
        return data
    for row, reason in sorted(reasons.items()):
        faults.leave_out(data.place(spec, row), reason, data.rows[row])
    examples: Sequence[Example] = data.examples
    kept: Any = select(examples, [i for i, example in enumerate(examples) if example.row not in reasons])
    if not kept:
        counts = ", ".join(f"{n:,} {reason}" for reason, n in faults.counts().items())
        raise UserError(f"{spec}: data.drop leaves none of {len(data.examples):,} rows ({counts}); drop less")
    return replace(data, examples=kept)


def _summarise(
    spec: str, data: Normalised, texts: TextAudit, tokens: Tokenised[TokenExample], unwanted: int, tokenizer: Any
) -> Audit:
    kept = tokens.examples
    seen, single = measure_tokens(kept), isinstance(kept[0], TokenAnswer)
    return Audit(
        spec=spec,
        schema=data.words,
        unused=data.unused,
        single=single,
        rows=len(data.rows),
        kept=len(kept),
        unwanted=unwanted,
        chosen=seen.chosen,
        rejected=seen.rejected,
        chosen_longer=seen.chosen_longer,
        rejected_longer=seen.rejected_longer,
        differing=seen.differing,
        histogram=seen.histogram,
        duplicates=texts.count("duplicates"),
        repeated_prompts=texts.repeated_prompts,
        ties=texts.ties,
        languages=texts.languages,
        findings=tuple(finding_of(one, single=single, origins=data.origins) for one in (*texts.flagged, *seen.flagged)),
        counts=dict(tokens.counts),
        roles=tokens.roles,
        example=_example(tokenizer, kept),
        sources=() if data.origins is None else tuple(data.origins.counts(kept)),
    )


def training_data_lines(examples: Sequence[TokenExample]) -> list[str]:
    """Return lines on the training data: the number of examples, the lengths of answers, and repeated prompts."""
    single, seen = isinstance(examples[0], TokenAnswer), measure_tokens(examples)
    names = ("desirable", "undesirable") if single else ("chosen", "rejected")
    sides = (seen.chosen, seen.rejected)
    lines = [f"{sides[0].n} {names[0]} and {sides[1].n} {names[1]} answers" if single else f"{sides[0].n} pairs"]
    lines += [
        f"{name} answers: mean {side.mean:.1f}, median {side.median:g}, longest {side.longest} tokens"
        for name, side in zip(names, sides, strict=True)
        if side.n
    ]
    if not single:
        lines.append(f"the chosen answer is the longer one in {seen.chosen_longer:.0%} of the pairs")
    repeated = len(examples) - len({tuple(e.prompt) for e in examples})
    return [*lines, f"{repeated} rows with a prompt seen before"]


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
