"""The embedded suites: what their programs make, unique, balanced and right; demands that can be met."""

from __future__ import annotations

import ast
import json
import operator
import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from prefzoo.evals.judges.checks import holds
from prefzoo.evals.suites.instruct import build_prompts
from prefzoo.evals.suites.instructions.make import TASKS, combinations
from prefzoo.evals.suites.instructions.task import process_results
from prefzoo.evals.suites.tasks import SUITES, suite_names

CHOICE = ("arithmetic", "knowledge")
SIGNS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def rows(suite: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SUITES / suite / "items.jsonl").read_text().splitlines()]


def test_which_there_are() -> None:
    assert suite_names() == ["arithmetic", "instructions", "knowledge", "perplexity"]


@pytest.mark.parametrize("suite", suite_names())
def test_the_items_are_what_their_program_makes_and_each_is_there_once(suite: str) -> None:
    result = rows(suite)
    assert result == import_module(f"prefzoo.evals.suites.{suite}.make").items()
    assert len(result) >= 200 and [r["id"] for r in result] == list(range(len(result)))
    asked = [r.get("question") or r.get("prompt") or r["text"] for r in result]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("suite", CHOICE)
def test_answers_are_balanced_and_choices_differ(suite: str) -> None:
    places = Counter(r["label"] for r in rows(suite))
    assert set(places) == {0, 1, 2, 3} and max(places.values()) - min(places.values()) <= 1
    assert all(len(set(r["choices"])) == len(r["choices"]) == 4 for r in rows(suite))


def worked_out(node: ast.AST) -> float:
    if isinstance(node, ast.BinOp):
        return float(SIGNS[type(node.op)](worked_out(node.left), worked_out(node.right)))
    assert isinstance(node, ast.Constant)
    return float(node.value)  # type: ignore[arg-type]


def test_arithmetic_is_right_and_asks_what_its_expression_says() -> None:
    signs = {"plus": "+", "minus": "-", "times": "*", "divided": "/"}
    for r in rows("arithmetic"):
        assert worked_out(ast.parse(r["expression"], mode="eval").body) == float(r["choices"][r["label"]])
        assert re.findall(r"\d+", r["question"]) == re.findall(r"\d+", r["expression"])
        words = [signs[w] for w in re.findall(r"plus|minus|times|divided", r["question"])]
        assert not words or words == re.findall(r"[-+*/]", r["expression"])


def test_the_longest_choice_is_not_a_tell() -> None:
    """Whoever always takes the longest answer, or the middle number, is right about as often as by chance."""
    longest = [max(range(4), key=lambda i: len(r["choices"][i])) == r["label"] for r in rows("knowledge")]
    assert sum(longest) / len(longest) < 0.35
    ranks = Counter(sorted(map(int, r["choices"])).index(int(r["choices"][r["label"]])) for r in rows("arithmetic"))
    assert max(ranks.values()) / sum(ranks.values()) < 0.5


def ideal(specs: list[dict[str, Any]]) -> str:
    """An answer that does what is asked, put together here and not by the suite."""
    kinds = {s["kind"]: s for s in specs}
    parts = ["Go there early today", "Look closely once more", "Then leave it all be", "Come back when you like"]
    if "contains" in kinds:
        parts[0] += f" {kinds['contains']['word']}"
    if "has_digits" in kinds:
        parts[0] += " 7"
    if "json_object" in kinds:
        return json.dumps({"answer": parts[0]})
    if "starts_with" in kinds:
        parts[0] = f"{kinds['starts_with']['phrase']} {parts[0].lower()}"
    n = 1 if "one_sentence" in kinds else kinds.get("exact_sentences", {}).get("n", 2 if "most_words" in kinds else 4)
    last = "?" if "ends_with_question" in kinds else "!" if "ends_with_exclamation" in kinds else "."
    if "ends_with" in kinds:
        parts[n - 1] += f" {kinds['ends_with']['phrase']}"
    sentences = [p + "." for p in parts[: n - 1]] + [parts[n - 1] + last]
    text = " ".join(sentences)
    for kind, mark in (("numbered_list", "{i}. "), ("dash_list", "- ")):
        if kind in kinds:
            text = "\n".join(mark.format(i=i + 1) + p for i, p in enumerate(parts[: kinds[kind]["n"]]))
    if "paragraphs" in kinds:
        text = f"{' '.join(sentences[:-1])}\n\n{sentences[-1]}"
    if "lower_case" in kinds or "upper_case" in kinds:
        text = text.lower() if "lower_case" in kinds else text.upper()
    return text


def test_every_instruction_can_be_met_and_is_not_by_saying_nothing() -> None:
    for r in rows("instructions"):
        specs = json.loads(r["checks"])
        answer = ideal(specs)
        assert all(holds(answer, s) for s in specs), (r["prompt"], answer)
        assert process_results(r, [answer]) == {"followed": 1.0}
        assert process_results(r, [""]) == {"followed": 0.0}


def test_all_demands_come_up_and_none_is_trained_on() -> None:
    seen = {r["checks"] for r in rows("instructions")}
    assert {json.dumps([spec for spec, _ in demands]) for demands in combinations()} == seen
    trained = {p.prompt for p in build_prompts("train", 600)}
    assert not any(task in prompt for task in TASKS for prompt in trained)


def test_passages_read_as_prose() -> None:
    for r in rows("perplexity"):
        assert 200 < len(r["text"]) < 700 and "{" not in r["text"] and r["text"][-1] in '.!?"'
        assert r["text"][0].isupper() or r["text"][0] == '"'


def test_facts_are_of_one_mind() -> None:
    """A question has one right answer, and no wrong choice is right for it elsewhere."""
    right = {r["question"]: r["choices"][r["label"]] for r in rows("knowledge")}
    assert right["What is the capital of Australia?"] == "Canberra"
    assert right["What is the chemical symbol of sodium?"] == "Na"
    assert right["How many minutes are in an hour?"] == "60"
    assert not any(re.search(r"\ba [aeiou]", q) for q in right if '"' not in q and "paint" not in q)
    assert Path(SUITES / "knowledge" / "reasoning.txt").read_text().count(" | ") == 40 * 4
