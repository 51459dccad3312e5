"""A reference that no single card holds: scored, measured and answering in parts (FSDP2), as a whole one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_two_processes import HERE, SHARDED, close, free_port, launched


def in_two(folder: Path, *words: str, extra: dict[str, str] | None = None) -> None:
    torchrun = ["torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    launched([*torchrun, str(HERE / "sharded_models.py"), str(folder), *words], folder, {**SHARDED, **(extra or {})})


@pytest.mark.slow
def test_a_sharded_model_scores_and_answers_as_a_whole_one(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    tiny_model.to(torch.bfloat16).save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    in_two(tmp_path, "models")


@pytest.mark.slow
def test_a_sharded_run_is_the_run_of_one_process(run_folder: Path) -> None:
    """All that is scored, trained, measured and sampled; the models are measured together, the files written once."""
    settings = [
        "train.steps=5", "evals.frontier=2", "evals.benchmarks=[perplexity]",
        "variants.low.train.lora.dropout=0",
    ]  # fmt: skip
    in_two(run_folder, "run", *settings, extra={"PREFZOO_CACHE": str(run_folder / "cache-two")})
    words = [word for one in settings for word in ("--set", one)]
    alone = ["prefzoo", "run", "r.yaml", *words, "--results", "one"]
    launched(alone, run_folder, {"PREFZOO_CACHE": str(run_folder / "cache-one")})
    one, two = run_folder / "one" / "tiny", run_folder / "two" / "tiny"
    assert {p.relative_to(one) for p in one.rglob("*")} == {p.relative_to(two) for p in two.rglob("*")}
    for name in ("dpo", "shift", "moving", "low"):
        close(one / name / "metrics.jsonl", two / name / "metrics.jsonl")
    for name in ("base", "dpo", "shift", "moving", "low"):
        numbers = [json.loads((folder / name / "evals.json").read_text()) for folder in (one, two)]
        assert numbers[0]["answers"] == numbers[1]["answers"]
        for kind in ("margins", "kl"):
            assert numbers[1][kind] == pytest.approx(numbers[0][kind], rel=1e-3, abs=1e-3)
        suites = [{suite: own["value"] for suite, own in n["benchmarks"].items()} for n in numbers]
        assert suites[1] == pytest.approx(suites[0], rel=1e-3) and suites[0]
