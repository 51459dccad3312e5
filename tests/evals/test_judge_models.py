"""Local models as judges: the preference is the one worked out from the model's own outputs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from prefzoo.data.encoding import encode_prompt
from prefzoo.errors import UserError
from prefzoo.evals.judges import load_judge
from prefzoo.evals.judges.causal import ModelSettings
from prefzoo.evals.judges.judge_prompt import JudgePrompt
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow
from prefzoo.evals.judges.reward import RewardSettings

TEXTS = [("the river", "a long river in the north"), ("cold", "cold and long"), ("same", "same")]
ASKED = [
    Comparison(PromptRow(str(i), f"say {i}"), Answer(a, True, 1), Answer(b, True, 1)) for i, (a, b) in enumerate(TEXTS)
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def causal(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any) -> Path:
    tiny_model.config.max_position_embeddings = 2048
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path


@torch.no_grad()
def test_the_verdict_tokens_decide_in_both_orders(causal: Path, tiny_model: Any, tiny_tokenizer: Any) -> None:
    judge = load_judge(ModelSettings(kind="model", model="model"), causal)
    outcomes = judge.compare(ASKED)
    a, b = (tiny_tokenizer(x, add_special_tokens=False)["input_ids"] for x in "AB")
    for c, verdict in zip(ASKED[:2], outcomes[:2], strict=True):
        by_hand = []
        for order in (c, Comparison(c.row, c.second, c.first)):
            ids = encode_prompt(tiny_tokenizer, JudgePrompt().filled(order))
            p = tiny_model(torch.tensor([ids])).logits[0, -1].softmax(-1)
            by_hand.append(1 + float(p[b[0]] / (p[a[0]] + p[b[0]])))
        assert verdict.orders == pytest.approx((by_hand[0], 3 - by_hand[1]), abs=1e-4)
        assert verdict.preference == pytest.approx((by_hand[0] + 3 - by_hand[1]) / 2, abs=1e-4)
    assert outcomes[2].preference == 1.5 and outcomes[2].orders == ()
    assert judge.name.startswith("model:model@") and judge.prompt_hash == JudgePrompt().hash
    assert judge.forecast(ASKED) == "" and judge.compare([ASKED[2]])[0].preference == 1.5


def test_a_plain_tokenizer_and_a_template_of_ones_own(causal: Path, tiny_model: Any, tiny_plain_tokenizer: Any) -> None:
    tiny_plain_tokenizer.save_pretrained(causal / "model")
    (causal / "q.txt").write_text("{instruction}\n1: {first}\n2: {second}\nBetter:")
    (causal / "model" / "chat_template.jinja").unlink(missing_ok=True)
    judge = load_judge(ModelSettings(kind="model", model="model", prompt="q.txt"), causal)
    (outcome,) = judge.compare(ASKED[:1])
    assert 1 < outcome.preference < 2 and judge.prompt_hash != JudgePrompt().hash


def test_a_question_too_long_is_missing(causal: Path) -> None:
    judge = load_judge(ModelSettings(kind="model", model="model"), causal)
    long = Comparison(PromptRow("1", "say"), Answer("x y " * 2000, True, 1), Answer("b", True, 1))
    outcomes = judge.compare([ASKED[0], long])
    assert not outcomes[0].missing and outcomes[1].missing == "the question is longer than the judge's 2048 tokens"


@pytest.fixture
def reward(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any) -> tuple[Path, Any]:
    from transformers import LlamaForSequenceClassification

    config = copy.deepcopy(tiny_model.config)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = LlamaForSequenceClassification(config).eval()
    model.save_pretrained(tmp_path / "rm")
    tiny_tokenizer.save_pretrained(tmp_path / "rm")
    return tmp_path, model


@torch.no_grad()
def test_the_reward_model_prefers_by_the_sigmoid_of_the_difference(
    reward: tuple[Path, Any], tiny_tokenizer: Any
) -> None:
    folder, model = reward
    judge = load_judge(RewardSettings(kind="reward", model="rm"), folder)
    assert judge.scores_answers
    told: list[tuple[int, int]] = []
    outcomes = judge.compare(ASKED, lambda *x: told.append(x))
    for c, verdict in zip(ASKED[:2], outcomes[:2], strict=True):
        scores = []
        for answer in (c.first, c.second):
            turns = [{"role": "user", "content": c.row.prompt}, {"role": "assistant", "content": answer.text}]
            text = tiny_tokenizer.apply_chat_template(turns, tokenize=False)
            ids = tiny_tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
            scores.append(model(ids).logits[0, 0])
        assert verdict.preference == pytest.approx(1 + float(torch.sigmoid(scores[1] - scores[0])), abs=1e-5)
        assert judge.scores([(c.row, c.first)]) == pytest.approx([float(scores[0])], abs=1e-4)
    assert outcomes[2].preference == 1.5 and told == [(5, 5)] and judge.name.startswith("reward:rm@")


def test_an_answer_too_long_for_the_reward_model(reward: tuple[Path, Any]) -> None:
    judge: Any = load_judge(RewardSettings(kind="reward", model="rm"), reward[0])
    long = Answer("x y " * 400, True, 1)
    (outcome,) = judge.compare([Comparison(PromptRow("1", "p"), long, Answer("b", True, 1))])
    assert outcome.missing.endswith("tokens, but the judge reads at most 256")
    assert judge.scores([(PromptRow("1", "p"), long)]) == [outcome.missing]


def test_models_that_are_no_judges(causal: Path) -> None:
    with pytest.raises(UserError, match=r"^evals.judge: model is LlamaForCausalLM with \d outputs, not a reward model"):
        load_judge(RewardSettings(kind="reward", model="model"), causal)
    with pytest.raises(UserError, match=r"^evals.judge: model ./none: no such folder"):
        load_judge(ModelSettings(kind="model", model="./none"), causal)
    (causal / "empty").mkdir()
    (causal / "empty" / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"^evals.judge: empty cannot be loaded"):
        load_judge(RewardSettings(kind="reward", model="empty"), causal)
