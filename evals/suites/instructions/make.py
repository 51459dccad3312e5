"""Writes the items of the suite: `python -m prefzoo.evals.suites.instructions.make`.

A writing task, and one or two demands on its form that a function can check. None of the tasks is one of
`instruct:train`, on which the demo trains.
"""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

from prefzoo.evals.suites.documents import write

SEED, ITEMS = 0, 240
Spec = dict[str, Any]

TASKS = (
    "Write a note to a neighbour about a parcel.", "Invite a friend to supper.", "Thank a colleague for her help.",
    "Describe the view from a train window.", "Explain why the sky is blue.", "Explain how to boil an egg.",
    "Recommend a walk for a rainy day.", "Write an announcement for a village fair.", "Say what makes a good teacher.",
    "Describe the smell of a bakery.", "Explain how to tie shoelaces.", "Write a postcard from the seaside.",
    "Apologise for being late.", "Advertise a second-hand bicycle.", "Explain what a library is for.",
    "Describe a storm at night.", "Give advice to somebody who cannot sleep.", "Write a weather report for tomorrow.",
    "Explain how to plant a tree.", "Describe an old house.", "Write a toast for a wedding.",
    "Explain what money is.", "Complain politely about a cold meal.", "Describe your favourite season.",
    "Explain how to ride a bicycle.", "Write a riddle about time.", "Suggest a name for a boat and say why.",
    "Explain why leaves fall in autumn.", "Write a welcome for new pupils.", "Describe a busy kitchen.",
)  # fmt: skip

# Each demand with the wordings that ask for it.
SHAPES: tuple[tuple[Spec, tuple[str, ...]], ...] = (
    ({"kind": "exact_sentences", "n": 2}, ("Your answer must have exactly two sentences.", "Write two sentences.")),
    ({"kind": "exact_sentences", "n": 3}, ("Your answer must have exactly three sentences.",)),
    ({"kind": "one_sentence"}, ("Keep it to a single sentence.", "One sentence, please.")),
    ({"kind": "most_words", "n": 20}, ("Stay within 20 words.", "No more than 20 words.")),
    ({"kind": "most_words", "n": 40}, ("Stay within 40 words.",)),
    ({"kind": "least_words", "n": 15}, ("Write 15 words or more.",)),
    ({"kind": "numbered_list", "n": 3}, ("Give it as a numbered list with three items.",)),
    ({"kind": "numbered_list", "n": 4}, ("Give it as a numbered list with four items and nothing else.",)),
    ({"kind": "dash_list", "n": 3}, ("Give it as three lines that each begin with a dash.",)),
    ({"kind": "paragraphs", "n": 2}, ("Split it into two paragraphs with a blank line between them.",)),
    ({"kind": "json_object", "key": "answer"}, ('Reply with nothing but a JSON object; use the key "answer".',)),
)
MANNERS: tuple[tuple[Spec, tuple[str, ...]], ...] = (
    ({"kind": "lower_case"}, ("Use no capital letters.", "lower case letters only, please.")),
    ({"kind": "upper_case"}, ("USE ONLY CAPITAL LETTERS.",)),
    ({"kind": "no_commas"}, ("Avoid commas.", "There must not be a single comma in it.")),
    ({"kind": "has_digits"}, ("Include a number in digits.",)),
    ({"kind": "contains", "word": "green"}, ('The word "green" must occur.', 'Work in the word "green".')),
    ({"kind": "contains", "word": "perhaps"}, ('The word "perhaps" must occur.',)),
    ({"kind": "contains", "word": "morning"}, ('Work in the word "morning".',)),
    ({"kind": "avoids", "word": "and"}, ('Do without the word "and".',)),
    ({"kind": "avoids", "word": "a"}, ('Do without the word "a".',)),
    ({"kind": "starts_with", "phrase": "Well"}, ('The first word must be "Well".',)),
    ({"kind": "ends_with", "phrase": "so be it"}, ('The last words must be "so be it".',)),
    ({"kind": "ends_with_question"}, ("The last sentence must be a question.",)),
    ({"kind": "ends_with_exclamation"}, ("Finish with an exclamation mark.",)),
)
ALONE = ("json_object",)  # its quotes and braces leave no room for a manner
PROSE = ("starts_with", "ends_with", "ends_with_question", "ends_with_exclamation")
LISTS = ("numbered_list", "dash_list")
Demand = tuple[Spec, tuple[str, ...]]


def combinations() -> list[tuple[Demand, ...]]:
    """One demand, or a shape and a manner that can be met together."""
    pairs = [(a, b) for a, b in itertools.product(SHAPES, MANNERS) if _together(a[0]["kind"], b[0]["kind"])]
    return [*((d,) for d in (*SHAPES, *MANNERS)), *pairs]


def _together(shape: str, manner: str) -> bool:
    if shape in ALONE or (shape == "numbered_list" and manner == "has_digits"):  # a list has digits by itself
        return False
    return not (shape in LISTS and manner in PROSE)


def items() -> list[dict[str, Any]]:
    """The items, no prompt twice; all combinations of demands come up about equally often."""
    draw = random.Random(SEED)
    tasks, sets = _endless(TASKS, draw), _endless(combinations(), draw)
    made: dict[str, list[Spec]] = {}
    while len(made) < ITEMS:
        demands = next(sets)
        asked = " ".join([next(tasks), *(draw.choice(wordings) for _, wordings in demands)])
        made.setdefault(asked, [spec for spec, _ in demands])
    # as text: in a column of mappings every row would get the keys of all others
    return [{"id": i, "prompt": asked, "checks": json.dumps(specs)} for i, (asked, specs) in enumerate(made.items())]


def _endless(values: Any, draw: random.Random) -> Any:
    """All values in a drawn order, again and again."""
    while True:
        yield from draw.sample(list(values), len(values))


if __name__ == "__main__":
    write(__file__, items())
