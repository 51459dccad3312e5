"""lm-eval in process: the number is the one worked out from the model's own log-probs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from evals.benchmarks import SUITES, run_benchmark
from evals.suites.arithmetic.make import items
from prefzoo.data.batches import collate
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.logprobs import score


def test_the_items_are_what_their_program_makes() -> None:
    lines = (SUITES / "arithmetic" / "items.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == items()


def test_unknown_suite() -> None:
    with pytest.raises(UserError, match="did you mean 'arithmetic'"):
        run_benchmark(None, None, "arithmetics")


@pytest.mark.filterwarnings("ignore")  # lm-eval's own
@torch.no_grad()
def test_accuracy_is_that_of_our_own_log_probs(tiny_model: Any, tiny_plain_tokenizer: Any) -> None:
    tokenizer, right = tiny_plain_tokenizer, 0
    for item in items():
        asked = f"Question: {item['question']}\nAnswer:"
        prompt = tokenizer(asked)["input_ids"]
        answers = [tokenizer(f"{asked} {c}")["input_ids"][len(prompt) :] for c in item["choices"]]  # type: ignore[attr-defined]
        pairs = [TokenPair(prompt, a, answers[0], i) for i, a in enumerate(answers)]
        sums = score(tiny_model, collate(pairs, "shared", pad=1)).chosen
        right += int(sums.argmax()) == item["label"]
    state = torch.get_rng_state()
    found = run_benchmark(tiny_model, tokenizer, "arithmetic")
    assert found["value"] == pytest.approx(right / 100) and found["n"] == 100
    assert torch.equal(state, torch.get_rng_state())
