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

UNSCORED = ", not scored"  # suffix of a part in `Audit.example`


@dataclass(frozen=True)
class Audit:
    """Statistics of one data set.

    Attributes:
        spec: name of the data set.
        schema: a description of its schema.
        unused: columns that hold text and are not read.
        single: whether it has labelled answers; then read desirable for chosen and undesirable for rejected below.
        rows: number of rows that were read.
        kept: number of pairs or labelled answers that training sees.
        unwanted: number of rows that the recipe leaves out.
        chosen, rejected: lengths of the kept answers, in scored tokens.
        chosen_longer, rejected_longer: the share of kept pairs in which that answer has more scored tokens; 0 without
            pairs.
        differing: length, in tokens of the longer answer, of the range in which the answers of a kept pair differ; None
            without pairs.
        histogram: see `TokenAudit`.
        duplicates: number of examples that repeat an earlier prompt with the same answers.
        repeated_prompts: number of examples that repeat an earlier prompt, with any answers.
        ties: number of pairs with two equal scores; None if no pair has scores.
        languages: number of examples by the language of the chosen answer.
        findings: the odd rows by kind, whether training sees them or not.
        counts: number of rows that were dropped or changed, by reason.
        roles: number of tokens by role (see `roles_of`); None if they were not counted.
        example: (part, text of one token) of the first kept pair, or of the first kept answer of each label. The part
            is `prompt`, `chosen`, and so on; it ends with `UNSCORED` for tokens of an answer that are not scored.
        sources: how much of each source training sees; empty without a mixture.
        ches: the CHES scores of the pairs; None if they were not computed.
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
    """A data set and its audit.

    Attributes:
        examples: the pairs or labelled answers as text, without those that the recipe leaves out.
        tokens: the examples that training sees, with the number of rows that were dropped or changed.
        audit: the statistics.
        left_out: the rows that cannot be used or that the recipe leaves out.
        rated: whether pairs were built from several rated answers.
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
    """Read, normalise and tokenise a data set, and compute its statistics.

    Args:
        source, folder: as for `read_source`.
        tokenizer, max_length, too_long, reading: as for `tokenise`.
        drop: the kinds of odd rows to leave out.
        tested_on: the test data that training rows are compared with.
        flip: the share of labels to flip, from 0 to 1.
        stages: shows the progress of reading, auditing and tokenising.

    Returns:
        The data with its audit.

    Raises:
        UserError: see `read_source` and `tokenise`; or `drop` leaves no row.
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
    """Read a data set as training does, and compute its statistics.

    Args:
        source, folder: as for `read_source`.
        tokenizer, max_length, too_long, reading: as for `tokenise`.

    Returns:
        The statistics.

    Raises:
        UserError: see `read_source` and `tokenise`.
    """
    return read_and_audit(source, folder, tokenizer, max_length, too_long, reading).audit


def _without_dropped(data: Normalised, reasons: dict[int, str], spec: str, faults: Faults) -> Normalised:
    """Leave out the rows that `data.drop` names, and record each with its reason.

    Raises:
        UserError: no row is left.
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
    """Describe training data in lines: the number of examples, the lengths of answers, and repeated prompts."""
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
    """Return `Audit.example`, with a line break after the prompt and after each answer."""
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
