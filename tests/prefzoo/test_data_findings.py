"""What is odd in rows: contradictions, leaks, refusals, languages, scores, answers that hardly differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import prefzoo
from prefzoo.data.audit import Audit, read_and_audit
from prefzoo.data.audits.examine import TestedOn, dropped_rows, examine
from prefzoo.data.audits.findings import example_words, finding_of, findings_of
from prefzoo.data.audits.kinds import KINDS
from prefzoo.data.audits.languages import LATIN, is_other_language, language_of
from prefzoo.data.audits.lengths import measure_tokens
from prefzoo.data.audits.overlap import NearTexts, words_of
from prefzoo.data.audits.refusals import is_refusal
from prefzoo.data.examples import Example, LabelledAnswer, Pair, Text
from prefzoo.data.mixtures import Origins, Part
from prefzoo.data.reading import DataSource, read_source
from prefzoo.data.tokens import TokenPair
from prefzoo.errors import UserError
from prefzoo.evals.suites.prompts import load_prompts


def pairs(*rows: tuple[Any, ...]) -> list[Example]:
    """Pairs of (prompt, chosen, rejected, scores if there are some)."""
    return [Pair(*row[:3], index, *row[3:]) for index, row in enumerate(rows)]


def seen(examples: list[Example], *tested_on: TestedOn) -> dict[str, list[tuple[int, ...]]]:
    """Each kind of finding -> its rows, from 1, with the second rows."""
    flagged = examine(examples, tested_on).flagged
    return {one.kind: [*finding_of(one).rows] for one in flagged}


def test_the_same_pair_both_ways_round_is_a_contradiction() -> None:
    rows = pairs(("p", "a", "b"), ("p", "c", "d"), ("p", "b", "a"), ("q", "b", "a"))
    assert seen(rows) == {"swapped": [(1, 3)]}
    assert example_words(finding_of(examine(rows).flagged[0])) == "rows 1 and 3"


def test_an_answer_that_is_chosen_in_one_row_and_rejected_in_another_is_named_and_contradicts_nothing() -> None:
    rows = pairs(("p", "a", "b"), ("p", "c", "a"), ("p", "e", "f"), ("q", "b", "a"))
    assert seen(rows) == {"both_sides": [(1, 2)]}
    assert not dropped_rows(examine(rows), ["contradictions"])


def test_preferences_in_a_circle_are_a_contradiction() -> None:
    circle = pairs(("p", "a", "b"), ("p", "b", "c"), ("p", "x", "a"), ("q", "c", "a"), ("p", "c", "a"), ("p", "c", "d"))
    assert seen(circle) == {"circle": [(1, 2), (2, 5), (5, 1)], "both_sides": [(3, 1), (6, 2)]}
    dropped = dropped_rows(examine(circle), ["contradictions"])
    assert [*dropped] == [0, 1, 4] and "with row 2 and others it prefers answers in a circle" in dropped[0]
    scored = pairs(*((*row, (2.0, 1.0)) for row in (("p", "a", "b"), ("p", "b", "c"), ("p", "c", "a"))))
    assert seen(scored) == {"circle": [(1, 2), (2, 3), (3, 1)]}


def test_scores_that_agree_make_a_ranking_of_it() -> None:
    ranked = pairs(("p", "a", "b", (9.0, 5.0)), ("p", "b", "c", (5.0, 1.0)))
    assert seen(ranked) == {}
    torn = pairs(("p", "a", "b", (9.0, 5.0)), ("p", "b", "c", (6.0, 1.0)))
    assert seen(torn) == {"both_sides": [(1, 2)]}


def test_ties_contradict_nothing() -> None:
    assert seen(pairs(("p", "a", "b", (1.0, 1.0)), ("p", "b", "a", (2.0, 1.0)))) == {}


def test_white_space_and_the_way_of_writing_a_prompt_make_no_other_row() -> None:
    def turn(role: str, text: str) -> Text:
        return [{"role": role, "content": text}]

    rows = pairs(
        (turn("user", "p"), turn("assistant", "a\n"), turn("assistant", "b")),
        (turn("user", " p"), turn("assistant", "b"), turn("assistant", "a")),
    )
    assert seen(rows) == {"swapped": [(1, 2)]}
    shared = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "x"}]
    whole = pairs((turn("user", "o"), [*shared, *turn("assistant", "a")], [*shared, *turn("assistant", "b")]))
    split = pairs(([*turn("user", "o"), *shared], turn("assistant", "b"), turn("assistant", "a")))
    assert seen([*whole, Pair(*[getattr(split[0], n) for n in ("prompt", "chosen", "rejected")], 1)]) == {
        "swapped": [(1, 2)]
    }


def test_single_answers_contradict_each_other_by_their_labels() -> None:
    rows: list[Example] = [LabelledAnswer("p", "a", label, i) for i, label in enumerate((True, False, True))]
    assert seen([*rows, LabelledAnswer("q", "a", False, 3)]) == {
        "disputed": [(1, 2), (3, 2)], "duplicates": [(3, 1)],
    }  # fmt: skip


def test_repeated_rows_are_duplicates_of_the_first() -> None:
    rows = pairs(("p", "a", "b"), ("p", "a", "b"), ("p", "a", "c"), ("p", "a", "b "))
    audit = examine(rows)
    assert seen(rows) == {"duplicates": [(2, 1), (4, 1)]} and audit.repeated_prompts == 3


def test_scores_may_contradict_the_label() -> None:
    rows = pairs(("p", "a", "b", (1.0, 2.0)), ("q", "a", "b", (2.0, 1.0)), ("r", "a", "b"), ("s", "a", "b", (1.0, 1.0)))
    assert seen(rows) == {"conflicts": [(1,)]} and examine(rows).ties == 1
    assert examine(rows[2:3]).ties is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.", "I cannot help you with this request.", "Sorry, I can’t do that.",
        "As an AI language model, I cannot give medical advice.", "I am unable to provide that information.",
        "I apologize, but I won't write such a text.", "I must respectfully decline.",
    ],
)  # fmt: skip
def test_refusals_are_told_by_their_opening(text: str) -> None:
    assert is_refusal(text) and is_refusal(f"\n{text}") and not is_refusal("Here it is. " * 30 + text)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that. Here is what helps:", "Sure! I can help with that.", "You cannot park here.",
        "I can't wait to see it.", "An AI is a program.", "Willst du es? Ich kann nicht.",
    ],
)  # fmt: skip
def test_other_answers_are_no_refusals(text: str) -> None:
    assert not is_refusal(text)


def test_refusals_are_counted_by_side() -> None:
    no, yes = "I'm sorry, but I can't help with that.", "Here you are."
    assert seen(pairs(("p", no, yes), ("q", yes, no), ("r", yes, "b"))) == {
        "refusals": [(1,)], "refusals_rejected": [(2,)],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France, and how big is it?", "English"),
        ("Was ist die Hauptstadt von Frankreich, und wie groß ist sie?", "German"),
        ("Quelle est la capitale de la France, et pourquoi ?", "French"),
        ("¿Cuál es la capital de Francia y por qué es así?", "Spanish"),
        ("法国的首都是哪里？", "Chinese"), ("フランスの首都はどこですか。", "Japanese"), ("프랑스의 수도는?", "Korean"),
        ("Какая столица Франции?", "Cyrillic script"), ("ما هي عاصمة فرنسا؟", "Arabic script"),
        ("print(a, b)", LATIN), ("1 + 1 = 2", ""), ("", ""),
    ],
)  # fmt: skip
def test_languages_are_told_by_script_and_function_words(text: str, language: str) -> None:
    assert language_of(text) == language


def test_an_answer_in_another_language_than_its_prompt_is_seen() -> None:
    asked = "What is the name of the capital, and where is it?"
    rows = pairs(
        (asked, "Die Stadt ist nicht groß.", "no"), (asked, "The city is not big.", "b"), (asked, "x = 1", "b")
    )
    assert seen(rows) == {"other_language": [(1,)]}
    assert examine(rows).languages == {"German": 1, "English": 1, LATIN: 1}
    assert not is_other_language(LATIN, "English") and is_other_language("Chinese", "English")


BREAD = "How do I bake a sourdough bread at home without a dutch oven, and which flour should I buy for it?"
SCHOOL = "Describe a day at a school of the year 2100 in the voice of a tired robot who teaches mathematics there."


def indexed(*texts: tuple[int, str]) -> Callable[[str], int | None]:
    """The match of a text among numbered texts."""
    near = NearTexts((number, words_of(text)) for number, text in texts)
    return lambda text: near.match(words_of(text))


def test_near_duplicates_share_most_of_their_sequences_of_words() -> None:
    near = indexed((3, BREAD), (5, SCHOOL), (6, "Who?"), (7, BREAD))
    assert near(BREAD.upper().replace(",", " -")) == 3
    assert near(BREAD.replace("sourdough", "rye")) == 3  # one word
    assert near(f"Please tell me this. {BREAD} Thank you very much indeed!") == 3  # more around it
    assert near("who ?!") == 6
    assert near("Who are you?") is None and near("") is None
    short = indexed((0, "Tell me the capital of France!"), (1, "Hi there."))
    assert short("Tell me the capital of France, please.") == 0 and short("Tell me the capital of Spain!") is None
    assert short("Hi there, who are you and what do you do?") is None
    half = " ".join(BREAD.split()[:10])
    assert near(half + " so that my friends and family all love to eat it every day of the week") is None


def test_templates_and_short_texts_are_no_near_duplicates() -> None:
    template = "Write a short poem in exactly four lines about the following topic and use no rhymes at all: {}"
    near = indexed(*((i, template.format(topic)) for i, topic in enumerate(("cats", "dogs", "rain", "snow", "tea"))))
    assert near(template.format("moss")) is None and near(template.format("rain")) == 2
    assert indexed((0, "What is the capital of France?"))("What is the capital of Spain?") is None


def test_the_packaged_prompts_of_one_kind_are_no_near_duplicates() -> None:
    folder = Path(prefzoo.__file__).parent / "data" / "packaged"
    sets = [read_source(DataSource(f"instruct_{name}.jsonl"), folder)[0].examples for name in ("train", "eval")]
    prompts = [row.prompt for row in load_prompts("instruct:eval", folder)]
    kinds = seen(list(sets[0]), TestedOn("eval", sets[1]), TestedOn("prompts", (), prompts))
    assert "leaks" not in kinds and "swapped" not in kinds and "disputed" not in kinds


def test_near_duplicates_are_found_without_blanks_between_words() -> None:
    near = indexed((0, "请用三句话描述一下未来学校的一天，并说明机器人老师的心情。"))
    assert near("请用三句话描述一下未来学校的一日，并说明机器人老师的心情！") == 0
    assert near("请写一首关于春天的诗，要有韵律。") is None


def test_leaks_are_training_rows_that_are_nearly_tested_on() -> None:
    long = "It was a long and quiet day until the bell rang and all the pupils ran home at once."
    held_out = TestedOn("test.jsonl", pairs(("Hi", "a", "b"), (BREAD, "flour", "water"), ("Go on", long, "c")))
    asked = TestedOn("prompts.jsonl", (), ["Who is it?", SCHOOL])
    rows = pairs(
        ("Hello", "a", "b"), (BREAD.replace("home", "my house"), "x", "y"), (f"{SCHOOL} Now!", "x", "z"),
        ("Go ahead", long, "c"),
    )  # fmt: skip
    flagged = [finding_of(one) for one in examine(rows, [held_out, asked]).flagged]
    assert [(one.name, one.against, one.rows) for one in flagged] == [
        ("leaks", "test.jsonl", ((2, 2), (4, 3))), ("leaks", "prompts.jsonl", ((3, 2),)),
    ]  # fmt: skip
    assert example_words(flagged[0]) == "rows 2 and 2, 4 and 3 (the second of test.jsonl)"
    assert example_words(flagged[1]) == "rows 3 and 2 (the second of prompts.jsonl)"


def test_a_system_message_that_all_rows_share_makes_no_leak() -> None:
    system = {"role": "system", "content": f"You are a helpful assistant. {BREAD}"}

    def row(asked: str) -> tuple[Text, str, str]:
        return [system, {"role": "user", "content": asked}], "a", "b"

    assert seen(pairs(row("Who?")), TestedOn("t", pairs(row("Where?")))) == {}


def test_tokens_show_short_answers_and_how_many_really_differ() -> None:
    same = [*range(10, 20)]
    rows = [
        TokenPair([1], [5, 6, 7, 8, 2], [5, 9, 2], 0),  # differ in 6 7 8 against 9
        TokenPair([1], [*same, 3, 2], [*same, 4, 2], 4),  # in one token
        TokenPair([1], [5, 6, 2], [7, 6, 2], 7),
    ]
    audit = measure_tokens(rows)
    assert {one.kind: one.rows.tolist() for one in audit.flagged} == {"same_start": [4], "short": [7]}
    assert audit.differing is not None
    assert (audit.differing.n, audit.differing.longest, audit.differing.median) == (3, 3, 1)


def test_a_row_is_left_out_for_the_first_reason_asked_for() -> None:
    audit = examine(pairs(("p", "a", "b", (1.0, 2.0)), ("p", "b", "a", (1.0, 2.0)), ("q", "a", "b", (0.0, 3.0))))
    assert dropped_rows(audit, ["contradictions", "conflicts"]) == {
        0: "a contradiction; row 2 has the same pair the other way round",
        1: "a contradiction; row 1 has the same pair the other way round",
        2: "scores against the label; they rate the rejected answer higher",
    }
    assert dropped_rows(audit, []) == {} == dropped_rows(audit, ["leaks"])


def test_rows_of_several_sources_are_named_by_theirs() -> None:
    origins = Origins([Part("a", "a.jsonl", "", 0, 2), Part("b", "b.jsonl", "", 2, 2)])
    rows = pairs(("o", "a", "b"), ("p", "a", "b"), ("q", "a", "b"), ("p", "b", "a"))
    audit = examine(rows, [TestedOn("test.jsonl", pairs(("o", "x", "y")))])
    swapped, leaks = (finding_of(one, origins=origins) for one in audit.flagged)
    assert example_words(swapped) == "a.jsonl: row 2 and b.jsonl: row 2 (a 1, b 1)"
    assert example_words(leaks) == "a.jsonl: row 1 and row 1 of test.jsonl (a 1)"
    assert dropped_rows(audit, ["contradictions"], origins)[1].endswith(
        "b.jsonl: row 2 has the same pair the other way round"
    )
    kept = json.loads(json.dumps({"findings": [asdict(swapped), asdict(leaks)]}))
    assert findings_of(kept) == [swapped, leaks] and findings_of({}) == []


def test_every_kind_that_can_be_dropped_has_a_reason() -> None:
    assert all(bool(kind.reason) == (kind.drop is not None) for kind in KINDS.values())


def read(folder: Path, tokenizer: Any, rows: list[Any], drop: list[Any]) -> Any:
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_and_audit(DataSource("d.jsonl"), folder, tokenizer, 99, "drop", drop=drop)


def test_dropped_rows_are_counted_and_kept_with_their_reason(tiny_plain_tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "x", "chosen": c, "rejected": r} for c, r in (("1", "2"), ("2", "1"), ("3", "4"))]
    data = read(tmp_path, tiny_plain_tokenizer, rows, ["contradictions"])
    assert [e.row for e in data.tokens.examples] == [2] and isinstance(data.audit, Audit)
    assert data.audit.counts == {"dropped: a contradiction": 2} and data.audit.kept == 1
    assert [(bad.place, bad.row) for bad in data.left_out] == [("d.jsonl: row 1", rows[0]), ("d.jsonl: row 2", rows[1])]
    assert "contradictions" in [one.drop for one in data.audit.findings]
    assert read(tmp_path, tiny_plain_tokenizer, rows, []).audit.kept == 3
    with pytest.raises(UserError, match="data.drop leaves none of 2 rows .2 dropped: a contradiction.; drop less"):
        read(tmp_path, tiny_plain_tokenizer, rows[:2], ["contradictions"])
