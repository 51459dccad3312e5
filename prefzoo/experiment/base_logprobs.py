"""Compute the untrained model's log-probs once, and cache them: trainings, choices and margins start from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from prefzoo.data.batches import Layout
from prefzoo.data.tokens import TokenExample
from prefzoo.data.views import select
from prefzoo.engine import reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.engine.precision import native_bf16
from prefzoo.engine.sharded_model import ShardedModel, are_models_sharded
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.work_names import scoring, tokens_of
from prefzoo.runtime.distributed import all_gather, process_state, shard_range
from prefzoo.runtime.progress import Report, stage
from prefzoo.types import LogProbs


def base_logprobs(
    experiment: Experiment, pairs: Sequence[TokenExample], title: str, kind: type[LogProbs] = LogProbs, *, bf16: bool,
    base: Base | None = None, weights: str = "", layout: Layout | None = None,
    passes: Sequence[Sequence[Sequence[int]]] = (),
) -> LogProbs:  # fmt: skip
    """Return log-probs of N pairs under the base, from the user's cache if they are there.

    All processes call this, and each scores a part of the pairs.

    Args:
        experiment: gives base, layout and console.
        pairs: the N pairs.
        title: what the pairs are, for the progress display.
        kind: which log-probs are needed.
        bf16: whether the forward pass runs under autocast to bf16.
        base, weights: another reference model, and the hash that identifies it.
        layout: how rows are laid out in passes; the experiment's if None.
        passes: the passes in which each process scores them; empty for an even share in the usual ones.

    Returns:
        The log-probs in nats, (N,) each, in the order of the pairs.
    """
    layout = layout or experiment.layout
    file = reference_logprobs.cache_file(weights or experiment.weights, pairs, kind, layout, bf16=bf16, passes=passes)
    cached = reference_logprobs.read_cached(
        file, kind, lambda line: experiment.console.print(line, soft_wrap=True, markup=False)
    )
    if all(all_gather(cached is not None)):
        assert cached is not None
        return cached
    work, own_tokens = scoring(kind, bf16=bf16), tokens_of(select(pairs, _share(len(pairs), passes)))
    with (
        stage(f"reference log-probs, {title}", "pairs", experiment.console) as report,
        experiment.rates.timed(work, own_tokens),
    ):
        values = logprobs_in_shares(
            lambda: (base or experiment.base).model, pairs, layout, kind, bf16=bf16, report=report, passes=passes
        )
    if process_state().is_main_process:
        reference_logprobs.write_cached(file, values)
    return values


def logprobs_in_shares(
    model: Callable[[], Any], pairs: Sequence[TokenExample], layout: Layout, kind: type[LogProbs] = LogProbs, *,
    bf16: bool, report: Report | None = None, passes: Sequence[Sequence[Sequence[int]]] = (),
) -> LogProbs:  # fmt: skip
    """Score N pairs, a part in each process. All processes call this.

    Args:
        model: returns the model; it is not called in a process without pairs, unless models are sharded.
        pairs: the N pairs.
        layout: how rows are laid out in passes.
        kind: which log-probs are needed.
        bf16: whether the forward pass runs under autocast to bf16.
        report: called with the pairs that this process has scored, and how many it has to.
        passes: the passes in which each process scores them; empty for an even share in the usual ones.

    Returns:
        The log-probs in nats, (N,) each, in the order of the pairs.
    """
    rows, own = _share(len(pairs), passes), None
    if rows or are_models_sharded():
        scored = rows or [0]  # all processes make passes, some of them only so that others can go on
        at = {row: i for i, row in enumerate(scored)}
        mine = passes[process_state().process_index] if passes and rows else ()
        local = [part for part in ([at[i] for i in p if i in at] for p in mine) if part]
        own = reference_logprobs.logprobs(
            model(), select(pairs, scored), layout, kind, bf16=bf16, report=report, passes=local or None
        )
    shares = all_gather((rows, own if rows else None))
    values = reference_logprobs.concatenate([part for _, part in shares if part is not None])
    order = [row for share, _ in shares for row in share]
    return reference_logprobs.scatter_rows(values, order, len(pairs))


def logprobs_of(
    model: Any, pairs: Sequence[TokenExample], layout: Layout, kind: type[LogProbs], *, bf16: bool,
    report: Report | None = None,
) -> LogProbs:  # fmt: skip
    """Score pairs under a model: all in this process, or if it is sharded, in shares, for which all processes call it.

    Args:
        model: whole or sharded.
        pairs, layout, kind, bf16, report: as for `logprobs_in_shares`.

    Returns:
        The log-probs of all pairs, in order.
    """
    if isinstance(model, ShardedModel):
        return logprobs_in_shares(lambda: model, pairs, layout, kind, bf16=bf16, report=report)
    return reference_logprobs.logprobs(model, pairs, layout, kind, bf16=bf16, report=report)


def _share(count: int, passes: Sequence[Sequence[Sequence[int]]]) -> list[int]:
    """Return the rows that this process scores: those that its passes are the first to see."""
    if not passes:
        return list(range(*shard_range(count)))
    owner: dict[int, int] = {}
    for parts in zip_longest(*passes, fillvalue=()):  # in the order of the steps
        for process, part in enumerate(parts):
            for row in part:
                owner.setdefault(row, process)
    own = process_state().process_index
    return [row for row in range(count) if owner[row] == own]


def base_on_validation(experiment: Experiment) -> LogProbs:
    """Return the base's log-probs of the validation pairs. All processes call this."""
    return base_logprobs(experiment, experiment.validation, "validation pairs", bf16=native_bf16())


def base_on_held_out(experiment: Experiment) -> LogProbs:
    """Return the base's log-probs of the held-out pairs, which every margin is measured from. All processes call it."""
    return base_logprobs(experiment, experiment.held_out, "held-out pairs", bf16=native_bf16())
