"""vLLM through a module of the same surface, in its own process: one engine, an adapter per variant, seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vllm_stand_in import install, requests

from prefzoo.data.encoding import encode_prompt
from prefzoo.errors import UserError
from prefzoo.evals.generation import vllm
from prefzoo.evals.generation.vllm import Engine, check_vllm, vllm_answers


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `vllm` on the path that writes down what it was asked, and two adapters."""
    install(tmp_path, monkeypatch)
    for name, rank in (("dpo", 8), ("ipo", 12)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return tmp_path


def test_one_engine_and_a_request_per_adapter(fake: Path, tiny_tokenizer: Any) -> None:
    adapters = {"base": None, "dpo": str(fake / "dpo"), "ipo": str(fake / "ipo")}
    prompts = ["Say one", [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Say it twice"}]]
    answers = vllm_answers("the/model", tiny_tokenizer, adapters, prompts, max_new_tokens=3)
    ids = [encode_prompt(tiny_tokenizer, prompt) for prompt in prompts]
    engine, *asked = requests(fake)
    assert engine == {"model": "the/model", "rank": 16, "length": max(map(len, ids)) + 3}
    assert [one["adapter"] for one in asked] == [
        None, ["adapter-1", 1, str(fake / "dpo")], ["adapter-2", 2, str(fake / "ipo")]
    ]  # fmt: skip
    assert all(one["prompts"] == ids and one["temperature"] == 0 and one["seeds"] == [None] for one in asked)
    for prompt, answer in zip(ids, answers["dpo"], strict=True):
        ends = len(prompt) % 2 == 0
        assert answer.finished is ends and answer.tokens == (1 if ends else 3)


def test_the_template_is_given_its_variables(fake: Path, tiny_tokenizer: Any) -> None:
    tiny_tokenizer.chat_template += "{% if enable_thinking is false %}<|im_start|>{% endif %}"
    off: dict[str, Any] = {"enable_thinking": False}
    vllm_answers("the/model", tiny_tokenizer, {"base": None}, ["Say one"], max_new_tokens=3, variables=off)
    vllm_answers("the/model", tiny_tokenizer, {"base": None}, ["Say one"], max_new_tokens=3)
    ids = [encode_prompt(tiny_tokenizer, "Say one", variables) for variables in (off, {})]
    assert [one["prompts"] for one in requests(fake) if "prompts" in one] == [[own] for own in ids] and ids[0] != ids[1]


def test_every_sampled_answer_has_a_seed_of_its_own(fake: Path, tiny_tokenizer: Any) -> None:
    prompts = [encode_prompt(tiny_tokenizer, text) for text in ("Say one", "Say two")]
    settings = {"n": 3, "temperature": 0.7, "seed": 5, "max_new_tokens": 4}
    with Engine("the/model", tiny_tokenizer, 99) as engine:
        both = engine.sample(prompts, **settings)
        alone = engine.sample(prompts[1:], **settings)
        other = engine.sample(prompts, **{**settings, "seed": 6})
    assert [len(several) for several in both] == [3, 3] and both[1] == alone[0] and both != other
    seeds = requests(fake)[1]["seeds"]
    assert len({*seeds}) == 6 and all(0 <= seed < 2**63 for seed in seeds)
    assert requests(fake)[1]["temperature"] == 0.7


def test_an_engine_that_fails(fake: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")  # of a launcher, for which the engine would wait
    with pytest.raises(UserError, match="vllm: the process ended with code 1: RuntimeError: no GPU found"):
        vllm_answers("broken", tiny_tokenizer, {"base": None}, ["a"], max_new_tokens=3)


def test_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"--engine: vllm is not installed; pip install 'prefzoo[vllm]'".replace("[", r"\[")
    ):
        check_vllm("--engine")


def test_the_worker_serves_in_process(fake: Path) -> None:
    from prefzoo.evals.generation.vllm_worker import serve

    job = {"prompts": [[1, 2], [1, 2, 3]], "max_new_tokens": 2, "temperature": 1.0, "seeds": [7, 8], "adapter": None}
    lines = [
        json.dumps(one)
        for one in ({"model": "m", "rank": 0, "max_model_len": 9, "dtype": "auto"}, {**job, "ends": [3]})
    ]
    ready, rows = serve(lines)
    assert ready == "ready" and [row["finished"] for row in rows] == [True, True]
    assert requests(fake)[1]["seeds"] == [7, 8]
