"""Run a vLLM engine in a process: `python -m prefzoo.evals.generation.vllm_worker`.

The process reads lines of JSON from standard input, first the engine's settings and then jobs. It writes one line of
JSON for each, and ends at the end of its input.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any


def serve(lines: Iterable[str]) -> Iterator[Any]:
    """Start an engine with the settings on the first line, and run the job on each further line.

    Args:
        lines: lines of JSON.

    Returns:
        An iterator over the replies: first `ready`, then for each job a list with the answer to each of its prompts.
    """
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    jobs = (json.loads(line) for line in lines)
    settings = next(jobs)
    rank = settings.pop("rank")
    lora = {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank} if rank else {}
    engine = LLM(seed=0, **settings, **lora)
    yield "ready"
    for job in jobs:
        common = {"temperature": job["temperature"], "max_tokens": job["max_new_tokens"], "stop_token_ids": job["ends"]}
        sampling: Any = SamplingParams(**common)
        if job["seeds"]:  # one per prompt, so that an answer does not depend on its batch
            sampling = [SamplingParams(**common, seed=seed) for seed in job["seeds"]]
        adapter = LoRARequest(*job["adapter"]) if job["adapter"] else None
        outputs = engine.generate([{"prompt_token_ids": ids} for ids in job["prompts"]], sampling, lora_request=adapter)
        first = [output.outputs[0] for output in outputs]
        yield [{"tokens": list(one.token_ids), "finished": one.finish_reason == "stop"} for one in first]


if __name__ == "__main__":
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # vLLM's own prints go to standard error, not among the replies
    for reply in serve(sys.stdin):
        print(json.dumps(reply), file=replies, flush=True)
