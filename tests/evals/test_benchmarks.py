"""lm-eval in process: the number is the one worked out from the model's own log-probs; what cannot be run says why."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from prefzoo.data.batches import collate
from prefzoo.data.tokens import TokenPair
from prefzoo.engine.logprobs import score
from prefzoo.errors import UserError
from prefzoo.evals.suites.arithmetic.make import items
from prefzoo.evals.suites.benchmarks import run_benchmark
from prefzoo.evals.suites.tasks import check_names, is_benchmark, suite_key

pytestmark = pytest.mark.slow  # lm-eval takes six seconds to import

OWN = """\
task: mine
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: label
doc_to_choice: "{{{{choices}}}}"
metric_list: [{{metric: acc}}]
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A task file of a user's own, with its data."""
    rows = [{"question": f"Say {i}", "choices": ["one", "two"], "label": i % 2} for i in range(6)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "mine.yaml").write_text(OWN.format(data=tmp_path / "mine.jsonl"))
    return tmp_path


@torch.no_grad()
def test_accuracy_is_that_of_our_own_log_probs(tiny_model: Any, tiny_plain_tokenizer: Any) -> None:
    tokenizer, right = tiny_plain_tokenizer, []
    for item in items()[:40]:
        asked = f"Question: {item['question']}\nAnswer:"
        prompt = tokenizer(asked)["input_ids"]
        answers = [tokenizer(f"{asked} {c}")["input_ids"][len(prompt) :] for c in item["choices"]]
        pairs = [TokenPair(prompt, a, answers[0], i) for i, a in enumerate(answers)]
        sums = score(tiny_model, collate(pairs, "shared", pad=1)).chosen
        right.append(float(int(sums.argmax()) == item["label"]))
    state = torch.get_rng_state()
    measured = run_benchmark(tiny_model, tokenizer, "arithmetic", limit=40)["arithmetic"]
    assert measured["value"] == pytest.approx(sum(right) / 40) and measured["n"] == 40
    assert [r["score"] for r in measured["samples"]] == right and len(
        {r["doc_hash"] for r in measured["samples"]}
    ) == 40
    assert torch.equal(state, torch.get_rng_state()) and not measured["chat_template"]


@torch.no_grad()
def test_bits_per_byte_are_those_of_our_own_log_probs(tiny_model: Any, tiny_plain_tokenizer: Any) -> None:
    from lm_eval.utils import get_rolling_token_windows

    from prefzoo.evals.suites.perplexity.make import items as passages

    texts = [p["text"] for p in passages()[:3]]
    measured = run_benchmark(tiny_model, tiny_plain_tokenizer, "perplexity", limit=3)["perplexity"]
    nats = 0.0
    for text, row in zip(texts, measured["samples"], strict=True):
        ids, logp = tiny_plain_tokenizer(text)["input_ids"], 0.0
        width = tiny_model.config.max_position_embeddings
        for before, scored in get_rolling_token_windows(ids, tiny_plain_tokenizer.bos_token_id, width, 1):
            tokens = [*before[: len(before) - len(scored) + 1], *scored]
            each = tiny_model(torch.tensor([tokens[:-1]])).logits[0].double().log_softmax(-1)
            picked = each.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
            logp += float(picked[-len(scored) :].sum())
        assert row["score"] == pytest.approx(-logp / len(text.encode()) / math.log(2), rel=1e-4)
        nats += logp
    total = sum(len(t.encode()) for t in texts)
    assert (
        measured["value"] == pytest.approx(-nats / total / math.log(2), rel=1e-4) and not measured["higher_is_better"]
    )


def test_log_probs_of_a_model_in_bf16_are_fp32(
    tiny_model: Any, tiny_plain_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: set[torch.dtype] = set()
    real = torch.nn.functional.log_softmax

    def log_softmax(*args: Any, **words: Any) -> torch.Tensor:
        result = real(*args, **words)
        kinds.add(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.functional, "log_softmax", log_softmax)
    assert run_benchmark(tiny_model.to(torch.bfloat16), tiny_plain_tokenizer, "arithmetic", limit=2)["arithmetic"]["n"]
    assert kinds == {torch.float32}


def test_generation_goes_through_the_chat_template(
    tiny_model: Any, tiny_tokenizer: Any, tiny_plain_tokenizer: Any
) -> None:
    for tokenizer in (tiny_tokenizer, tiny_plain_tokenizer):
        measured = run_benchmark(tiny_model, tokenizer, "instructions", limit=2)["instructions"]
        assert (
            measured["chat_template"] is bool(tokenizer.chat_template)
            and measured["n"] == len(measured["samples"]) == 2
        )


def test_a_task_file_and_a_folder_of_ones_own(own: Path, tiny_model: Any, tiny_plain_tokenizer: Any) -> None:
    key = suite_key("mine.yaml", own)
    by_file = run_benchmark(tiny_model, tiny_plain_tokenizer, "mine.yaml", folder=own)
    assert by_file["mine"]["n"] == 6 and by_file["mine"]["suite"] == f"mine.yaml@{key}"
    by_folder = run_benchmark(tiny_model, tiny_plain_tokenizer, str(own))
    assert by_folder["mine"]["samples"] == by_file["mine"]["samples"]
    with (own / "mine.jsonl").open("a") as f:
        f.write("\n")
    assert suite_key("mine.yaml", own) != key  # other data, another result


def test_what_cannot_be_reached_has_a_reason_and_no_number(
    own: Path, tiny_model: Any, tiny_plain_tokenizer: Any
) -> None:
    (own / "far.yaml").write_text((own / "mine.yaml").read_text().replace("task: mine", "task: far").replace(
        "dataset_path: json", "dataset_path: nobody/nothing").replace("dataset_kwargs", "metadata"))  # fmt: skip
    measured = run_benchmark(tiny_model, tiny_plain_tokenizer, str(own))
    assert math.isnan(measured["far"]["value"]) and measured["far"]["n"] == 0 and measured["far"]["samples"] == []
    assert "nobody/nothing" in measured["far"]["reason"] and measured["mine"]["n"] == 6


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("gone.yaml", None, "gone.yaml: no such file; paths are relative to the recipe"),
        ("odd.yaml", "a: [", "odd.yaml: is not a task file"),
        ("list.yaml", "- a", "list.yaml: is not a task file ("),
        ("nameless.yaml", "a: 1", "nameless.yaml: has neither `task:` nor `group:`"),
        ("empty", None, "empty: no task file in this folder"),
    ],
)
def test_what_is_wrong_with_a_task_file(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    (tmp_path / "empty").mkdir()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as e:
        check_names([name], tmp_path)
    assert str(e.value).startswith("evals.benchmarks: ") and says in str(e.value)


def test_names(tmp_path: Path) -> None:
    check_names(["hellaswag"], tmp_path)  # one of lm-eval's; whether its data is there shows when it is run
    with pytest.raises(UserError, match="did you mean 'arithmetic'"):
        check_names(["arithmetics"], tmp_path)
    (tmp_path / "p.jsonl").write_text("")
    meant = {n: is_benchmark(n, tmp_path) for n in ("arithmetic", "mmlu", "a.yaml", ".", "instruct:eval:3", "p.jsonl")}
    assert [n for n, yes in meant.items() if not yes] == ["instruct:eval:3", "p.jsonl"]
