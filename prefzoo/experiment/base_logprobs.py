"""Log-probs of the untrained model, which trainings, choices and margins start from: computed once, then cached."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from prefzoo.data.batches import Layout
from prefzoo.data.tokens import TokenExample
from prefzoo.data.views import select
from prefzoo.engine import reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.engine.precision import native_bf16
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.work_names import scoring, tokens_of
from prefzoo.runtime.distributed import all_gather, process_state, shard_range
from prefzoo.runtime.progress import stage
from prefzoo.types import LogProbs


def base_logprobs(
    experiment: Experiment, pairs: Sequence[TokenExample], title: str, kind: type[LogProbs] = LogProbs, *, bf16: bool,
    base: Base | None = None, weights: str = "", layout: Layout | None = None,
    passes: Sequence[Sequence[Sequence[int]]] = (),
) -> LogProbs:  # fmt: skip
    """Return log-probs of N pairs under the base, from the user's cache where they are known.

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
    rows = _share(len(pairs), passes)
    own = None
    work = scoring(kind, bf16=bf16)
    with (
        stage(f"reference log-probs, {title}", "pairs", experiment.console) as report,
        experiment.rates.timed(work, tokens_of(select(pairs, rows))),
    ):
        if rows:
            at = {row: i for i, row in enumerate(rows)}
            mine = passes[process_state().process_index] if passes else ()
            local = [part for part in ([at[i] for i in p if i in at] for p in mine) if part]
            own = reference_logprobs.logprobs(
                (base or experiment.base).model, select(pairs, rows), layout, kind, bf16=bf16,
                report=report, passes=local if passes else None,
            )  # fmt: skip
    shares = all_gather((rows, own))
    values = reference_logprobs.concatenate([part for _, part in shares if part is not None])
    order = [row for share, _ in shares for row in share]
    values = reference_logprobs.scatter_rows(values, order, len(pairs))
    if process_state().is_main_process:
        reference_logprobs.write_cached(file, values)
    return values


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
