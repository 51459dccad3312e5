"""The formulas of memory, beside what training really takes on this machine, and by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prefzoo import losses
from prefzoo.data.tokens import TokenPair
from prefzoo.engine import lm_head
from prefzoo.engine.base_model import Base
from prefzoo.engine.precision import native_bf16
from prefzoo.recipe.sections import Train
from prefzoo.training import memory_estimate, memory_model, model_sizes
from prefzoo.training.job import Job, with_pass_size, with_reference
from prefzoo.training.memory_estimate import CPU_OVERHEAD, PROCESS_BYTES, memory_need
from prefzoo.training.memory_model import Shape, TrainingPlan, devices_needed, flops, model_shape
from prefzoo.training.passes import FEWEST_TOKENS, tokens_that_fit
from prefzoo.types import LogProbs

SHAPE = Shape(8, 512, 8, 4, 64, 1536, 8192, True)
SIZE = {
    "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 8192,
}  # fmt: skip
PROMPT, ANSWER = 60, 90
CONTEXT = ((PROMPT + ANSWER) ** 2 + ANSWER * (PROMPT + ANSWER)) / (PROMPT + 2 * ANSWER)  # keys of a query's whole row
PLAIN = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # what is freed goes back at once


NATIVE = pytest.mark.skipif(not native_bf16(), reason="this machine emulates bf16, which takes minutes")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bf16", "twice"),
    [
        pytest.param(False, False, id="fp32"), pytest.param(True, False, id="bf16", marks=NATIVE),
        pytest.param(True, True, id="twice", marks=NATIVE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rank", [None, 8], ids=["full", "lora"])
@pytest.mark.parametrize("pairs", [2, 8])
def test_the_formula_is_within_15_percent_of_the_measured_peak(
    rank: int | None, pairs: int, bf16: bool, twice: bool
) -> None:
    settings: dict[str, Any] = {
        "size": SIZE, "prompt": PROMPT, "answer": ANSWER, "pairs": pairs, "batch": pairs, "micro_batch": pairs,
        "rank": rank, "bf16": bf16, "checkpointing": twice,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("measured_memory.py")), json.dumps(settings)],
        capture_output=True, text=True, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1", **PLAIN},
    )  # fmt: skip
    measured = json.loads(done.stdout.splitlines()[-1])["peak"]
    tokens, scored = pairs * (PROMPT + 2 * ANSWER), pairs * 2 * ANSWER
    plan = TrainingPlan(tokens, scored, CONTEXT, rank=rank, bf16=bf16, checkpointing=twice)
    needed = memory_model.footprint(SHAPE, plan)
    print(
        f"rank {rank}, {pairs} pairs, bf16 {bf16}: {needed.peak / 2**20:.0f} MiB, measured {measured / 2**20:.0f}",
        needed,
    )
    assert needed.peak == pytest.approx(measured, rel=0.15)


def test_parameters_and_tiles_are_those_of_the_code() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    for tied in (True, False):
        model = LlamaForCausalLM(LlamaConfig(**{**SIZE, "num_hidden_layers": 2}, tie_word_embeddings=tied))
        assert model_shape(model.config).parameters == sum(p.numel() for p in model.parameters())
    assert (lm_head.TILES, lm_head.TILE_LOGITS) == (memory_model.TILES, memory_model.TILE_LOGITS)


def test_a_published_model_has_its_published_size() -> None:
    llama = Shape(32, 4096, 32, 8, 128, 14336, 128256, False)
    assert llama.parameters == 8_030_261_248  # Llama 3.1 8B


def test_more_devices_hold_less_and_checkpointing_costs_time() -> None:
    plan = TrainingPlan(2048, 1024, 500.0, device_type="cuda", bf16=True)
    needed = devices_needed(SHAPE, plan, 2**40)
    assert needed is not None and needed[0] == 1
    assert devices_needed(SHAPE, plan, 1000) is None
    again = TrainingPlan(**{**vars(plan), "checkpointing": True})
    assert memory_model.footprint(SHAPE, again).peak < memory_model.footprint(SHAPE, plan).peak
    assert flops(SHAPE, again, 1000) == pytest.approx(flops(SHAPE, plan, 1000) * 5 / 4)
    sharded = [memory_model.footprint(SHAPE, TrainingPlan(**{**vars(p), "devices": 2})).weights for p in (plan, again)]
    assert sharded[0] - sharded[1] == 2 * SHAPE.layers * SHAPE.layer, "the backward pass reads the layers' bf16 copies"


def test_the_docs_table_is_the_commands() -> None:
    assert model_sizes.table() in (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
    row = model_sizes.table().splitlines()[2]
    assert row.startswith("| 1.5B | LoRA, rank 16 | 1 | ")
    # Llama 3.1 8B, full: 16 bytes a parameter, so at least two cards of 72 GB; 2 (N - embedding) * tokens * 5 flops
    full = next(line for line in model_sizes.table().splitlines() if line.startswith("| 8B | full"))
    hours = float(full.split("|")[5])
    assert int(full.split("|")[3]) >= 2
    assert hours == pytest.approx(2 * 7.5e9 * 60_000 * 850 * 5 / (989e12 * 0.4) / 3600, rel=0.03)


def _line(model: Any, pairs: list[TokenPair]) -> str:
    need = memory_need(model.config, pairs, Train(), bf16=False)
    assert need is not None
    return need.line


def test_check_warns_where_too_little_is_free(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [TokenPair([1] * 20, [2] * 30, [3] * 40, i) for i in range(8)]
    free = {"bytes": 2.0**40}
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free["bytes"]))
    line = _line(tiny_model, pairs)
    assert "GiB of memory at the peak (up to " in line and "too little" not in line
    longest = TrainingPlan(8 * 90, 8 * 70, (50 * 50 + 40 * 60) / 90, device_type="cpu")  # eight pairs are one pass
    most = CPU_OVERHEAD * memory_model.footprint(model_shape(tiny_model.config), longest).peak + PROCESS_BYTES
    free["bytes"] = most * 0.99
    assert _line(tiny_model, pairs).endswith(
        "too little: set train.micro_batch: 1, train.gradient_checkpointing: true or train.lora: {rank: 16}"
    )
    free["bytes"] = most * 1.01
    assert "too little" not in _line(tiny_model, pairs)
    assert memory_need(object(), pairs, Train(), bf16=False) is None


SMALL = Shape(24, 896, 14, 2, 64, 4864, 151_936, True)  # Qwen2.5 0.5B
LARGE = Shape(28, 1536, 12, 2, 128, 8960, 151_936, True)  # 1.5B
CARD = 80e9


def test_passes_are_as_small_as_keeps_a_card_busy() -> None:
    sizes = [tokens_that_fit(shape, Train(), bf16=True, memory=CARD) for shape in (SMALL, LARGE)]
    assert sizes == [16_384, 4096]
    assert tokens_that_fit(LARGE, Train(tokens=777), bf16=True, memory=CARD) == 777


def test_passes_are_smaller_where_memory_is() -> None:
    peaks = []
    for memory in (80e9, 36e9, 34e9):
        tokens = tokens_that_fit(LARGE, Train(), bf16=True, memory=memory)
        need = memory_model.footprint(LARGE, TrainingPlan(tokens, tokens, 0.0, 2, bf16=True, device_type="cuda")).peak
        peaks.append((tokens, need <= 0.9 * memory))
    assert peaks[0] == (4096, True) and peaks[0][0] > peaks[1][0] >= peaks[2][0]
    assert tokens_that_fit(LARGE, Train(), bf16=True, memory=1e9) == FEWEST_TOKENS
    assert tokens_that_fit(LARGE, Train(), bf16=True, memory=CARD, held=8) < 4096


def test_a_job_on_a_gpu_has_passes_that_fit(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, pairs = losses.get("dpo"), [TokenPair([1] * 20, [2] * 30, [3] * 40, 0)]
    job = Job(loss, loss.Params(), Train(), 0, pairs, "shared", bf16=True)
    assert with_pass_size(job, tiny_model.config) is not None and job.train.tokens is None
    assert with_pass_size(job, tiny_model.config).train.tokens is None, "not on a CPU"
    monkeypatch.setattr(memory_estimate, "has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (CARD / 2, CARD))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: CARD / 4)
    state = SimpleNamespace(device=torch.device("cuda"), num_processes=1)
    monkeypatch.setattr("prefzoo.runtime.distributed.process_state", lambda: state)
    assert with_pass_size(job, tiny_model.config).train.tokens == 16_384
    assert with_pass_size(job, None).train.tokens is None
    some = torch.zeros(1)
    base, values = Base(lambda: tiny_model, loaded=tiny_model), LogProbs(some, some, some.long() + 1, some.long() + 1)
    assert with_reference(job, base, lambda *_: values).train.tokens == 16_384, "the reference is scored in these too"
    need = memory_need(tiny_model.config, pairs, Train(), bf16=True)
    assert need is not None and need.on_gpu and need.free == 0.75 * CARD, "with what this process holds and will drop"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, CARD))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 1e6)
    assert with_pass_size(job, tiny_model.config).train.tokens == FEWEST_TOKENS
