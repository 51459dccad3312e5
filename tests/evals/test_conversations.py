"""Prompts that are conversations: read in every form, rendered by the template, put whole to each judge, and shown."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prefzoo.data.encoding import encode_prompt
from prefzoo.data.reading import DataSource
from prefzoo.errors import UserError
from prefzoo.evals.generation.generate import generate
from prefzoo.evals.generation.pairs import Rule, pick
from prefzoo.evals.judges.conversations import as_text
from prefzoo.evals.judges.function import judge_by
from prefzoo.evals.judges.judge_prompt import JudgePrompt
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow
from prefzoo.evals.judges.reward import RewardJudge
from prefzoo.evals.judges.rows import output_rows
from prefzoo.evals.report.prompts import browser
from prefzoo.evals.suites.prompts import check_rendered, load_prompts
from prefzoo.experiment.labelled_pairs import read_labelled
from prefzoo.experiment.labels import labels_of
from prefzoo.experiment.recipe_judge import check_judgeable
from prefzoo.runtime.cache import cached_by_prompt

SYSTEM = {"role": "system", "content": "Be terse."}
ASK, REPLY, MORE = (
    {"role": role, "content": text}
    for role, text in (("user", "Name a river."), ("assistant", "Elbe."), ("user", "Another?"))
)
TALK = [SYSTEM, ASK, REPLY, MORE]
ROW = PromptRow("1", TALK)
YES, NO = Answer("Oder.", True, 2), Answer("No.", True, 2)
FORMS: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": TALK},
    "text of JSON": {"prompt": json.dumps(TALK)},
    "messages": {"messages": TALK},
    "an answer at the end": {"messages": [*TALK, {"role": "assistant", "content": "Oder."}]},
    "ShareGPT": {"conversations": [
        {"from": "system", "value": "Be terse."}, {"from": "human", "value": "Name a river."},
        {"from": "gpt", "value": "Elbe."}, {"from": "human", "value": "Another?"},
    ]},
    "system column": {"system": "Be terse.", "prompt": TALK[1:]},
    "content in parts": {"prompt": [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in TALK]},
    "pairs": {"chosen": [*TALK, {"role": "assistant", "content": "Oder."}],
              "rejected": [*TALK, {"role": "assistant", "content": "No."}]},
}  # fmt: skip


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_conversation_is_read(form: str, tmp_path: Path) -> None:
    lines: list[str] = []
    rows = load_prompts("p.jsonl", written(tmp_path, FORMS[form], {"prompt": "plain"}), lines.append)
    assert [row.prompt for row in rows] == [TALK, "plain"]
    cut = "p.jsonl: 1 of 2 conversations end with an answer, which is left out of the prompt"
    assert lines == ([cut] if form == "an answer at the end" else [])


def test_one_message_of_the_user_is_a_text(tmp_path: Path) -> None:
    rows = load_prompts("p.jsonl", written(tmp_path, {"messages": [ASK]}, {"system": "Be terse.", "prompt": "Hi."}))
    assert [row.prompt for row in rows] == ["Name a river.", [SYSTEM, {"role": "user", "content": "Hi."}]]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": [*TALK, REPLY]}, "ends with a message of 'assistant'; the last message must be the user's"),
        ({"prompt": [SYSTEM]}, "ends with a message of 'system'"),
        ({"messages": [REPLY]}, "ends with nothing"),
        ({"prompt": ["Hi.", "Why?"]}, "neither text nor a list of messages with role and content; write it like"),
        ({"prompt": 5}, "neither text nor a list"),
        ({"prompt": [{"role": "user", "content": " "}]}, "the last message is empty; fill it"),
        ({"messages": "Hi."}, "messages is not a list of messages"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "has a part of type 'image'"),
        ({"prompt": "Hi.", "tools": [{"name": "f"}]}, "tools is not used with prompts; remove the column"),
        ({"prompt": "Hi.", "chat_template_kwargs": {"a": 1}}, "chat_template_kwargs is not used with prompts"),
        ({"prompt": [SYSTEM, ASK], "system": "Sing."}, "the system column differs from the system message"),
        ({"text": "Hi."}, "prompt is missing or empty"),
    ],
)
def test_what_is_no_prompt_is_named_by_row(row: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        load_prompts("p.jsonl", written(tmp_path, {"prompt": "fine"}, row))
    assert len(told.value.lines) == 1 and told.value.lines[0].startswith("p.jsonl: row 2: ")
    assert says in told.value.lines[0]


def test_a_template_that_refuses_or_leaves_out_a_message_is_told(tiny_tokenizer: Any) -> None:
    check_rendered([ROW, PromptRow("2", "plain")], tiny_tokenizer, {}, "evals.prompts: p.jsonl")
    tiny_tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    with pytest.raises(UserError, match="p.jsonl: prompt 1: the chat template leaves out the message of 'system'"):
        check_rendered([ROW], tiny_tokenizer, {}, "evals.prompts: p.jsonl")
    tiny_tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(UserError, match="prompt 1: the chat template refuses the roles system, user, .*no system role"):
        check_rendered([ROW], tiny_tokenizer, {}, "evals.prompts: p.jsonl")


def test_a_model_answers_what_its_template_writes(tiny_model: Any, tiny_tokenizer: Any) -> None:
    text = tiny_tokenizer.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True)
    assert encode_prompt(tiny_tokenizer, TALK) == tiny_tokenizer(text, add_special_tokens=False)["input_ids"]
    whole, last = generate(tiny_model, tiny_tokenizer, [TALK, "Another?"], max_new_tokens=4)
    assert whole != last


def test_answers_to_conversations_are_cached_by_all_of_their_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path))
    asked: list[Any] = []

    def make(prompts: list[Any]) -> list[Any]:
        asked.append(prompts)
        return [as_text(p) for p in prompts]

    short = [ASK]
    for _ in range(2):
        assert cached_by_prompt("answers", {}, [TALK, "a text that is long", short], make, together=9) == [
            as_text(TALK), "a text that is long", as_text(short)
        ]  # fmt: skip
    assert asked == [["a text that is long", short, TALK]]  # by length, not by the number of messages
    cached_by_prompt("answers", {}, [TALK[1:], "a text that is long", short], make, together=9)
    assert len(asked) == 2


def test_judges_get_the_whole_conversation(tiny_model: Any, tiny_tokenizer: Any) -> None:
    text = "[system]\nBe terse.\n\n[user]\nName a river.\n\n[assistant]\nElbe.\n\n[user]\nAnother?"
    assert ROW.text == text and text in JudgePrompt().filled(Comparison(ROW, YES, NO))
    seen: list[Any] = []

    def plain(instruction: str, output: str) -> float:
        seen.append(instruction)
        return 1.0

    def listed(messages: list[dict[str, str]], output_1: str, output_2: str) -> float:
        seen.append(messages)
        return 1.5

    judge_by(plain, "f").scores([(ROW, YES)])
    judge_by(listed, "f").compare([Comparison(ROW, YES, NO)])
    judge_by(listed, "f").compare([Comparison(PromptRow("2", "Name a river."), YES, NO)])
    assert seen == [text, TALK, TALK, [ASK], [ASK]]


def test_a_reward_model_reads_the_conversation_by_its_own_template(tiny_model: Any, tiny_tokenizer: Any) -> None:
    from transformers import LlamaForSequenceClassification

    config = copy.deepcopy(tiny_model.config)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = LlamaForSequenceClassification(config).eval()
    text = tiny_tokenizer.apply_chat_template([*TALK, {"role": "assistant", "content": "Oder."}], tokenize=False)
    ids = torch.tensor([tiny_tokenizer(text, add_special_tokens=False)["input_ids"]])
    judge = RewardJudge(model, tiny_tokenizer, "rm")
    with torch.no_grad():
        assert judge.scores([(ROW, YES)])[0] == pytest.approx(float(model(ids).logits[0, 0]), abs=1e-5)
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
    tiny_tokenizer.chat_template = refuses + "{% for m in messages %}{{ m.content }}{% endfor %}"
    scored, refused = judge.scores([(PromptRow("2", "Hi."), YES), (ROW, YES)])
    assert isinstance(scored, float) and "refuses the roles system, user" in str(refused)


def test_labels_are_found_by_the_conversation(tmp_path: Path) -> None:
    pair = {"prompt": TALK, "chosen": [{"role": "assistant", "content": "Oder."}],
            "rejected": [{"role": "assistant", "content": "No."}]}  # fmt: skip
    folder = written(tmp_path, pair, {**pair, "prompt": TALK[1:]})
    labels = labels_of("p.jsonl", folder, [ROW])
    assert (len(labels.pairs), labels.total) == (1, 2) and labels.pairs[0].row is ROW
    assert [p.row.prompt for p in read_labelled(DataSource("p.jsonl"), folder).pairs] == [TALK, TALK[1:]]


def test_the_same_conversation_twice_is_refused() -> None:
    with pytest.raises(UserError, match="1 of 2 prompts are repeated"):
        check_judgeable(judge_by(lambda instruction, output: 1.0, "f"), [ROW, PromptRow("2", TALK)], "a", "b")


def test_pairs_of_a_conversation_are_conversations() -> None:
    pair = pick(ROW, [YES, NO], [1.0, 0.0], Rule()).pair
    assert pair is not None and pair["prompt"] == TALK
    assert pair["chosen"] == [{"role": "assistant", "content": "Oder."}]
    assert pair["rejected"] == [{"role": "assistant", "content": "No."}]


def test_the_report_shows_the_turns() -> None:
    outputs = output_rows([ROW, PromptRow("2", "plain")], [YES, NO], "dpo")
    variant = SimpleNamespace(outputs=outputs, annotations=[], measured=None)
    shown = browser(SimpleNamespace(variants={"dpo": variant}), ["dpo"])  # type: ignore[arg-type]
    assert shown is not None
    talk, plain = shown["prompts"]
    assert [(m["role"], m["text"]) for m in talk["messages"]] == [(m["role"], m["content"]) for m in TALK]
    assert "messages" not in plain and plain["text"] == "plain"
