"""Check that a sharded model and a run with it give the same results as a whole one; run by test_sharded_models.py.

This is run in two processes. Accelerate shards only over accelerators, so it is told that these CPU processes are some.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from two_processes import pretend_accelerators

from prefzoo.data.tokens import TokenPair
from prefzoo.engine import models, reference_logprobs
from prefzoo.engine.base_model import Base
from prefzoo.engine.sharded_model import ShardedModel, are_models_sharded, shard_model
from prefzoo.evals.generation.generate import sample_tokens
from prefzoo.experiment.base_logprobs import logprobs_in_shares
from prefzoo.experiment.pipeline import run
from prefzoo.experiment.request import Request
from prefzoo.runtime.distributed import all_gather, process_state
from prefzoo.types import LogProbs

PAIRS = [TokenPair([1, 5 + i, *range(40, 40 + 3 * i)], [9, 8 + i], [7, 6, i], i) for i in range(7)]
PROMPTS = [[1, *range(5, 5 + n)] for n in (9, 2, 5, 3, 7)]


def scored(model: Any, pairs: list[TokenPair], *, bf16: bool) -> LogProbs:
    """Return the log-probs of pairs, in passes of one pair each, so that both kinds of model compute the same."""
    own = [[[i] for i in range(process, len(pairs), 2)] for process in (0, 1)]
    if isinstance(model, ShardedModel):
        return logprobs_in_shares(lambda: model, pairs, "shared", bf16=bf16, passes=own)
    return reference_logprobs.logprobs(model, pairs, "shared", bf16=bf16, passes=[p for part in own for p in part])


def same_bits(folder: Path, dtype: torch.dtype | None, *, bf16: bool, count: int) -> None:
    """Check that whole and sharded base models give log-probs equal to the last bit, in each precision of loading."""

    def load(of: torch.dtype | None = torch.float32) -> Any:
        return models.load(str(folder / "model"), folder, dtype=of)[0]

    whole = Base(load, frozen_bf16=bf16).model
    sharded = Base(lambda: load(dtype), frozen_bf16=bf16, sharded=True).model
    parts = [p for p in sharded.parameters() if isinstance(p, DTensor)]
    held = sum(p.to_local().numel() for p in parts)
    assert len(parts) == len(list(whole.parameters()))
    assert sum(all_gather(held)) == sum(p.numel() for p in whole.parameters()) and held < 0.7 * sum(all_gather(held))
    low = {p.dtype for p in whole.parameters()}
    assert {p.dtype for p in parts} == low and (torch.bfloat16 in low) == bf16
    pairs = PAIRS[:count]  # with one pair, the second process has none, but must take part in the pass
    one, two = scored(whole, pairs, bf16=bf16), scored(sharded, pairs, bf16=bf16)
    assert torch.equal(one.chosen, two.chosen) and torch.equal(one.rejected, two.rejected)


def same_answers(folder: Path) -> None:
    """Check that greedy and sampled tokens are those of a whole model, in half precision too."""
    model, tokenizer = models.load(str(folder / "model"), folder)
    sharded = Base(lambda: copy.deepcopy(model), sharded=True).model
    for temperature, n in ((0.0, 1), (1.0, 2)):
        for prompts in (PROMPTS, PROMPTS[:1]):
            asked: dict[str, Any] = {"max_new_tokens": 6, "temperature": temperature, "n": n}
            expected = sample_tokens(model, tokenizer, prompts, **asked)
            assert sample_tokens(sharded, tokenizer, prompts, **asked) == expected
            assert sample_tokens(sharded, tokenizer, prompts, **asked, batch_size=2) == expected
    sharded = shard_model(copy.deepcopy(model).to(torch.bfloat16))
    low = sample_tokens(model.to(torch.bfloat16), tokenizer, PROMPTS, max_new_tokens=6, batch_size=1)
    assert sample_tokens(sharded, tokenizer, PROMPTS, max_new_tokens=6, batch_size=2) == low


if __name__ == "__main__":
    torch.set_num_threads(1)
    pretend_accelerators()
    folder = Path(sys.argv[1])
    assert are_models_sharded() and process_state().num_processes == 2
    if sys.argv[2] == "models":
        for count in (7, 1):
            same_bits(folder, torch.float32, bf16=False, count=count)
            same_bits(folder, torch.float32, bf16=True, count=count)
            same_bits(folder, None, bf16=True, count=count)
        same_answers(folder)
    else:
        run(Request(str(folder / "r.yaml"), tuple(sys.argv[3:]), str(folder / "two")))
