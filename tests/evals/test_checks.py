"""Every kind of check: an answer that passes and one that does not, and the empty answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import prefzoo
from prefzoo.errors import UserError
from prefzoo.evals.generation.pairs import BY_CHECKS, pick
from prefzoo.evals.judges.checks import CHECKS, holds
from prefzoo.evals.judges.protocol import Answer, PromptRow
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.suites.instruct import build_prompts, combinations, topics

CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "exact_sentences", "n": 2}, "One. Two!", "One."),
    ({"kind": "one_sentence"}, "Just this.", "This. That."),
    ({"kind": "most_words", "n": 3}, "one two three", "one two three four"),
    ({"kind": "least_words", "n": 3}, "one two three", "one two"),
    ({"kind": "contains", "word": "small"}, "A Small cat.", "A smaller cat."),
    ({"kind": "avoids", "word": "the"}, "There it is.", "See the cat."),
    ({"kind": "lower_case"}, "all of it.", "All of it."),
    ({"kind": "upper_case"}, "ALL OF IT.", "ALL of it."),
    ({"kind": "json_object", "key": "fact"}, '{"fact": "x"}', '{"thing": "x"}'),
    ({"kind": "numbered_list", "n": 2}, "1. a\n2. b", "1. a\n3. b"),
    ({"kind": "dash_list", "n": 2}, "- a\n- b", "- a\nb"),
    ({"kind": "starts_with", "phrase": "In short"}, "In short, yes.", "Yes, in short."),
    ({"kind": "ends_with", "phrase": "that is all"}, "Yes, that is all.", "That is all there is."),
    ({"kind": "ends_with_question"}, "Is it?", "It is."),
    ({"kind": "ends_with_exclamation"}, "It is!", "It is."),
    ({"kind": "no_commas"}, "One and two.", "One, two."),
    ({"kind": "in_quotes"}, '"Yes."', 'Say "yes".'),
    ({"kind": "in_brackets"}, "(Yes.)", "Yes (no)."),
    ({"kind": "has_digits"}, "It has 3.", "It has three."),
    ({"kind": "paragraphs", "n": 2}, "One.\n\nTwo.", "One.\nTwo."),
    ({"kind": "cyrillic"}, "Река течёт.", "Reka."),
    ({"kind": "on_topic", "keys": ["river"]}, "Many rivers.", "Many lakes."),
    ({"kind": "no_repetition"}, "One cat. One dog.", "It is a cat. It is a cat."),
]


@pytest.mark.parametrize(("spec", "good", "bad"), CASES, ids=[c[0]["kind"] for c in CASES])
def test_each_kind(spec: dict[str, Any], good: str, bad: str) -> None:
    assert holds(good, spec) and not holds(bad, spec)
    assert spec["kind"] == "no_repetition" or not holds("", spec)


def test_every_kind_has_a_case() -> None:
    assert {c[0]["kind"] for c in CASES} == set(CHECKS) and len(CHECKS) >= 15


def test_unknown_kinds_and_parameters() -> None:
    with pytest.raises(UserError, match="did you mean 'lower_case'"):
        holds("x", {"kind": "lowercase"})
    with pytest.raises(UserError, match="it takes n"):
        holds("x", {"kind": "most_words", "m": 3})


def test_the_verifier_gives_the_share_of_checks() -> None:
    row = PromptRow("1", "p", ({"kind": "lower_case"}, {"kind": "least_words", "n": 2}, {"kind": "has_digits"}))
    assert Verifier().score(row, Answer("two words", True, 2)) == 0.75  # lower case, two words, finished; no digit
    with pytest.raises(UserError, match="it has no checks"):
        Verifier().score(PromptRow("1", "p"), Answer("x", True, 1))


def test_the_splits_share_neither_topic_nor_combination() -> None:
    train, held_out = build_prompts("train", 600), build_prompts("eval", 100)

    def kinds(row: PromptRow) -> tuple[str, ...]:
        return tuple(str(c) for c in row.checks if c["kind"] not in ("least_words", "no_repetition", "on_topic"))

    assert not {r.topic for r in train} & {r.topic for r in held_out}
    assert not {kinds(r) for r in train} & {kinds(r) for r in held_out}
    assert build_prompts("eval", 100) == held_out and len(topics()) >= 200
    asked = {c["kind"] for r in train for c in r.checks}
    assert asked == {s["kind"] for c in combinations() for s in c} | {"least_words", "no_repetition", "on_topic"}


def test_a_pair_is_the_widest_gap_of_similar_length() -> None:
    row = PromptRow("1", "p", ({"kind": "lower_case"}, {"kind": "no_commas"}, {"kind": "has_digits"}))
    best, worst = Answer("a cat has 4 legs", True, 5), Answer("A cat, it has legs", True, 5)
    far, cut = Answer("A, " * 30, True, 60), Answer("A dog, it has legs", False, 5)
    answers = [worst, best, far, cut]
    picked = pick(row, answers, [Verifier().score(row, a) for a in answers], BY_CHECKS).pair
    assert picked is not None and (picked["chosen"], picked["rejected"]) == (best.text, worst.text)
    assert (picked["score_chosen"], picked["score_rejected"]) == (1.0, 0.25)  # 4 of 4; finished alone
    assert pick(row, [best, best], [1.0, 1.0], BY_CHECKS).pair is None


@pytest.mark.parametrize(("split", "at_least"), [("train", 390), ("eval", 100)])
def test_the_packaged_pairs_are_those_of_the_prompts(split: str, at_least: int) -> None:
    folder = Path(prefzoo.__file__).parent / "data" / "packaged"
    rows = [json.loads(line) for line in (folder / f"instruct_{split}.jsonl").read_text(encoding="utf-8").splitlines()]
    card = json.loads((folder / f"instruct_{split}.jsonl.card.json").read_text(encoding="utf-8"))
    asked = {r.id: r for r in build_prompts(split, card["prompts_asked"])}
    assert len(rows) == card["pairs"] >= at_least
    for row in rows:
        prompt = asked[row["id"]]
        assert (row["prompt"], row["checks"]) == (prompt.prompt, list(prompt.checks))
        for side in ("chosen", "rejected"):
            assert Verifier().score(prompt, Answer(row[side], True, 1)) == pytest.approx(row[f"score_{side}"], abs=1e-4)
        assert row["score_chosen"] > row["score_rejected"]
