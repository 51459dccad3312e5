"""Build prompts with checkable instructions from topics and combinations of checks. Train and eval share neither."""

from __future__ import annotations

import hashlib
import itertools
import random
from pathlib import Path
from typing import Any

from prefzoo.errors import UserError
from prefzoo.evals.judges.checks import CHECKS
from prefzoo.evals.judges.protocol import PromptRow

Spec = dict[str, Any]
EVAL_SHARE = 5  # about one topic, and one combination, in five is held out for evaluation

REQUESTS = ("Tell me about {topic}.", "Write about {topic}.", "Explain {topic} to a child.", "Describe {topic}.")
LEAST = (8, 12)  # words that every answer must have, so that a shrunken answer cannot win

IRREGULAR = {"wolves": "wolf", "scarves": "scarf", "leaves": "leaf", "teeth": "tooth", "cacti": "cactus"}

# Checks on the shape of the whole answer; a prompt has at most one of them.
SHAPES: tuple[Spec, ...] = (
    {"kind": "one_sentence"},
    {"kind": "exact_sentences", "n": 2},
    {"kind": "exact_sentences", "n": 3},
    {"kind": "numbered_list", "n": 2},
    {"kind": "numbered_list", "n": 3},
    {"kind": "dash_list", "n": 2},
    {"kind": "dash_list", "n": 3},
    {"kind": "most_words", "n": 30},
    {"kind": "paragraphs", "n": 2},
)
# Checks that go with any shape.
MANNERS: tuple[Spec, ...] = (
    {"kind": "lower_case"},
    {"kind": "upper_case"},
    {"kind": "no_commas"},
    {"kind": "has_digits"},
    {"kind": "contains", "word": "people"},
    {"kind": "contains", "word": "small"},
    {"kind": "contains", "word": "world"},
    {"kind": "avoids", "word": "the"},
    {"kind": "avoids", "word": "is"},
)
# Checks that need prose, and do not go with a list.
ENDS: tuple[Spec, ...] = (
    {"kind": "starts_with", "phrase": "Did you know"},
    {"kind": "starts_with", "phrase": "In short"},
    {"kind": "ends_with_question"},
    {"kind": "ends_with_exclamation"},
    {"kind": "ends_with", "phrase": "that is all"},
    {"kind": "in_quotes"},
    {"kind": "in_brackets"},
)
ALONE: tuple[Spec, ...] = ({"kind": "json_object", "key": "fact"}, {"kind": "cyrillic"})
LISTS = ("numbered_list", "dash_list")


def topics() -> list[str]:
    """Return all topics. Each is one word, in the plural if it has one, and is also the topic's key word."""
    words = (Path(__file__).parent / "topics.txt").read_text(encoding="utf-8").split()
    assert len(words) == len(set(words)), "a topic twice would cross the split"
    return words


def combinations() -> list[tuple[Spec, ...]]:
    """Return all combinations of one or two instructions that an answer can follow together."""
    prose = [s for s in SHAPES if s["kind"] not in LISTS]
    single = [(s,) for s in (*SHAPES, *MANNERS, *ENDS, *ALONE)]
    pairs = [*itertools.product(SHAPES, MANNERS), *itertools.product(prose, ENDS), *itertools.product(MANNERS, ENDS)]
    return [*single, *(p for p in pairs if not _clash(p))]


def _clash(pair: tuple[Spec, ...]) -> bool:
    kinds = {s["kind"] for s in pair}
    return kinds >= {"numbered_list", "has_digits"} or kinds >= {"one_sentence", "paragraphs"}


def build_prompts(split: str, n: int, seed: int = 0) -> list[PromptRow]:
    """Build prompts; the same arguments give the same prompts.

    Each topic and each combination of instructions belongs to one split only, so that both are new in an evaluation
    prompt.

    Args:
        split: `train` or `eval`.
        n: number of prompts.
        seed: seed of the random draws.

    Returns:
        The prompts, no two with the same topic and instructions.

    Raises:
        UserError: the split does not exist.
    """
    if split not in ("train", "eval"):
        raise UserError(f"instruct:{split}: no such split; it has train and eval")
    draw = random.Random(f"{split}:{seed}")
    own_topics = [t for t in topics() if _split_of(t) == split]
    sets = [c for c in combinations() if _split_of(repr(c)) == split]
    by_size = [[c for c in sets if len(c) == size] for size in (1, 2)]
    rows: list[PromptRow] = []
    seen: set[tuple[str, str]] = set()
    while len(rows) < n:
        topic, chosen = draw.choice(own_topics), draw.choice(draw.choice(by_size))
        if (topic, repr(chosen)) in seen:
            continue
        seen.add((topic, repr(chosen)))
        rows.append(_row(f"{split}-{len(rows):04d}", topic, chosen, draw))
    return rows


def stems(topic: str) -> list[str]:
    """Return the beginnings of all inflections of a topic: bees -> bee, wolves -> wolf or wolves."""
    if topic in IRREGULAR:
        return [topic, IRREGULAR[topic]]
    for ending, cut in (("ies", 3), ("ches", 2), ("xes", 2), ("ses", 2), ("oes", 2), ("ss", 0), ("s", 1)):
        if topic.endswith(ending):
            return [topic[: len(topic) - cut]]
    return [topic]


def _split_of(text: str) -> str:
    return "eval" if hashlib.sha256(text.encode()).digest()[0] % EVAL_SHARE == 0 else "train"


def _row(row_id: str, topic: str, chosen: tuple[Spec, ...], draw: random.Random) -> PromptRow:
    least: Spec = {"kind": "least_words", "n": draw.choice(LEAST)}
    asked = [least, *chosen]
    sentences = [draw.choice(REQUESTS).format(topic=topic)]
    sentences += [CHECKS[s["kind"]].instruction({k: v for k, v in s.items() if k != "kind"}) for s in asked]
    substance: list[Spec] = [{"kind": "no_repetition"}]
    if {s["kind"] for s in chosen}.isdisjoint({"cyrillic"}):  # the key word is English
        substance.append({"kind": "on_topic", "keys": stems(topic)})
    return PromptRow(row_id, " ".join(sentences), (*asked, *substance), topic)
