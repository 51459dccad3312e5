"""Rows in the shapes of public data sets and of other tools: each is told by name and normalised exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from prefzoo.cli import cli
from prefzoo.data.examples import LabelledAnswer, Pair
from prefzoo.data.schemas import all_schemas, read_examples
from prefzoo.errors import UserError


def says(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def human(value: str) -> dict[str, str]:
    return {"from": "human", "value": value}


def gpt(value: str) -> dict[str, str]:
    return {"from": "gpt", "value": value}


ASK, YES, NO, BRIEF = (
    says("user", "is it?"),
    says("assistant", "yes"),
    says("assistant", "no"),
    says("system", "be brief"),
)
MORE, SURE, NOT = says("user", "sure?"), says("assistant", "quite"), says("assistant", "hardly")
HH = "\n\nHuman: is it?\n\nAssistant: {}\n\nHuman: sure?\n\nAssistant: {}"

PAIRS: list[tuple[str, str, dict[str, Any], Any, Any, Any]] = [
    ("orca", "orca", {"system": "be brief", "question": "is it?", "chosen": "yes", "rejected": "no"},
     [BRIEF, ASK], [YES], [NO]),
    ("orca without a system message", "orca", {"system": "", "question": "is it?", "chosen": "yes", "rejected": "no"},
     "is it?", "yes", "no"),
    ("alpaca", "alpaca", {"instruction": "Add", "input": "1 and 2", "chosen": "3", "rejected": "4"},
     "Add\n\n1 and 2", "3", "4"),
    ("alpaca without input", "alpaca", {"instruction": "Add", "input": "", "chosen": "3", "rejected": "4"},
     "Add", "3", "4"),
    ("alpaca with history", "alpaca",
     {"instruction": "sure?", "history": [["is it?", "yes"]], "chosen": "quite", "rejected": "hardly"},
     [ASK, YES, MORE], [SURE], [NOT]),
    ("alpaca outputs", "alpaca outputs", {"instruction": "is it?", "input": "", "output": ["yes", "no"]},
     "is it?", "yes", "no"),
    ("magpie", "alpaca", {"instruction": "is it?", "chosen": [ASK, YES], "rejected": [ASK, NO]}, [ASK], [YES], [NO]),
    ("distilabel", "distilabel", {"system": "be brief", "input": "is it?", "chosen": "yes", "rejected": "no"},
     [BRIEF, ASK], [YES], [NO]),
    ("system beside a prompt", "explicit prompt",
     {"system": "be brief", "prompt": "is it?", "chosen": "yes", "rejected": "no"}, [BRIEF, ASK], [YES], [NO]),
    ("system beside messages", "explicit prompt",
     {"system": "be brief", "prompt": [ASK], "chosen": [YES], "rejected": [NO]}, [BRIEF, ASK], [YES], [NO]),
    ("other names", "other names", {"instruction": "is it?", "chosen_response": "yes", "rejected_response": "no"},
     "is it?", "yes", "no"),
    ("win and lose", "other names", {"prompt": "is it?", "win": "yes", "lose": "no"}, "is it?", "yes", "no"),
    ("positive", "other names", {"prompt": "is it?", "positive": "yes", "negative": "no"}, "is it?", "yes", "no"),
    ("ms-swift's older", "other names", {"query": "is it?", "response": "yes", "rejected_response": "no"},
     "is it?", "yes", "no"),
    ("torchtune", "other names", {"chosen_conversations": [ASK, YES], "rejected_conversations": [ASK, NO]},
     [ASK], [YES], [NO]),
    ("openai", "openai",
     {"input": {"messages": [ASK], "tools": []}, "preferred_output": [YES], "non_preferred_output": [NO]},
     [ASK], [YES], [NO]),
    ("stack exchange", "stack-exchange-paired", {"question": "is it?", "response_j": "yes", "response_k": "no"},
     "is it?", "yes", "no"),
    ("sharegpt", "sharegpt",
     {"conversations": [{"from": "system", "value": "be brief"}, human("is it?")], "chosen": gpt("yes"),
      "rejected": gpt("no")},
     [BRIEF, ASK], [YES], [NO]),
    ("axolotl", "sharegpt", {"messages": [ASK], "chosen": YES, "rejected": NO}, [ASK], [YES], [NO]),
    ("messages and texts", "sharegpt", {"messages": [ASK], "chosen": "yes", "rejected": "no"}, [ASK], [YES], [NO]),
    ("messages beside whole conversations", "sharegpt",
     {"messages": [ASK, YES], "chosen": [ASK, YES], "rejected": [ASK, NO]}, [ASK], [YES], [NO]),
    ("ms-swift", "ms-swift", {"messages": [BRIEF, ASK, YES], "rejected_response": "no"}, [BRIEF, ASK], [YES], [NO]),
    ("ms-swift messages", "ms-swift messages", {"messages": [ASK, YES], "rejected_messages": [ASK, NO]},
     [ASK], [YES], [NO]),
    ("openrlhf", "implicit prompt", {"chosen": [BRIEF, ASK, YES], "rejected": [BRIEF, ASK, NO]}, [BRIEF, ASK],
     [YES], [NO]),
    ("implicit sharegpt", "implicit prompt",
     {"chosen": [human("is it?"), gpt("yes")], "rejected": [human("is it?"), gpt("no")]}, [ASK], [YES], [NO]),
    ("ultrafeedback binarized", "explicit prompt",
     {"prompt": "is it?", "chosen": [ASK, YES], "rejected": [ASK, NO], "messages": [ASK, YES]}, [ASK], [YES], [NO]),
    ("prompt messages repeated in both answers", "explicit prompt",
     {"prompt": [ASK], "chosen": [ASK, YES], "rejected": [ASK, NO]}, [ASK], [YES], [NO]),
    ("only the last prompt message repeated", "explicit prompt",
     {"prompt": [BRIEF, ASK], "chosen": [ASK, YES], "rejected": [ASK, NO]}, [BRIEF, ASK], [YES], [NO]),
    ("a system message in the answers alone", "explicit prompt",
     {"prompt": [ASK], "chosen": [BRIEF, ASK, YES], "rejected": [BRIEF, ASK, NO]}, [BRIEF, ASK], [YES], [NO]),
    ("text prompt repeated", "repeated prompt",
     {"prompt": "The answer is:", "chosen": "The answer is: yes", "rejected": "The answer is: no"},
     "The answer is:", " yes", " no"),
    ("hh", "transcripts", {"chosen": HH.format("yes", "quite"), "rejected": HH.format("yes", "hardly")},
     [ASK, YES, MORE], [SURE], [NOT]),
    ("hh with a prompt column", "transcripts",
     {"prompt": "\n\nHuman: is it?\n\nAssistant:", "chosen": " yes", "rejected": " no"}, [ASK], [YES], [NO]),
    ("hh with a repeated prompt", "transcripts",
     {"prompt": "\n\nHuman: is it?\n\nAssistant:", "chosen": "\n\nHuman: is it?\n\nAssistant: yes",
      "rejected": "\n\nHuman: is it?\n\nAssistant: no"}, [ASK], [YES], [NO]),
    ("shp", "shp", {"history": "is it?", "human_ref_A": "no", "human_ref_B": "yes", "labels": 0}, "is it?", "yes",
     "no"),
    ("safe-rlhf", "safe-rlhf",
     {"prompt": "is it?", "response_0": "no", "response_1": "yes", "better_response_id": 1, "safer_response_id": 0},
     "is it?", "yes", "no"),
    ("arena", "arena", {"conversation_a": [ASK, NO], "conversation_b": [ASK, YES], "winner": "model_b"},
     [ASK], [YES], [NO]),
    ("arena votes", "arena votes",
     {"prompt": '["is it?", "sure?"]', "response_a": '["yes", "quite"]', "response_b": '["yes", "hardly"]',
      "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0}, [ASK, YES, MORE], [SURE], [NOT]),
    ("helpsteer2", "helpsteer preferences",
     {"prompt": "is it?", "response_1": "yes", "response_2": "no", "preference_strength": -2}, "is it?", "yes", "no"),
    ("helpsteer3", "helpsteer preferences",
     {"context": [ASK], "response1": "no", "response2": "yes", "overall_preference": 3}, [ASK], [YES], [NO]),
    ("alpacafarm", "two answers and a choice",
     {"instruction": "Add", "input": "1", "output_1": "3", "output_2": "4", "preference": 1}, "Add\n\n1", "3", "4"),
    ("letters", "two answers and a choice",
     {"prompt": "is it?", "response_a": "no", "response_b": "yes", "winner": "B"}, "is it?", "yes", "no"),
    ("chosen is a choice", "two answers and a choice",
     {"prompt": "is it?", "response_1": "no", "response_2": "yes", "chosen": 2}, "is it?", "yes", "no"),
    ("webgpt", "two answers and scores",
     {"question": {"full_text": "is it?"}, "answer_0": "no", "answer_1": "yes", "score_0": -1, "score_1": 1},
     "is it?", "yes", "no"),
    ("ultrafeedback", "ultrafeedback",
     {"instruction": "is it?", "completions": [
         {"response": "perhaps", "overall_score": 5.0}, {"response": "yes", "overall_score": 8.5},
         {"response": "no", "overall_score": 1.0}, {"response": "what?", "overall_score": 2.0}]}, "is it?", "yes",
          "no"),
    ("nectar", "nectar",
     {"prompt": "\n\nHuman: is it?\n\nAssistant: ", "answers": [
         {"answer": "no", "rank": 3.0}, {"answer": "yes", "rank": 1.0}, {"answer": "perhaps", "rank": 2.0}]},
     [ASK], [YES], [NO]),
    ("distilabel's ratings", "rated answers", {"input": "is it?", "generations": ["no", "yes"], "ratings": [1, 4]},
     "is it?", "yes", "no"),
    ("texts with rewards", "rated answers",
     {"prompt": "is it?", "responses": ["yes", "perhaps", "no"], "rewards": [0.5, 0.1, -1.0]}, "is it?", "yes", "no"),
    ("summaries", "summaries",
     {"info": {"post": "is it?"}, "summaries": [{"text": "no"}, {"text": "yes"}], "choice": 1}, "is it?", "yes", "no"),
    ("nemo's ranks", "rated answers",
     {"context": [ASK], "completions": [{"rank": 1, "completion": [NO]}, {"rank": 0, "completion": [YES]}]},
     [ASK], [YES], [NO]),
    ("nemo's older", "other names", {"prompt": "is it?", "chosen_response": "yes", "rejected_response": "no"},
     "is it?", "yes", "no"),
    ("a prompt that ends with the chosen answer", "sharegpt",
     {"messages": [ASK, YES], "chosen": "yes", "rejected": "no"}, [ASK], [YES], [NO]),
    ("one message as JSON text", "sharegpt",
     {"messages": json.dumps([ASK]), "chosen": json.dumps(YES), "rejected": json.dumps(NO)}, [ASK], [YES], [NO]),
    ("chatml text", "transcripts",
     {"prompt": "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nis it?<|im_end|>\n<|im_start|>assistant\n",
      "chosen": "yes<|im_end|>\n", "rejected": "no<|im_end|>\n"}, [BRIEF, ASK], [YES], [NO]),
    ("parts", "implicit prompt",
     {"chosen": [{"role": "user", "content": [{"type": "text", "text": "is"}, {"type": "text", "text": "it?"}]}, YES],
      "rejected": [{"role": "user", "content": [{"type": "text", "text": "is"}, {"type": "text", "text": "it?"}]}, NO]},
     [says("user", "is\nit?")], [YES], [NO]),
    ("messages as JSON text", "implicit prompt",
     {"chosen": json.dumps([ASK, YES]), "rejected": json.dumps([ASK, NO])}, [ASK], [YES], [NO]),
    ("messages as Python text", "implicit prompt", {"chosen": str([ASK, YES]), "rejected": str([ASK, NO])},
     [ASK], [YES], [NO]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "row", "prompt", "chosen", "rejected"), [c[1:] for c in PAIRS], ids=[c[0] for c in PAIRS]
)
def test_pairs(form: str, row: dict[str, Any], prompt: Any, chosen: Any, rejected: Any) -> None:
    data = read_examples([row], "d")
    (pair,) = data.examples
    assert data.schema == form
    assert isinstance(pair, Pair) and (pair.prompt, pair.chosen, pair.rejected) == (prompt, chosen, rejected)
    assert read_examples([row], "d", form=form) == data


ANSWERS: list[tuple[str, str, dict[str, Any], Any, Any]] = [
    ("trl", "single labelled answers", {"prompt": "is it?", "completion": "yes", "label": True}, "is it?", "yes"),
    ("trl's messages", "single labelled answers", {"prompt": [ASK], "completion": [YES], "label": True}, [ASK], [YES]),
    ("with a system message", "single labelled answers",
     {"system": "be brief", "prompt": "is it?", "completion": "yes", "label": 1}, [BRIEF, ASK], [YES]),
    ("alpaca", "labelled answers of other names",
     {"instruction": "Add", "input": "1 and 2", "output": "3", "kto_tag": True}, "Add\n\n1 and 2", "3"),
    ("axolotl", "labelled answers of other names",
     {"system": "be brief", "question": "is it?", "completion": "yes", "label": True}, [BRIEF, ASK], [YES]),
    ("thumbs", "labelled answers of other names", {"question": "is it?", "answer": "yes", "feedback": "thumbs_up"},
     "is it?", "yes"),
    ("messages", "labelled conversations", {"messages": [BRIEF, ASK, YES], "label": "true"}, [BRIEF, ASK], [YES]),
    ("sharegpt", "labelled conversations", {"conversations": [human("is it?"), gpt("yes")], "kto_tag": True},
     [ASK], [YES]),
    ("hh", "labelled transcripts", {"prompt": "\n\nHuman: is it?\n\nAssistant:", "completion": " yes", "label": True},
     [ASK], [YES]),
]  # fmt: skip


@pytest.mark.parametrize(("form", "row", "prompt", "completion"), [c[1:] for c in ANSWERS], ids=[c[0] for c in ANSWERS])
def test_labelled_answers(form: str, row: dict[str, Any], prompt: Any, completion: Any) -> None:
    data = read_examples([row], "d")
    assert (data.schema, data.examples) == (form, [LabelledAnswer(prompt, completion, True, 0)])


@pytest.mark.parametrize(
    ("label", "good"),
    [
        (True, True), (False, False), (1, True), (0, False), (1.0, True), (-1, False), ("1", True), ("0", False),
        ("true", True), ("False", False), ("TRUE", True), ("yes", True), ("no", False), ("thumbs_up", True),
        ("thumbs-down", False), ("Thumbs Up", True), ("👍", True), ("👎", False), ("👍🏽", True), ("👎🏿", False),
        ("good", True), ("bad", False),
        ("desirable", True), ("undesirable", False), ("chosen", True), ("rejected", False),
    ],
)  # fmt: skip
def test_labels_in_every_spelling(label: Any, good: bool) -> None:
    (answer,) = read_examples([{"prompt": "q", "completion": "a", "label": label}], "d").examples
    assert isinstance(answer, LabelledAnswer) and answer.label is good


@pytest.mark.parametrize("label", ["perhaps", 2, 0.5, None, "", [True]])
def test_other_labels_are_refused(label: Any) -> None:
    with pytest.raises(UserError, match="^d: row 1: label is .*; it must be true .a good answer. or false"):
        read_examples([{"prompt": "q", "completion": "a", "label": label}], "d")


@pytest.mark.parametrize(
    ("user", "assistant"),
    [
        ("\n\nHuman: ", "\n\nAssistant: "), ("Human: ", "\nAssistant: "), ("User: ", "\n\nAssistant: "),
        ("### Instruction:\n", "\n\n### Response:\n"), ("### Human: ", "\n### Assistant: "),
        ("<|user|>\n", "</s>\n<|assistant|>\n"), ("<|prompter|>", "<|endoftext|><|assistant|>"),
        ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"), ("[INST] ", " [/INST] "), ("<s>[INST] ",
         " [/INST]"),
        ("<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"),
        ("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"),
        ("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|><|start_header_id|>assistant"
         "<|end_header_id|>\n\n"),
        ("<｜begin▁of▁sentence｜><｜User｜>", "<｜Assistant｜>"), ("<|im_start|>user<|im_sep|>", "<|im_end|>"
         "<|im_start|>assistant<|im_sep|>"),
        ("<|begin_of_text|><|header_start|>user<|header_end|>\n\n", "<|eot|><|header_start|>assistant<|header_end|>"
         "\n\n"),
        ("<|start_of_role|>user<|end_of_role|>", "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>"),
        ("<BOS_TOKEN><|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|>"
         "<|CHATBOT_TOKEN|>"),
        ("<|endoftext|><|user|>\n", "\n<|assistant|>\n"), ("[gMASK]<sop><|user|>\n", "<|assistant|>\n"),
        ("USER: ", " ASSISTANT: "), ("Question: ", "\n\nAnswer: "), ("Q: ", "\nA: "),
        ("<|start|>user<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        ("<|start|>user<|message|>", "<|end|><|start|>assistant<|message|>"),
    ],
)  # fmt: skip
def test_transcripts_of_every_kind(user: str, assistant: str) -> None:
    head = f"{user}is it?{assistant}"
    whole = {"chosen": f"{head}yes", "rejected": f"{head}no"}
    apart = {"prompt": head, "chosen": "yes", "rejected": "no"}
    for row in (whole, apart):
        data = read_examples([row], "d")
        assert data.schema == "transcripts" and data.examples == [Pair([ASK], [YES], [NO], 0)]
        assert any("split into turns, written as a transcript" in reason for reason in data.counts)


def test_gpt_oss_transcripts_have_system_and_developer_and_only_the_final_channel() -> None:
    head = (
        "<|start|>system<|message|>You are a model.<|end|><|start|>developer<|message|>be brief<|end|>"
        "<|start|>user<|message|>is it?<|end|><|start|>assistant"
    )
    answers = {"chosen": "<|channel|>final<|message|>yes<|return|>", "rejected": "<|channel|>final<|message|>no<|end|>"}
    system = {"role": "system", "content": "You are a model.\n\nbe brief"}
    data = read_examples([{"prompt": head, **answers}], "d")
    assert data.examples == [Pair([system, ASK], [YES], [NO], 0)]
    thinking = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
    fault = (
        "^d: row 1: a transcript of gpt-oss with the channel analysis, which is not read; leave only the channel final"
    )
    for row in (
        {"prompt": head, **answers, "chosen": thinking + answers["chosen"]},
        {"prompt": head + thinking, **answers},
    ):
        with pytest.raises(UserError, match=fault):
            read_examples([row], "d")
    with pytest.raises(UserError, match=fault):
        read_examples([{"prompt": head, "completion": thinking + answers["chosen"], "label": True}], "d")


def test_transcripts_stay_text_without_a_chat_template_or_when_the_format_says_so() -> None:
    row = {"chosen": "\n\nHuman: is it?\n\nAssistant: yes", "rejected": "\n\nHuman: is it?\n\nAssistant: no"}
    expected = [Pair("\n\nHuman: is it?\n\nAssistant:", " yes", " no", 0)]
    assert read_examples([row], "d", turns=False).examples == expected
    assert read_examples([row], "d", form="implicit prompt").examples == expected


def test_a_system_turn_and_a_preamble_are_system_messages() -> None:
    llama = "[INST] <<SYS>>\nbe brief\n<</SYS>>\n\nis it? [/INST] "
    alpaca = "be brief\n\n### Instruction:\nis it?\n\n### Response:\n"
    zephyr = "<|system|>\nbe brief</s>\n<|user|>\nis it?</s>\n<|assistant|>\n"
    for head in (llama, alpaca, zephyr):
        assert read_examples([{"prompt": head, "chosen": "yes", "rejected": "no"}], "d").examples == [
            Pair([BRIEF, ASK], [YES], [NO], 0)
        ]


def test_text_that_only_mentions_a_mark_is_no_transcript() -> None:
    rows = [
        {"prompt": "Who is Human: or Assistant:?", "chosen": "a", "rejected": "b"},
        {"prompt": "Explain <|user|> to me", "chosen": "a", "rejected": "b"},
        {"prompt": "Q: is it?", "chosen": "a", "rejected": "b"},
    ]
    assert [read_examples([row], "d").schema for row in rows] == ["explicit prompt"] * 3


def test_rows_without_turns_among_transcripts_are_read_as_text_and_counted() -> None:
    hh = {"prompt": "\n\nHuman: is it?\n\nAssistant:", "chosen": " yes", "rejected": " no"}
    data = read_examples([hh, hh, {"prompt": "is it?", "chosen": "yes", "rejected": "no"}], "d")
    assert data.examples[2] == Pair("is it?", "yes", "no", 2)
    assert data.counts["without turns, read as text"] == 1
    assert data.words == "transcripts, plain strings and conversations"


@pytest.mark.slow
def test_the_real_transcripts_of_hh_are_split() -> None:
    import gzip

    path = Path(__file__).parents[2] / "../shared/data/hh_rlhf_harmless_base_test.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path.name}: hh-rlhf's test split is not part of the repository")
    with gzip.open(path, "rt", encoding="utf-8") as f:
        rows = [json.loads(line) for line in f]
    from prefzoo.data.faults import Faults

    faults = Faults("hh", "drop")
    data = read_examples(rows, "hh", faults=faults)
    assert data.schema == "transcripts" and len(data.examples) + len(faults.rows) == len(rows) == 2312
    assert {bad.fault.partition(";")[0] for bad in faults.rows} <= {"chosen is empty", "rejected is empty"}
    unsplit = []
    for pair in data.examples:
        assert isinstance(pair, Pair) and isinstance(pair.prompt, list)
        assert pair.prompt[-1]["role"] == "user" and pair.chosen[0]["role"] == "assistant"  # type: ignore[index]
        messages = (*pair.prompt, *pair.chosen, *pair.rejected)
        unsplit += [pair.row] if any("\n\nHuman:" in m["content"] for m in messages) else []  # type: ignore[index]
    assert unsplit == [2036]  # two turns of the assistant in a row, of which the second itself begins with "Human:"


def test_tool_calls_stay_in_messages_and_tools_in_pairs() -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}
    row = {"prompt": [ASK], "chosen": [call], "rejected": [NO], "chat_template_kwargs": {"enable_thinking": False}}
    for tools in ([tool], json.dumps([tool])):
        (pair,) = read_examples([{**row, "tools": tools}], "d").examples
        assert pair.tools == [tool] and pair.template == {"enable_thinking": False}
        assert isinstance(pair, Pair) and pair.chosen == [{**call, "content": ""}]


def test_sharegpt_function_calls_become_tool_calls() -> None:
    call = {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'}
    conversation = [human("is it?"), call, {"from": "observation", "value": "3"}]
    (pair,) = read_examples(
        [{"conversations": conversation, "chosen": gpt("yes"), "rejected": gpt("no")}], "d"
    ).examples
    assert pair.prompt == [
        ASK,
        {"role": "assistant", "content": "", "tool_calls": [
            {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]},
        says("tool", "3"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"chosen": [{"role": "user", "content": [{"type": "image"}]}, YES], "rejected": [ASK, NO]},
         "message 1 has a part of type 'image', and only text can be trained on"),
        ({"prompt": [ASK], "chosen": [YES], "rejected": [NO], "tools": "not json"},
         "tools is not a list of JSON objects"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "chat_template_kwargs": "[1]"}, "is not a JSON object"),
        ({"system": "a", "prompt": [says("system", "b"), ASK], "chosen": [YES], "rejected": [NO]},
         "remove one of them"),
        ({"prompt": "a", "response_0": "x", "response_1": "y", "better_response_id": 2}, "it must be 0 or 1, or tie"),
        ({"history": "q", "human_ref_A": "x", "human_ref_B": "y", "labels": 3}, "it must be 1 (human_ref_A is better)"),
        ({"instruction": "q", "completions": [{"response": "x"}]}, "completions has no answer with a score"),
        ({"instruction": "q", "generations": ["a", "b"], "ratings": [1]}, "has 2 answers, and ratings 1 numbers"),
        ({"instruction": "q", "output": ["a", "b"], "history": "x"}, "history is not a list of pairs"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "images": ["a.png"]}, "the row has images, and only text can"),
        ({"prompt": [ASK, NO], "chosen": [YES], "rejected": [NO]}, "the prompt ends with a message of 'assistant'"),
        ({"messages": [ASK], "rejected_response": "no"}, "messages does not end with an answer"),
    ],
)  # fmt: skip
def test_broken_rows(row: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError) as e:
        read_examples([row], "d")
    (line,) = e.value.lines
    assert line.startswith("d: row 1: ") and fault in line


def test_ties_are_skipped_and_counted() -> None:
    rows = [
        {"conversation_a": [ASK, YES], "conversation_b": [ASK, NO], "winner": winner}
        for winner in ("tie", "tie (bothbad)", "model_a")
    ]
    data = read_examples(rows, "d")
    assert data.examples == [Pair([ASK], [YES], [NO], 2)]
    assert data.counts == {"skipped: no answer is preferred (a tie)": 2}


def test_ratings_of_several_rows_make_one_pair() -> None:
    rows = [
        {"prompt": "q", "response": "no", "helpfulness": 1}, {"prompt": "lonely", "response": "x", "helpfulness": 4},
        {"prompt": "q", "response": "yes", "helpfulness": "4"},
    ]  # fmt: skip
    data = read_examples(rows, "d")
    assert data.examples == [Pair("q", "yes", "no", 0, (4.0, 1.0))]
    assert data.counts == {"skipped: one response alone answers the prompt": 1}


def test_scores_are_read_under_every_known_name_and_as_text() -> None:
    for names in (
        ("score_chosen", "score_rejected"),
        ("chosen_rating", "rejected_rating"),
        ("chosen-rating", "rejected-rating"),
    ):
        row = {"prompt": "q", "chosen": "a", "rejected": "b", names[0]: "4.5", names[1]: 1}
        (pair,) = read_examples([row], "d").examples
        assert isinstance(pair, Pair) and pair.scores == (4.5, 1.0)


def test_a_tie_is_said_by_its_column_or_by_equal_scores() -> None:
    plain = {"prompt": "q", "chosen": "a", "rejected": "b"}
    for cells, scores in (
        ({"tie": True}, (0.0, 0.0)), ({"tie": False}, (1.0, 0.0)), ({"tie": None}, None), ({}, None),
        ({"tie": True, "score_chosen": 4, "score_rejected": 3}, (3.5, 3.5)),
        ({"tie": False, "score_chosen": 4, "score_rejected": 3}, (4.0, 3.0)),
    ):  # fmt: skip
        data = read_examples([plain | cells], "d")
        assert data.examples == [Pair("q", "a", "b", 0, scores)] and data.unused == ()
    for cells, says_why in (
        ({"tie": "perhaps"}, "tie is 'perhaps'; it must be true"),
        ({"tie": False, "score_chosen": 3, "score_rejected": 3}, "tie is false, but both scores are 3"),
    ):
        with pytest.raises(UserError, match=says_why):
            read_examples([plain | cells], "d")


def test_columns_with_text_that_are_not_used_are_named() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "question": "lost", "n": 3, "empty": "", "tools": None}
    data = read_examples([row, {**row, "late": "text"}], "d")
    assert data.unused == ("question", "late")
    assert data.words == "explicit prompt, plain strings; columns not used: question, late"


def test_a_mapped_column_is_used() -> None:
    rows = [{"ask": "is it?", "chosen": "yes", "rejected": "no"}]
    with pytest.raises(
        UserError, match="there is no prompt.*name the column that holds it, like data.columns.prompt: ask"
    ):
        read_examples(rows, "d")
    data = read_examples(rows, "d", {"prompt": "ask"})
    assert (data.unused, data.examples) == ((), [Pair("is it?", "yes", "no", 0)])


def test_every_schema_has_a_description_and_an_example_of_its_own() -> None:
    for one in all_schemas():
        assert one.description and one.example_rows, one.name
        assert read_examples(one.example_rows, "d").schema == one.name


def test_all_formats_are_listed() -> None:
    shown = CliRunner().invoke(cli, ["data", "--formats"])
    assert shown.exit_code == 0, shown.output
    for one in all_schemas():
        assert (
            f"\n{one.name}: {one.description}\n  {json.dumps(one.example_rows[0], ensure_ascii=False)}\n"
            in shown.output
        )
    listed = json.loads(CliRunner().invoke(cli, ["data", "--formats", "--json"]).output)
    assert [one["name"] for one in listed] == [one.name for one in all_schemas()]


def test_data_needs_a_recipe_or_formats() -> None:
    shown = CliRunner().invoke(cli, ["data"])
    assert shown.exit_code == 2 and "--formats" in shown.output
