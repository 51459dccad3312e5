"""Preference pairs of a policy's own: which two answers are taken, what is left out, under every kind of judge."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from prefzoo.errors import UserError
from prefzoo.evals.generation import pairs
from prefzoo.evals.generation.pairs import Rule, Sampling, make_pairs, pick, write_pairs
from prefzoo.evals.judges.function import judge_by
from prefzoo.evals.judges.grades import ALONE, grade
from prefzoo.evals.judges.protocol import Answer, PromptRow
from prefzoo.runtime.cache import Cache

ROW = PromptRow("7", "say it")
HOW = Sampling(3, 1.0, 0, 4)


def ended(*texts: str) -> list[Answer]:
    return [Answer(text, True, 1) for text in texts]


def better(instruction: str, output_1: str, output_2: str) -> float:
    if "?" in output_1 + output_2:
        raise TimeoutError("no time")
    return 1.0 if len(output_1) > len(output_2) else 2.0


def score(instruction: str, output: str) -> float:
    return float(len(output))


def test_best_against_worst() -> None:
    picked = pick(ROW, ended("a", "b c", "d e f", "g"), [0.3, -2.0, 5.0, 0.3], Rule())
    assert picked.pair == {
        "id": "7", "topic": None, "prompt": "say it", "chosen": "d e f", "rejected": "b c", "score_chosen": 5.0,
        "score_rejected": -2.0, "checks": [], "ref_rewards": [0.3, -2.0, 5.0, 0.3],
    }  # fmt: skip
    assert picked.why == "" and picked.left_out == {}


def test_alike_gaps_go_to_the_closest_in_length() -> None:
    picked = pick(ROW, ended("a b c d e f", "a", "a b c d e", "x"), [1.0, 0.0, 1.0, 0.5], Rule())
    assert picked.pair is not None
    assert (picked.pair["chosen"], picked.pair["rejected"]) == ("a b c d e", "a")  # 5 to 1 words, not 6 to 1


@pytest.mark.parametrize(
    ("answers", "scores", "rule", "why"),
    [
        (ended("a", "b"), [1.0, 1.0], Rule(), "all scores tie"),
        (ended("a", "a"), [1.0, 1.0], Rule(), "fewer than two answers to choose from"),
        (ended("a b", "c"), [1.0, 0.0], Rule(length_ratio=1.9), "no two answers within the bounds on score and length"),
        (ended("a", "b"), [0.6, 0.0], Rule(least_chosen=0.7), "no two answers within the bounds on score and length"),
    ],
)
def test_a_prompt_without_a_pair_says_why(answers: list[Answer], scores: list[float], rule: Rule, why: str) -> None:
    picked = pick(ROW, answers, scores, rule)
    assert picked.pair is None and picked.why == why


def test_what_is_left_out_is_counted_by_its_reason() -> None:
    cut = Answer("best of all", False, 4)
    answers = [*ended("a", "a", "", "b", "lost"), cut]
    picked = pick(ROW, answers, [1.0, 1.0, 9.0, 0.0, "no reply", 9.0], Rule())
    assert picked.left_out == {"duplicate": 1, "empty": 1, "without a score": 1, "unfinished": 1}
    assert picked.pair is not None and (picked.pair["chosen"], picked.pair["rejected"]) == ("a", "b")


def test_a_judge_of_pairs_grades_by_the_wins_among_a_prompts_answers() -> None:
    asked: list[tuple[str, str]] = []

    def counting(instruction: str, output_1: str, output_2: str) -> float:
        asked.append((output_1, output_2))
        return better(instruction, output_1, output_2)

    answers = [*ended("aaa", "a", "aa", "a"), Answer("cut off", False, 4)]
    (grades,), verdicts = grade(judge_by(counting, "f"), [ROW], [answers])
    # "aaa" beats both others, "aa" one of two, "a" none; a repeated text has its grade, a cut one none
    assert grades == [1.0, 0.0, 0.5, 0.0, ALONE]
    assert len(asked) == 6 and len(verdicts) == 3  # three pairs of distinct texts, in both orders


def test_a_missing_verdict_leaves_the_others_to_count() -> None:
    (grades,), verdicts = grade(judge_by(better, "f"), [ROW], [ended("aaa", "a", "?")])
    assert grades[:2] == [1.0, 0.0] and re.fullmatch(r".*test_pairs.py:\d+: TimeoutError: no time", str(grades[2]))
    assert sum(bool(v.missing) for v in verdicts) == 2


def test_a_judge_of_one_answer_is_asked_for_its_score_alone() -> None:
    grades, verdicts = grade(judge_by(score, "f"), [ROW, ROW], [ended("aaa", "a"), ended("bb", "b")])
    assert grades == [[3.0, 1.0], [2.0, 1.0]] and len(verdicts) == 4


class Policy:
    """Stands for generation: counts the prompts, and answers each with texts of three lengths."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, prompts: Sequence[Any]) -> list[list[Answer]]:
        self.asked += prompts
        return [ended(f"{p} a", f"{p} abc", f"{p} ab") for p in prompts]


def test_a_killed_call_samples_and_judges_nothing_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policy, rows = Policy(), [PromptRow(str(i), f"p{i}") for i in range(3 * pairs.CHUNK)]
    partial = Cache(tmp_path / "x.partial")

    def kill(done: int, total: int) -> None:
        if done == 2 * pairs.CHUNK:
            raise KeyboardInterrupt

    judge = judge_by(score, "f")
    with pytest.raises(KeyboardInterrupt):
        make_pairs(policy, rows, judge, HOW, Rule(), partial=partial, progress=kill)
    with partial.path.open("a") as f:
        f.write('{"sha256": "half a li')  # a chunk that the kill cut short
    built, card = make_pairs(policy, rows, judge, HOW, Rule(), partial=Cache(partial.path))
    assert policy.asked == [r.prompt for r in rows]
    assert [p["id"] for p in built] == [r.id for r in rows] and card["pairs"] == len(rows)
    assert all(p["chosen"].endswith("abc") and p["rejected"].endswith(" a") for p in built)
    assert len(partial.path.read_text().splitlines()) == 3
    again, same = make_pairs(policy, rows, judge, HOW, Rule(), limit=40, partial=partial)
    assert again == built[:40] and same["prompts_asked"] == 2 * pairs.CHUNK and len(policy.asked) == len(rows)


def test_too_much_missing_is_refused_with_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(instruction: str, output: str) -> float:
        raise TimeoutError("no time")

    with pytest.raises(
        UserError,
        match=r"^judge f: 6 of 6 verdicts are missing \(6 x .*test_pairs.py:\d+: TimeoutError: no time\); more",
    ):
        make_pairs(Policy(), [ROW, PromptRow("8", "other")], judge_by(broken, "f"), HOW, Rule())


def test_both_kinds_of_file(tmp_path: Path) -> None:
    row = pick(ROW, ended("a", "b"), [1.0, 0.0], Rule()).pair
    assert row is not None
    for name in ("x.jsonl", "x.parquet"):
        write_pairs(tmp_path / "new" / name, [row], {"judge": "j"})
        assert json.loads((tmp_path / "new" / f"{name}.card.json").read_text()) == {"judge": "j"}
    assert json.loads((tmp_path / "new" / "x.jsonl").read_text()) == row
    assert pd.read_parquet(tmp_path / "new" / "x.parquet").chosen.tolist() == ["a"]
    assert len(list((tmp_path / "new").iterdir())) == 4
