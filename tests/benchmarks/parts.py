"""Parts of a training step by themselves: `python tests/benchmarks/parts.py attention|head|reference`.

Milliseconds, the best of some rounds, on random numbers of SmolLM2-135M's sizes (reference: its weights, AlpacaEval's
first 16 pairs). Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from prefzoo.runtime.memory import configure_allocator

configure_allocator()

import torch  # noqa: E402
from bench import REAL  # noqa: E402
from case import MODEL  # noqa: E402
from torch import Tensor  # noqa: E402

from prefzoo.data.schemas import normalise  # noqa: E402
from prefzoo.data.tokenising import tokenise  # noqa: E402
from prefzoo.engine import cpu_attention, lm_head, models, padded_attention, reference_logprobs  # noqa: E402
from prefzoo.engine.block_index import BlockIndex  # noqa: E402

HEADS, KEYS, WIDTH, HIDDEN, WORDS = 9, 3, 64, 576, 49_152
PROMPT, SCORED, ROUNDS = 50, 2048, 5
KINDS = (torch.bfloat16, torch.float32)


def best(work: Callable[[], object]) -> float:
    """Milliseconds."""
    result = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        result.append(time.perf_counter() - start)
    return 1000 * min(result)


def there_and_back(forward: Callable[[], Tensor], inputs: list[Tensor]) -> str:
    """Both ways of one function."""
    there = best(forward)

    def both() -> None:
        out = forward()
        torch.autograd.grad(out, inputs, torch.ones_like(out))

    return f"{there:.0f} forward, {best(both) - there:.0f} backward"


def attention_by_length() -> None:
    """One pair whose answers, with the prompt, have so many tokens."""
    for kind in KINDS:
        for length in (300, 600, 1024, 2048):
            blocks = ((PROMPT, length - PROMPT, length - PROMPT),)
            size = sum(blocks[0])
            qkv = [torch.randn(1, n, size, WIDTH, dtype=kind).requires_grad_() for n in (HEADS, KEYS, KEYS)]
            plain, index = cpu_attention.AttentionKind(WIDTH**-0.5), BlockIndex(blocks)
            pieces = there_and_back(lambda: cpu_attention.attend(*qkv, blocks, plain), qkv)  # noqa: B023
            fused = there_and_back(lambda: padded_attention.attend(*qkv, index, None, None), qkv)  # noqa: B023
            print(f"{kind}, {length} tokens: in pieces {pieces}; torch's fused kernel {fused}")


def head_by_tile() -> None:
    """Log-probs of 2,048 tokens: without gradients, with a trained head, with a frozen one."""
    targets = torch.randint(0, WORDS, (SCORED,))
    for kind in KINDS:
        for tile in ((512, 8192), (512, 4096), (256, 8192), (1024, 2048), (128, 4096)):
            lines = []
            for way, trained, frozen in (("scored", False, True), ("trained", True, False), ("frozen", True, True)):
                states = torch.randn(SCORED, HIDDEN, dtype=kind).requires_grad_(trained)
                weight = (0.05 * torch.randn(WORDS, HIDDEN)).to(kind).requires_grad_(not frozen)
                inputs = [t for t in (states, weight) if t.requires_grad]

                def work() -> None:
                    out = lm_head.token_logprobs(states, lm_head.LMHead(weight), targets, tile=tile)[0].sum()  # noqa: B023
                    if inputs:  # noqa: B023
                        torch.autograd.grad(out, inputs)  # noqa: B023

                lines.append(f"{way} {best(work):.0f}")
            print(f"{kind}, tiles of {tile}: {', '.join(lines)}")


def reference_by_pass() -> None:
    """The reference's log-probs of 16 pairs in bf16, by the tokens of a pass."""
    rows = [json.loads(line) for line in REAL.read_text(encoding="utf-8").splitlines()][:16]
    rows = [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in rows]
    model, tokenizer = models.load(MODEL, Path())
    pairs = tokenise(normalise(rows, "rows"), tokenizer, 512, "cut").examples
    for tokens in (reference_logprobs.TOKENS["cpu"], 2048, 1024):
        reference_logprobs.TOKENS["cpu"] = tokens
        print(f"{tokens} tokens: {best(lambda: reference_logprobs.logprobs(model, pairs, 'shared', bf16=True)):.0f}")


PARTS = {"attention": attention_by_length, "head": head_by_tile, "reference": reference_by_pass}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    PARTS[asked.part]()
