"""Writes the items of the suite: `python -m prefzoo.evals.suites.knowledge.make`.

Facts by table (`facts.yml`) and small steps of reasoning (`reasoning.txt`), all of the project's own writing.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

from prefzoo.evals.suites.documents import write

SEED, CHOICES = 0, 4
HERE = Path(__file__).parent
Made = tuple[str, str, list[str]]  # question, right answer, wrong ones


def _facts(draw: random.Random) -> list[Made]:
    made: list[Made] = []
    for table in yaml.safe_load((HERE / "facts.yml").read_text(encoding="utf-8")):
        facts = {str(k): str(v) for k, v in table["facts"].items()}
        for key, right in facts.items():
            others = [v for v in dict.fromkeys(facts.values()) if v not in (right, key)]
            made.append((_article(table["ask"].format(key=key)), right, draw.sample(others, CHOICES - 1)))
    return made


def _article(question: str) -> str:
    """`a owl` -> `an owl`."""
    words = question.split()
    spoken = zip(words, [*words[1:], ""], strict=True)
    return " ".join("an" if word == "a" and after[0] in "aeiou" else word for word, after in spoken)


def _reasoning() -> list[Made]:
    lines = (HERE / "reasoning.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" | ") for line in lines if not line.startswith("#")]
    return [(question, right, wrong) for question, right, *wrong in rows]


def items() -> list[dict[str, Any]]:
    """The items, in drawn order; each place holds the right answer equally often."""
    draw = random.Random(SEED)
    made = [*_facts(draw), *_reasoning()]
    draw.shuffle(made)
    labels = [i % CHOICES for i in range(len(made))]
    draw.shuffle(labels)
    out: list[dict[str, Any]] = []
    for i, ((question, right, wrong), label) in enumerate(zip(made, labels, strict=True)):
        choices = [*wrong]
        choices.insert(label, right)
        out.append({"id": i, "question": question, "choices": choices, "label": label})
    return out


if __name__ == "__main__":
    write(__file__, items())
