"""Log-probs of the untrained model, which trainings, choices and margins start from: computed once, then cached."""

from __future__ import annotations

from collections.abc import Sequence

from prefzoo.data.tokens import TokenExample
from prefzoo.engine import reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.engine.precision import native_bf16
from prefzoo.experiment.context import Experiment
from prefzoo.runtime.distributed import all_gather, process_state, shard_range
from prefzoo.runtime.progress import stage
from prefzoo.types import LogProbs


def base_logprobs(
    experiment: Experiment, pairs: Sequence[TokenExample], title: str, kind: type[LogProbs] = LogProbs, *, bf16: bool,
    base: Base | None = None, weights: str = "",
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

    Returns:
        The log-probs in nats, (N,) each, in the order of the pairs.
    """
    file = reference_logprobs.cache_file(weights or experiment.weights, pairs, kind, experiment.layout, bf16=bf16)
    cached = reference_logprobs.read_cached(
        file, kind, lambda line: experiment.console.print(line, soft_wrap=True, markup=False)
    )
    if all(all_gather(cached is not None)):
        assert cached is not None
        return cached
    first, end = shard_range(len(pairs))
    own = None
    with stage(f"reference log-probs, {title}", "pairs", experiment.console) as report:
        if first < end:
            model = (base or experiment.base).model
            own = reference_logprobs.logprobs(
                model, pairs[first:end], experiment.layout, kind, bf16=bf16, report=report
            )
    values = reference_logprobs.concatenate([part for part in all_gather(own) if part is not None])
    if process_state().is_main_process:
        reference_logprobs.write_cached(file, values)
    return values


def base_on_validation(experiment: Experiment) -> LogProbs:
    """Return the base's log-probs of the validation pairs. All processes call this."""
    return base_logprobs(experiment, experiment.validation, "validation pairs", bf16=native_bf16())


def base_on_held_out(experiment: Experiment) -> LogProbs:
    """Return the base's log-probs of the held-out pairs, which every margin is measured from. All processes call it."""
    return base_logprobs(experiment, experiment.held_out, "held-out pairs", bf16=native_bf16())
