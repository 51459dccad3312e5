"""A text is tokenised piece by piece only where that gives the tokens of the whole."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from prefzoo.data import pieces

MARKS = ("<|im_start|>", "<|im_end|>", "<s>", "<think>", "<mask>", "<|im_end|>\n")
CORPUS = ["user assistant system the answer is no yes it is", " \n\n.,<>|", "Zürich ▁x ﬁn"]


def metaspace(scheme: Any) -> Any:
    return pre_tokenizers.Metaspace(prepend_scheme=scheme)


KINDS = {
    "bytes": (None, pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "bytes with a blank": (None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "first": (None, metaspace("first")),
    "always": (normalizers.NFKC(), metaspace("always")),
    "prepended": (normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None),
}


def tokenizer_of(kind: str, **mask: bool) -> Any:
    normalizer, before = KINDS[kind]
    built = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    if normalizer is not None:
        built.normalizer = normalizer
    if before is not None:
        built.pre_tokenizer = before
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if kind.startswith("bytes") else []
    built.train_from_iterator(
        CORPUS * 3, trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], initial_alphabet=alphabet)
    )
    built.add_special_tokens([AddedToken(mark, normalized=False) for mark in ("<|im_start|>", "<|im_end|>", "<s>")])
    built.add_special_tokens([AddedToken("<mask>", normalized=False, special=True, **mask)])
    built.add_tokens([AddedToken("<think>", normalized=True), AddedToken("<|im_end|>\n", normalized=False)])
    return PreTrainedTokenizerFast(tokenizer_object=built, bos_token="<s>", eos_token="<|im_end|>")


BUILT = {
    (kind, flag): tokenizer_of(kind, **({flag: True} if flag else {}))
    for kind in KINDS
    for flag in ("", "lstrip", "rstrip", "single_word")
}
TEXTS = st.lists(st.sampled_from([*MARKS, " ", "\n", "  ", "user", "the answer", "x", ".", "ü", "ﬁ", "▁"]), max_size=12)


@pytest.mark.parametrize("flag", ["", "lstrip", "rstrip", "single_word"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(TEXTS)
def test_pieces_give_the_tokens_of_the_whole(kind: str, flag: str, parts: list[str]) -> None:
    tokenizer, text = BUILT[kind, flag], "".join(parts)
    assert pieces.ids_of(tokenizer, text, special=False) == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("flag", ["", "lstrip", "rstrip", "single_word"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(TEXTS, st.lists(st.integers(0, 200), max_size=4))
def test_counts_are_those_of_the_beginnings(kind: str, flag: str, parts: list[str], ends: list[int]) -> None:
    tokenizer, text = BUILT[kind, flag], "".join(parts)
    ends = sorted(min(end, len(text)) for end in ends)
    ids, *begins = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (text, *(text[:end] for end in ends)))
    counts = pieces.counts_before(tokenizer, text, ends)
    if counts is not None:
        assert counts == [len(begin) for begin in begins] and all(ids[: len(begin)] == begin for begin in begins)
    elif flag in ("", "rstrip"):  # the others are never cut
        within = any(mark in text and not text[:end].endswith(mark) for mark in MARKS for end in ends)
        assert within or any(ids[: len(begin)] != begin for begin in begins)


def test_what_texts_have_in_common_is_tokenised_once(tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(pieces, "_piece", lru_cache(lambda tokenizer, text: read.append(text) or [0]))
    head = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    for text in (head + "yes", head + "no"):
        pieces.ids_of(tiny_tokenizer, text, special=False)
    assert len(read) == len(set(read)) == 4 and not any("user" in text and "yes" in text for text in read)


def test_a_tokenizer_that_pads_cuts_or_calls_otherwise_gives_the_same(tiny_tokenizer: Any) -> None:
    class Other(type(tiny_tokenizer)):  # type: ignore[misc] # the tokenizer's own class
        def __call__(self, text: Any, **more: Any) -> Any:
            return {"input_ids": [1, 2, 3]}

    text, plain = "it is a fine day, I think", copy.deepcopy(tiny_tokenizer)
    expected = plain(text, add_special_tokens=False)["input_ids"]
    plain([text, "short"], padding=True, truncation=True, max_length=2)  # which the backend goes on doing
    assert pieces.ids_of(plain, text, special=False) == expected
    other = copy.deepcopy(tiny_tokenizer)
    other.__class__ = Other
    assert pieces.ids_of(other, text, special=False) == [1, 2, 3]


@pytest.mark.parametrize("split", [False, True])
def test_special_tokens_are_those_that_the_tokenizer_adds(split: bool, tiny_plain_tokenizer: Any) -> None:
    tiny_plain_tokenizer.split_special_tokens = split
    for text in ("it is", "<s>it is<|im_end|>", ""):
        ours = pieces.ids_of(tiny_plain_tokenizer, text, special=True)
        assert ours == tiny_plain_tokenizer(text)["input_ids"]
        assert ours[0] == tiny_plain_tokenizer.bos_token_id
