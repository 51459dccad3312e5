"""Only what the assistant says is scored: conversations of several turns, in every layout, and in what is computed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from prefzoo.data.batches import Layout, collate
from prefzoo.data.examples import LabelledAnswer, Message, Pair
from prefzoo.data.tokenising import Reading, tokenise
from prefzoo.data.tokens import TokenAnswer, TokenExample, TokenPair
from prefzoo.engine.logprobs import choose_layout, score, score_with_kl
from prefzoo.engine.reference_logprobs import rows_key
from prefzoo.errors import UserError
from prefzoo.types import TokenLogProbs

END = "<|im_end|>"


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def scored_texts(tokenizer: Any, example: TokenExample) -> list[list[str]]:
    """The runs of scored tokens of each answer, as text."""
    runs: list[list[str]] = []
    flags = example.scored or tuple([True] * len(ids) for ids in example.answers)
    for ids, own in zip(example.answers, flags, strict=True):
        runs.append([])
        for i, token in enumerate(ids):
            if own[i] and not (i and own[i - 1]):
                runs[-1].append("")
            runs[-1][-1:] = [runs[-1][-1] + tokenizer.decode([token])] if own[i] else runs[-1][-1:]
    return runs


def one(tokenizer: Any, pair: Pair | LabelledAnswer, **reading: Any) -> TokenExample:
    (example,) = tokenise([pair], tokenizer, 5000, "drop", reading=Reading(**reading)).examples
    return example


LONG = Pair(
    [user("q")],
    [assistant("yes"), user("more?"), assistant("river")],
    [assistant("no"), user("why not?"), assistant("cold")],
    3,
)


def test_the_words_of_others_are_not_scored(tiny_tokenizer: Any) -> None:
    pair = one(tiny_tokenizer, LONG)
    assert scored_texts(tiny_tokenizer, pair) == [["yes" + END, "river" + END], ["no" + END, "cold" + END]]
    assert pair.scored_lengths == tuple(sum(flags) for flags in pair.scored or ())
    assert pair.scored_tokens < pair.answer_tokens


def test_the_last_turn_alone_is_scored_where_that_is_asked_for(tiny_tokenizer: Any) -> None:
    assert scored_texts(tiny_tokenizer, one(tiny_tokenizer, LONG, score="last")) == [["river" + END], ["cold" + END]]


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}])
def test_a_turn_that_says_so_itself_is_not_scored(mark: dict[str, Any], tiny_tokenizer: Any) -> None:
    for marked, expected in [(0, ["river"]), (2, ["yes"])]:
        turns: list[Message] = [assistant("yes"), user("more?"), assistant("river")]
        chosen = [{**m, **(mark if i == marked else {"weight": 1, "train": True})} for i, m in enumerate(turns)]
        pair = one(tiny_tokenizer, Pair(LONG.prompt, chosen, LONG.rejected, 3))
        assert scored_texts(tiny_tokenizer, pair) == [[text + END for text in expected], ["no" + END, "cold" + END]]
    with pytest.raises(UserError, match="row 4: all of the assistant's turns in an answer have weight 0 or train"):
        one(tiny_tokenizer, Pair(LONG.prompt, [{**assistant("yes"), **mark}], LONG.rejected, 3))


def test_turns_before_the_first_that_differs_are_a_part_of_the_prompt(tiny_tokenizer: Any) -> None:
    chosen = [assistant("yes"), user("more?"), assistant("river")]
    pair = one(tiny_tokenizer, Pair([user("q")], chosen, [*chosen[:2], assistant("cold")], 0))
    assert pair.scored is None  # nothing else is left in the answers
    assert scored_texts(tiny_tokenizer, pair) == [["river" + END], ["cold" + END]]
    assert pair == one(tiny_tokenizer, Pair([user("q"), *chosen[:2]], chosen[2:], [assistant("cold")], 0))


def test_answers_may_differ_first_in_what_the_user_says(tiny_tokenizer: Any) -> None:
    first, second = ([assistant("yes"), user(text), assistant("river")] for text in ("more?", "most?"))
    pair = one(tiny_tokenizer, Pair([user("q")], first, second, 0))
    assert scored_texts(tiny_tokenizer, pair) == [["river" + END], ["river" + END]]
    assert tiny_tokenizer.decode(pair.prompt).endswith("user\nm")


def test_an_answer_that_goes_on_is_compared_by_its_later_turns(tiny_tokenizer: Any) -> None:
    short = [assistant("yes")]
    pair = one(tiny_tokenizer, Pair([user("q")], short, [*short, user("more?"), assistant("river")], 0))
    assert scored_texts(tiny_tokenizer, pair) == [["yes" + END], ["yes" + END, "river" + END]]


def test_a_labelled_answer_is_scored_by_its_own_turns(tiny_tokenizer: Any) -> None:
    asked = [user("q"), assistant("what?"), user("a river")]
    answer = one(tiny_tokenizer, LabelledAnswer(asked, [assistant("yes"), user("more?"), assistant("no")], True, 0))
    assert scored_texts(tiny_tokenizer, answer) == [["yes" + END, "no" + END]]
    trailing = LabelledAnswer(asked, [assistant("yes"), user("thanks")], True, 0)
    assert one(tiny_tokenizer, trailing).scored is None
    with pytest.raises(UserError, match="row 1: an answer has no message of the assistant"):
        one(tiny_tokenizer, LabelledAnswer(asked, [user("thanks")], True, 0))


def test_without_a_template_only_the_assistants_lines_are_scored(tiny_plain_tokenizer: Any) -> None:
    pair = one(tiny_plain_tokenizer, replace(LONG, prompt=[user("q")]))
    assert scored_texts(tiny_plain_tokenizer, pair) == [["yes", "river" + END], ["no", "cold" + END]]


def test_a_token_across_the_end_of_a_turn_is_scored_and_one_across_its_start_too(tiny_tokenizer: Any) -> None:
    # no special token stands between the turns here, and "the river" has the single token " river"
    tiny_tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    pair = one(
        tiny_tokenizer,
        Pair([user("x the ri")], [assistant("ver the ri"), user("ver|"), assistant("a")], [assistant("cold")], 0),
    )
    assert scored_texts(tiny_tokenizer, pair)[0] == [" river the river", "a" + END]


def test_what_cutting_leaves_without_a_scored_token_is_dropped(tiny_tokenizer: Any) -> None:
    late = [assistant("yes"), user("more?"), assistant("river")]
    pair = Pair([user("q")], late, [assistant("yes"), user("most, with many words?"), assistant("no")], 0)
    whole = one(tiny_tokenizer, pair)
    kept = one(tiny_tokenizer, LONG)
    for room in range(1, 40):
        done = tokenise([LONG, pair], tiny_tokenizer, len(whole.prompt) + room, "cut")
        assert all(all(e.scored_lengths) for e in done.examples)
        assert len(done.examples) + sum(n for why, n in done.counts.items() if why.startswith("dropped")) == 2
    cut = kept.truncated(kept.answers[1].index(3) + 1)
    assert cut.scored is None  # what is left of both is all scored


PAIRS = [
    TokenPair([5, 6], [7, 8, 9, 3], [9, 3], 40, None, ([True, False, False, True], [True, True])),
    TokenPair([10], [11, 3], [12, 13, 14, 3], 41, None, ([True, True], [False, False, True, True])),
]


def test_masked_answers_by_hand() -> None:
    batch = collate(PAIRS, "shared", pad=0)
    assert batch.tokens.tolist() == [[5, 6, 7, 8, 9, 3, 9, 3, 10, 11, 3, 12, 13, 14, 3]]
    assert batch.targets.tolist() == [7, 3, 11, 3, 9, 3, 14, 3]
    assert batch.source.tolist() == [1, 4, 8, 9, 1, 6, 12, 13]
    assert batch.owner.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert batch.blocks == ((2, 4, 2), (1, 2, 4))


@pytest.mark.parametrize("layout", ["shared", "packed", "rows"])
def test_sums_lengths_and_kl_are_those_of_the_scored_tokens(tiny_model: Any, layout: Layout) -> None:
    everything = [replace(pair, scored=None) for pair in PAIRS]
    with torch.no_grad():
        tokens = score(tiny_model, collate(everything, layout, pad=0), TokenLogProbs)
        masked = score(tiny_model, collate(PAIRS, layout, pad=0), TokenLogProbs)
        _, kl = score_with_kl(tiny_model, tiny_model, collate(PAIRS, layout, pad=0))
    assert isinstance(tokens, TokenLogProbs) and isinstance(masked, TokenLogProbs)
    for i, pair in enumerate(PAIRS):
        for side, name in enumerate(("chosen", "rejected")):
            flags = torch.tensor((pair.scored or ())[side])
            expected = getattr(tokens, f"{name}_tokens")[i][: len(flags)][flags]
            torch.testing.assert_close(getattr(masked, name)[i], expected.sum())
            torch.testing.assert_close(getattr(masked, f"{name}_tokens")[i][: len(expected)], expected)
            assert int(getattr(masked, f"{name}_len")[i]) == int(flags.sum())
    assert kl.chosen.abs().max() < 1e-5
    assert choose_layout(tiny_model, PAIRS) == "shared"


def test_another_mask_is_another_data_set() -> None:
    everything = [replace(pair, scored=None) for pair in PAIRS]
    assert rows_key(PAIRS) != rows_key(everything)
    single = TokenAnswer([1], [2, 3], True, 0)
    assert rows_key([single]) != rows_key([replace(single, scored=([False, True],))])
    assert rows_key([TokenPair([1], [2], [3], 0)]) == "edf256955bcf1aa3"  # caches of earlier versions are still read
