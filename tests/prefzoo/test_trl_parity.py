"""Step by step against TRL: same rows, weights, order, learning rate and schedule, fp32, full fine-tuning."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from one_policy import train_one

from prefzoo import losses
from prefzoo.data.batches import order
from prefzoo.data.schemas import normalise
from prefzoo.data.tokenising import tokenise
from prefzoo.engine import reference_logprobs
from prefzoo.recipe.sections import Train
from prefzoo.training.job import Job

STEPS, BATCH, RATE, SEED = 8, 4, 1e-3, 0
COMPARED = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen", "logps/rejected")
SUBJECTS = ("river", "winter", "one sentence", "the north", "cold", "a system")
ROWS = [
    {
        "prompt": f"say why the {SUBJECTS[i % 6]} is {'long' if i % 2 else 'cold'}: ",
        "chosen": "the river is long and cold in winter"[: 6 + 2 * i],
        "rejected": f"answer {'in one sentence' * (1 + i % 3)}",
    }
    for i in range(STEPS * BATCH // 2)  # two epochs
]


def ours(model: Any, tokenizer: Any, loss: str, params: dict[str, float], tmp_path: Path) -> list[dict[str, float]]:
    one = losses.get(loss)
    pairs = tokenise(normalise(ROWS, "rows"), tokenizer, 200, "drop").examples
    values = reference_logprobs.logprobs(model, pairs, "shared", bf16=False)
    train = Train(
        batch=BATCH, steps=STEPS, learning_rate=RATE, warmup=0.0, schedule="linear", weight_decay=0.0, precision="fp32"
    )
    job = Job(one, one.Params(**params), train, SEED, pairs, "shared", bf16=False, reference=values)
    train_one(job, copy.deepcopy(model), tmp_path / "ours.jsonl")
    return [json.loads(line) for line in (tmp_path / "ours.jsonl").read_text().splitlines()]


def theirs(
    model: Any, tokenizer: Any, loss: str, beta: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> list[dict[str, float]]:
    from datasets import Dataset, disable_progress_bars
    from torch.utils.data import SequentialSampler
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    caplog.set_level(logging.ERROR)

    class InOrder(DPOTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *args: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    seen = [ROWS[i] for rows in order(len(ROWS), BATCH, STEPS, SEED) for i in rows]
    config = DPOConfig(
        output_dir=str(tmp_path / "trl"), loss_type=[loss], beta=beta, learning_rate=RATE, max_steps=STEPS,
        per_device_train_batch_size=BATCH, lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.0,
        max_grad_norm=1.0, logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, bf16=False,
        use_cpu=True, gradient_checkpointing=False, seed=SEED, max_length=200,
    )  # fmt: skip
    trainer = InOrder(
        model=copy.deepcopy(model), ref_model=copy.deepcopy(model), args=config, processing_class=tokenizer,
        train_dataset=Dataset.from_list(seen),
    )  # fmt: skip
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mine", "params", "loss", "beta"),
    [
        ("dpo", {"beta": 0.1}, "sigmoid", 0.1),
        ("ipo_mean", {"tau": 0.2}, "ipo", 0.2),
        ("hinge", {"beta": 0.05}, "hinge", 0.05),
    ],
)
def test_the_same_numbers_as_trl(
    mine: str, params: dict[str, float], loss: str, beta: float,
    tiny_model: Any, tiny_plain_tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    a = ours(tiny_model, tiny_plain_tokenizer, mine, params, tmp_path)
    b = theirs(tiny_model, tiny_plain_tokenizer, loss, beta, tmp_path, caplog)
    assert len(a) == len(b) == STEPS >= 6
    moved = abs(a[-1]["logps/chosen"] - a[0]["logps/chosen"])
    assert moved > 1  # nats: else agreement would say nothing
    scale = 1.0 if hasattr(losses.get(mine).Params(), "beta") else beta  # rewards of a loss without beta: plain nats
    for step, (x, y) in enumerate(zip(a, b, strict=True)):
        for name in COMPARED:
            value = x[name] * (scale if name.startswith("rewards/") else 1)
            assert value == pytest.approx(y[name], rel=1e-3, abs=2e-4), (step, name)
