from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from prefzoo.data.encoding import encode_prompt
from prefzoo.data.examples import Pair
from prefzoo.data.tokenising import tokenise
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError

EOS, BOS = 3, 1
HEAD = "<|im_start|>user\nname a river<|im_end|>\n<|im_start|>assistant\n"


def one(tokenizer: Any, prompt: Any, chosen: Any, rejected: Any) -> TokenPair:
    (pair,) = tokenise([Pair(prompt, chosen, rejected, 7)], tokenizer, 200, "drop").examples
    return pair


@pytest.mark.parametrize("prompt", ["name a river", [{"role": "user", "content": "name a river"}]])
@pytest.mark.parametrize("answer", [str, lambda text: [{"role": "assistant", "content": text}]])
def test_template_is_applied_once(tiny_tokenizer: Any, prompt: Any, answer: Any) -> None:
    pair = one(tiny_tokenizer, prompt, answer("the river"), answer("cold"))
    assert tiny_tokenizer.decode(pair.prompt) == HEAD
    assert tiny_tokenizer.decode(pair.chosen) == "the river<|im_end|>"  # without the template's line break
    assert tiny_tokenizer.decode(pair.rejected) == "cold<|im_end|>"
    assert pair.chosen.count(EOS) == pair.rejected.count(EOS) == 1 and BOS not in pair.prompt
    assert pair.row == 7


def test_generation_starts_from_the_prompt_that_training_sees(tiny_tokenizer: Any) -> None:
    assert encode_prompt(tiny_tokenizer, "name a river") == one(tiny_tokenizer, "name a river", "a", "b").prompt


def test_an_answer_that_brings_its_own_eos_has_one(tiny_tokenizer: Any, tiny_plain_tokenizer: Any) -> None:
    for tokenizer in (tiny_tokenizer, tiny_plain_tokenizer):
        assert one(tokenizer, "name", "long<|im_end|>", "b").chosen.count(EOS) == 1


def test_without_a_template_bos_is_first_once_and_eos_last(tiny_plain_tokenizer: Any) -> None:
    for prompt in ("name a river:", "<s>name a river:"):
        pair = one(tiny_plain_tokenizer, prompt, " long\n", " cold")
        assert pair.prompt[0] == BOS and pair.prompt.count(BOS) == 1
        assert tiny_plain_tokenizer.decode(pair.chosen) == " long\n<|im_end|>"
        assert pair.chosen.count(EOS) == 1 and BOS not in pair.chosen + pair.rejected


def test_no_second_bos_where_the_template_writes_one(tiny_tokenizer: Any) -> None:
    tiny_tokenizer.chat_template = "<s>" + tiny_tokenizer.chat_template
    pair = one(tiny_tokenizer, "name", "a", "b")
    assert pair.prompt[0] == BOS and (pair.prompt + pair.chosen + pair.rejected).count(BOS) == 1


def test_end_of_turn_other_than_eos_is_last_and_nothing_is_added(tiny_tokenizer: Any) -> None:
    tiny_tokenizer.eos_token = "<pad>"  # as where a template ends turns with a special token that is not the EOS
    pair = one(tiny_tokenizer, "name", "a", "b")
    assert pair.chosen[-1] == tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tiny_tokenizer.eos_token_id not in pair.chosen


def test_template_without_an_end_of_turn_gets_eos(tiny_tokenizer: Any) -> None:
    tiny_tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tiny_tokenizer.chat_template += "{% if add_generation_prompt %}assistant: {% endif %}"
    pair = one(tiny_tokenizer, "name", "a", "b")
    assert pair.chosen[-1] == EOS and pair.chosen.count(EOS) == 1


def test_a_token_across_the_boundary_moves_it_back(tiny_plain_tokenizer: Any) -> None:
    # "the" and " river" are single tokens: behind "the ri" + "ver" the boundary can only stand after "the"
    assert len(tiny_plain_tokenizer("the river", add_special_tokens=False)["input_ids"]) == 2
    done = tokenise([Pair("the ri", "ver", "ce", 0)], tiny_plain_tokenizer, 50, "drop")
    (pair,) = done.examples
    assert done.counts["boundary moved"] == 1
    assert tiny_plain_tokenizer.decode(pair.prompt) == "<s>the"
    assert tiny_plain_tokenizer.decode(pair.chosen) == " river<|im_end|>"
    assert tiny_plain_tokenizer.decode(pair.rejected) == " rice<|im_end|>"


def test_a_reasoning_template_keeps_the_header_generation_sees(tiny_tokenizer: Any) -> None:
    tiny_tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}(think)\n{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n(go)\n{% endif %}"
    )
    pair = one(tiny_tokenizer, "name", "a", "b")
    assert pair.prompt == encode_prompt(tiny_tokenizer, "name")
    assert tiny_tokenizer.decode(pair.chosen) == "a<|im_end|>"


def test_a_template_that_refuses_rows_names_each(tiny_tokenizer: Any) -> None:
    tiny_tokenizer.chat_template = "{{ raise_exception('no system role') }}"
    with pytest.raises(UserError) as e:
        tokenise([Pair("p", "a", "b", 0), Pair("q", "a", "b", 4)], tiny_tokenizer, 50, "drop", "d.jsonl")
    assert [line.split(": the")[0] for line in e.value.lines] == ["d.jsonl: row 1", "d.jsonl: row 5"]
    assert "refuses the roles user: no system role" in e.value.lines[0]


def test_an_empty_prompt_begins_with_bos_or_eos(tiny_plain_tokenizer: Any) -> None:
    tiny_plain_tokenizer.add_bos_token = False
    tiny_plain_tokenizer._tokenizer.post_processor = None
    assert tiny_plain_tokenizer("a")["input_ids"][0] != BOS
    done = tokenise([Pair("", "a", "b", 0)], tiny_plain_tokenizer, 50, "drop")
    assert done.examples[0].prompt == [BOS] and done.counts == {"begun with a BOS: no prompt": 1}
    tiny_plain_tokenizer.bos_token = None
    assert tokenise([Pair("", "a", "b", 0)], tiny_plain_tokenizer, 50, "drop").examples[0].prompt == [EOS]
    tiny_plain_tokenizer.eos_token = None
    with pytest.raises(UserError, match="1 dropped: no prompt, and no BOS to begin with"):
        tokenise([Pair("", "a", "b", 0)], tiny_plain_tokenizer, 50, "drop")


def test_messages_without_a_template_are_counted(tiny_plain_tokenizer: Any) -> None:
    ask, yes, no = (
        [{"role": role, "content": text}] for role, text in (("user", "q"), *[("assistant", t) for t in "ab"])
    )
    done = tokenise([Pair(ask, yes, no, 0)], tiny_plain_tokenizer, 50, "drop")
    assert tiny_plain_tokenizer.decode(done.examples[0].prompt) == "<s>q\n"
    assert done.counts == {"messages joined by newlines: no chat template": 1}


# BOS + "x" is a prompt of 2 tokens; each digit is a token, EOS one more: "12345" -> 2 + 6 = 8 tokens
FITS, LONG = Pair("x", "1", "2", 0), Pair("x", "12345", "2", 1)


def test_rows_too_long_are_dropped_and_counted(tiny_plain_tokenizer: Any) -> None:
    done = tokenise([FITS, LONG], tiny_plain_tokenizer, 7, "drop")
    assert [p.row for p in done.examples] == [0] and done.counts == {"dropped: too long": 1}
    assert not tokenise([FITS, LONG], tiny_plain_tokenizer, 8, "drop").counts


def test_rows_too_long_are_cut_from_the_end_and_counted(tiny_plain_tokenizer: Any) -> None:
    done = tokenise([FITS, LONG], tiny_plain_tokenizer, 5, "cut")
    assert tiny_plain_tokenizer.decode(done.examples[1].chosen) == "123"  # 5 - 2 tokens, the EOS is gone with the rest
    assert tiny_plain_tokenizer.decode(done.examples[1].rejected) == "2<|im_end|>"
    assert done.counts == {"cut": 1}


def test_what_cutting_leaves_nothing_of_is_dropped(tiny_plain_tokenizer: Any) -> None:
    rows = [FITS, Pair("xxxxx", "1", "2", 1), Pair("x", "1115", "1116", 2)]
    done = tokenise(rows, tiny_plain_tokenizer, 5, "cut")
    assert [p.row for p in done.examples] == [0]
    assert done.counts == {"dropped: prompt alone is too long": 1, "dropped: equal once cut": 1}


def test_answers_that_differ_only_in_their_eos_are_dropped(tiny_plain_tokenizer: Any) -> None:
    done = tokenise([FITS, Pair("x", "1", "1<|im_end|>", 1)], tiny_plain_tokenizer, 50, "drop")
    assert len(done.examples) == 1 and done.counts == {"dropped: equal once tokenised": 1}


def test_nothing_left_names_the_lengths_and_the_cure(tiny_plain_tokenizer: Any) -> None:
    with pytest.raises(UserError) as e:
        tokenise([FITS, LONG], tiny_plain_tokenizer, 3, "drop", "d.jsonl")  # FITS is 2 + "1" + EOS = 4 tokens
    (line,) = e.value.lines
    assert line.startswith("d.jsonl: ") and "2 dropped: too long" in line
    assert "4 to 8 tokens" in line and "raise data.max_length" in line


def test_nothing_left_for_another_reason_names_its_own_cure(tiny_plain_tokenizer: Any) -> None:
    with pytest.raises(
        UserError, match=r"no pair is left \(1 dropped: equal once tokenised\); the two answers of a row"
    ):
        tokenise([Pair("x", "1", "1<|im_end|>", 1)], tiny_plain_tokenizer, 50, "drop")


def test_progress_is_reported(tiny_plain_tokenizer: Any) -> None:
    seen: list[tuple[int, int]] = []
    tokenise([FITS, LONG], tiny_plain_tokenizer, 50, "drop", report=lambda done, total, _: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_empty_variables_that_the_template_does_not_read_are_left_out_and_counted(tiny_tokenizer: Any) -> None:
    pair = Pair("is it?", "yes", "no", 0)
    given = replace(pair, template={"enable_thinking": False, "tools_in_xml": [], "instructions": ""})
    plain, counted = (tokenise([one], tiny_tokenizer, 99, "drop") for one in (pair, given))
    assert counted.examples == plain.examples
    assert dict(counted.counts) == {
        "chat_template_kwargs left out: empty or false, and not read by the chat template": 1
    }
    with pytest.raises(UserError, match=r"kwargs.enable_thinking: .* reads no such variable; it reads none; remove it"):
        tokenise([replace(pair, template={"enable_thinking": True})], tiny_tokenizer, 99, "drop")
