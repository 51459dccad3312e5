"""What chat templates are given, and templates that write a conversation in more than one way."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import oracle
import pytest
from rich.console import Console
from test_scored_turns import END, assistant, one, scored_texts, user

from prefzoo.data.audit import audit
from prefzoo.data.audit_view import render
from prefzoo.data.encoding import encode_prompt
from prefzoo.data.examples import LabelledAnswer, Message, Pair
from prefzoo.data.reading import DataSource
from prefzoo.data.tokenising import Reading, tokenise
from prefzoo.data.tokens import TokenExample
from prefzoo.errors import UserError
from prefzoo.evals.generation.generate import generate
from prefzoo.evals.metrics.sampled_kl import sampled
from prefzoo.experiment.data import audited
from prefzoo.recipe import load as recipes


def call(arguments: Any, **more: Any) -> Message:
    function = {"name": "weather", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"type": "function", "function": function}], **more}


def tool(text: str) -> Message:
    return {"role": "tool", "content": text}


ASKED = [user("is it cold?")]
WRITTEN = '<tool_call>\n{"name": "weather", "arguments": {"q": "ice"}}\n</tool_call>'


@pytest.mark.parametrize(
    "message",
    [
        call({"q": "ice"}, content=""),
        call({"q": "ice"}, content=None, name=None),
        call('{"q": "ice"}'),  # as OpenAI's interface writes arguments
        call({"q": "ice", "unit": None}, content=""),  # as a table gives every call the arguments of all
    ],
    ids=["plain", "without content", "arguments as text", "from a table"],
)
def test_a_call_is_scored_as_the_template_writes_it(message: Message) -> None:
    tokenizer = oracle.tokenizer_of("qwen2_5")
    pair = one(
        tokenizer,
        Pair(ASKED, [message, tool("minus 4"), assistant("Yes.")], [assistant("No.")], 0, tools=oracle.TOOLS),
    )
    assert scored_texts(tokenizer, pair) == [[WRITTEN + END, "Yes." + END], ["No." + END]]
    assert "minus 4" in tokenizer.decode(pair.answers[0])
    assert '"name": "search"' in tokenizer.decode(pair.prompt)  # the tools


def test_a_row_with_nothing_but_a_call_is_an_answer(tmp_path: Path) -> None:
    row = {"prompt": ASKED, "chosen": [call({"q": "ice"}, content="")], "rejected": [assistant("No.")]}
    row["tools"] = json.dumps(oracle.TOOLS)
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    result = audit(DataSource("d.jsonl"), tmp_path, oracle.tokenizer_of("qwen2_5"), 2000, "drop")
    assert "".join(text for part, text in result.example if part == "chosen") == WRITTEN + END + "\n"


def test_a_template_without_tools_is_reported() -> None:
    tokenizer = oracle.tokenizer_of("gemma")
    pair = Pair(ASKED, [assistant("Yes.")], [assistant("No.")], 0, tools=oracle.TOOLS)
    assert tokenise([pair], tokenizer, 500, "drop").counts == {"tools left out: the chat template writes none": 1}
    with pytest.raises(UserError, match="row 1: the chat template does not write the call of weather"):
        one(tokenizer, Pair(ASKED, [call({"q": "ice"}, content="")], [assistant("No.")], 0))


def test_words_that_a_template_leaves_out_are_counted() -> None:
    pair = Pair(ASKED, [call({"q": "ice"}, content="I look.")], [assistant("No.")], 0, tools=oracle.TOOLS)
    done = tokenise([pair], oracle.tokenizer_of("llama3"), 2000, "drop")
    assert done.counts == {"text of an answer left out by the chat template": 1}


def test_calls_without_a_template_are_refused(tiny_plain_tokenizer: Any) -> None:
    with pytest.raises(UserError, match="row 1: tool_calls need a chat template"):
        one(tiny_plain_tokenizer, Pair(ASKED, [call({"q": "ice"}, content="")], [assistant("No.")], 0))


def prompt_of(tokenizer: Any, example: TokenExample) -> str:
    return str(tokenizer.decode(example.prompt))


def test_a_rows_variables_override_the_recipes() -> None:
    tokenizer, off = oracle.tokenizer_of("qwen3"), {"enable_thinking": False}
    rows = [
        LabelledAnswer(ASKED, [assistant("Yes.")], True, 0),
        LabelledAnswer(ASKED, [assistant("Yes.")], True, 1, template={"enable_thinking": True}),
    ]
    first, second = tokenise(rows, tokenizer, 500, "drop", reading=Reading(variables=off)).examples
    assert prompt_of(tokenizer, first).endswith("assistant\n<think>\n\n</think>\n\n")
    assert scored_texts(tokenizer, first) == [["Yes." + END]]
    assert prompt_of(tokenizer, second).endswith("assistant\n")
    assert scored_texts(tokenizer, second) == [["<think>\n\n</think>\n\nYes." + END]]
    assert encode_prompt(tokenizer, "is it cold?", off) == first.prompt  # generation starts there, too


def test_a_variable_that_the_template_does_not_read_is_refused(tiny_plain_tokenizer: Any) -> None:
    row = Pair(ASKED, [assistant("Yes.")], [assistant("No.")], 0)
    qwen3 = oracle.tokenizer_of("qwen3")
    with pytest.raises(UserError, match="data.chat_template_kwargs.enable_thinkng: .* did you mean 'enable_thinking'"):
        one(qwen3, row, variables={"enable_thinkng": False})
    with pytest.raises(UserError, match="data.chat_template_kwargs: this model's tokenizer has no chat template"):
        one(tiny_plain_tokenizer, row, variables={"enable_thinking": False})
    with pytest.raises(UserError, match="reads no such variable; it reads enable_thinking"):
        one(qwen3, row, variables={"messages": []})


def test_earlier_reasoning_is_stripped_as_the_template_strips_it() -> None:
    tokenizer = oracle.tokenizer_of("qwen3")
    thoughtful = [
        assistant("<think>\nIt is winter.\n</think>\n\nYes."),
        user("and now?"),
        {**assistant("No."), "reasoning": "It is summer."},
    ]
    pair = one(tokenizer, Pair(ASKED, thoughtful, [assistant("No.")], 0))
    last = "<think>\nIt is summer.\n</think>\n\nNo." + END
    assert scored_texts(tokenizer, pair)[0] == ["Yes." + END, last]


def test_a_header_that_begins_the_answer_is_kept_for_the_last_turn() -> None:
    tokenizer = oracle.tokenizer_of("deepseek_r1")
    end = tokenizer.eos_token
    several = [assistant("Hm.</think>Yes."), user("and now?"), assistant("Well.</think>No.")]
    pair = one(tokenizer, Pair(ASKED, several, [assistant("<think>\nNot</think>No.")], 0))
    assert scored_texts(tokenizer, pair)[0] == ["Yes." + end, "Well.</think>No." + end]
    alone = one(tokenizer, LabelledAnswer(ASKED, [assistant("<think>\nNot</think>No.")], True, 0))
    assert alone.prompt == encode_prompt(tokenizer, ASKED)
    assert scored_texts(tokenizer, alone) == [["Not</think>No." + end]]  # the header has the first <think>


def test_generation_sees_the_system_message_where_answered_prompts_lack_it() -> None:
    tokenizer = oracle.tokenizer_of("mistral")
    asked = [{"role": "system", "content": "be brief"}, *ASKED]
    pair = one(tokenizer, Pair(asked, [assistant("Yes.")], [assistant("No.")], 0))
    assert pair.prompt == encode_prompt(tokenizer, asked) and "be brief" in prompt_of(tokenizer, pair)
    assert scored_texts(tokenizer, pair) == [[" Yes.</s>"], [" No.</s>"]]


def test_a_turn_that_cannot_be_followed_is_shown_in_both_ways(tiny_tokenizer: Any) -> None:
    tiny_tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content if loop.last else m.content[::-1] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    answer = [assistant("first"), user("more?"), assistant("second")]
    with pytest.raises(UserError) as e:
        one(tiny_tokenizer, Pair(ASKED, answer, [assistant("No.")], 0))
    (line,) = e.value.lines
    assert "row 1: the chat template writes message 2 in two ways" in line and "first" in line and "tsrif" in line


def test_tokens_are_counted_by_role_and_the_mask_is_shown(tmp_path: Path) -> None:
    tokenizer = oracle.tokenizer_of("qwen2_5")
    row = {
        "prompt": [{"role": "system", "content": "1234"}, *ASKED],
        "chosen": [call({"q": "ice"}, content=""), tool("12345"), assistant("Yes.")],
        "rejected": [assistant("123")],
        "tools": oracle.TOOLS,
    }
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    source = DataSource("d.jsonl")
    result = audit(source, tmp_path, tokenizer, 2000, "drop")
    assert result.roles is not None
    assert result.roles["system"] == 4 and result.roles["tool"] == 5  # a digit is a token
    assert result.roles["assistant"] == result.chosen.longest + result.rejected.longest
    assert result.roles["user"] == len(tokenizer("is it cold?", add_special_tokens=False)["input_ids"])
    last = audit(source, tmp_path, tokenizer, 2000, "drop", reading=Reading(score="last"))
    assert last.roles is not None and "assistant, not scored" not in result.roles
    assert last.roles["assistant, not scored"] == result.roles["assistant"] - last.roles["assistant"] > 0
    assert sum(last.roles.values()) == sum(result.roles.values())
    unscored = "".join(text for part, text in result.example if part == "chosen, not scored")
    assert "12345" in unscored and "Yes." not in unscored


def test_without_colours_brackets_show_the_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    row = {
        "prompt": ASKED,
        "chosen": [assistant("Yes."), user("sure?"), assistant("No.")],
        "rejected": [assistant("No.")],
    }
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    result = audit(DataSource("d.jsonl"), tmp_path, oracle.tokenizer_of("chatml"), 2000, "drop")
    texts = []
    for colour in (None, "standard"):
        out = io.StringIO()
        render(result, Console(file=out, width=120, color_system=colour, force_terminal=colour is not None))
        texts.append(out.getvalue())
    assert "Yes.<|im_end|>[-\n<|im_start|>user\nsure?<|im_end|>\n<|im_start|>assistant\n-]No.<|im_end|>" in texts[0]
    assert "but those in [- -]" in texts[0] and "tokens by role: assistant (scored)" in texts[0]
    assert "[-" not in texts[1] and "all tokens in colour are scored" in texts[1]


def test_generation_is_given_the_variables(tiny_model: Any, tiny_tokenizer: Any) -> None:
    tiny_tokenizer.chat_template += "{% if style is defined %}{{ style }}{% endif %}"
    plain, given = (
        sampled(tiny_model, tiny_tokenizer, ["q"], 4, 0, variables=variables)[0].prompt
        for variables in ({}, {"style": "cold river"})
    )
    assert given == encode_prompt(tiny_tokenizer, "q", {"style": "cold river"}) != plain
    texts = [
        generate(tiny_model, tiny_tokenizer, ["q"], max_new_tokens=8, variables=variables)[0][0].text
        for variables in ({}, {"style": "cold river"})
    ]
    assert texts[0] != texts[1]


def test_a_recipe_says_what_is_scored(run_folder: Path, tiny_tokenizer: Any) -> None:
    row = {"prompt": ASKED, "chosen": [assistant("a"), user("b"), assistant("1")], "rejected": [assistant("2")]}
    (run_folder / "d.jsonl").write_text(json.dumps(row) + "\n")
    for score, expected in (("all", [["a" + END, "1" + END], ["2" + END]]), ("last", [["1" + END], ["2" + END]])):
        recipe = recipes.load(run_folder / "r.yaml", ["data.train=d.jsonl", f"data.score={score}"])
        tokens = audited(recipe, "d.jsonl", tiny_tokenizer).tokens
        assert scored_texts(tiny_tokenizer, tokens.examples[0]) == expected
    wrong = recipes.load(run_folder / "r.yaml", ["data.chat_template_kwargs.thinking=true"])
    with pytest.raises(UserError, match="data.chat_template_kwargs.thinking: .* it reads none"):
        audited(wrong, "d.jsonl", tiny_tokenizer)


THINKING = "{% if enable_thinking is defined and not enable_thinking %}no {% endif %}{{ messages[0]['content'] }}"


def test_a_tokenizer_may_have_other_defaults_of_its_template(tiny_tokenizer: Any) -> None:
    from prefzoo.data.chat import with_variables

    tiny_tokenizer.chat_template = THINKING
    messages = [{"role": "user", "content": "hi"}]
    ours = with_variables(tiny_tokenizer, {"enable_thinking": False}, "here")
    assert ours.apply_chat_template(messages, tokenize=False) == "no hi"
    assert ours.apply_chat_template(messages, tokenize=False, enable_thinking=True) == "hi"  # a row's own come first
    assert tiny_tokenizer.apply_chat_template(messages, tokenize=False) == "hi"
    assert with_variables(tiny_tokenizer, {}, "here") is tiny_tokenizer
    with pytest.raises(UserError, match=r"^here\.thinking: the chat template reads no such variable"):
        with_variables(tiny_tokenizer, {"thinking": 1}, "here")


def test_eval_takes_the_variables_of_the_runs_that_it_measures(tmp_path: Path) -> None:
    import yaml

    from prefzoo.experiment.evaluate import variables_of

    for name, value in (("one", False), ("two", True), ("bare", None)):
        (tmp_path / name / "dpo" / "checkpoint").mkdir(parents=True)
        data = {"train": "x"} | ({} if value is None else {"chat_template_kwargs": {"enable_thinking": value}})
        (tmp_path / name / "recipe.resolved.yaml").write_text(yaml.safe_dump({"data": data}))
    one = tmp_path / "one"
    assert variables_of([one]) == variables_of([one / "dpo" / "checkpoint"]) == {"enable_thinking": False}
    assert variables_of([tmp_path / "bare", tmp_path]) == {}
    with pytest.raises(UserError, match=r"evaluate one after the other, or give --chat-template-kwargs"):
        variables_of([one, tmp_path / "two"])
