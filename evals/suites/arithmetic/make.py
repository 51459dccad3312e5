"""Write the items of the suite (`python -m prefzoo.evals.suites.arithmetic.make`): sums, products, word problems.

Every item carries the `expression` that its question asks for, so that a reader can work it out again.
"""

from __future__ import annotations

import random
from typing import Any

from prefzoo.evals.suites.documents import write

SEED, EACH, CHOICES = 0, 40, 4
Made = tuple[str, str, int]  # question, expression, answer
STORIES = (
    ("A basket holds {a} apples and {b} pears. How many pieces of fruit is that?", "+"),
    ("A library lends {a} books on Monday and {b} on Tuesday. How many in both days?", "+"),
    ("A train has {a} passengers and {b} of them get off. How many stay on it?", "-"),
    ("A rope of {a} metres is cut, and {b} metres are taken away. How many metres are left?", "-"),
    ("Each of {a} boxes holds {b} candles. How many candles are there?", "*"),
    ("A hall has {a} rows of {b} chairs. How many chairs does it have?", "*"),
)


def _plus(draw: random.Random) -> Made:
    a, b = draw.randint(2, 99), draw.randint(2, 99)
    return f"How much is {a} plus {b}?", f"{a} + {b}", a + b


def _minus(draw: random.Random) -> Made:
    b, rest = draw.randint(2, 60), draw.randint(1, 60)
    return f"How much is {b + rest} minus {b}?", f"{b + rest} - {b}", rest


def _times(draw: random.Random) -> Made:
    a, b = draw.randint(2, 12), draw.randint(2, 12)
    return f"How much is {a} times {b}?", f"{a} * {b}", a * b


def _divided(draw: random.Random) -> Made:
    b, result = draw.randint(2, 12), draw.randint(2, 20)
    return f"How much is {b * result} divided by {b}?", f"{b * result} / {b}", result


def _chain(draw: random.Random) -> Made:
    a, b, c = draw.randint(10, 40), draw.randint(2, 30), draw.randint(2, 9)
    return f"How much is {a} plus {b} minus {c}?", f"{a} + {b} - {c}", a + b - c


def _story(draw: random.Random) -> Made:
    text, sign = draw.choice(STORIES)
    b = draw.randint(2, 9) if sign == "*" else draw.randint(5, 40)
    a = draw.randint(2, 9) if sign == "*" else b + draw.randint(2, 40)
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    return text.format(a=a, b=b), f"{a} {sign} {b}", value


def items() -> list[dict[str, Any]]:
    """The items; each place holds the right answer equally often, and near or far numbers stand beside it."""
    draw = random.Random(SEED)
    made: dict[str, Made] = {}
    for kind in (_plus, _minus, _times, _divided, _chain, _story):
        goal = len(made) + EACH
        while len(made) < goal:
            found = kind(draw)
            made.setdefault(found[0], found)
    labels = [i % CHOICES for i in range(len(made))]
    draw.shuffle(labels)
    draws = list(made.values())
    draw.shuffle(draws)
    return [_item(i, draws[i], label, draw) for i, label in enumerate(labels)]


def _item(i: int, made: Made, label: int, draw: random.Random) -> dict[str, Any]:
    question, expression, right = made
    near = [right + d for d in (-10, -3, -2, -1, 1, 2, 3, 10) if right + d >= 0]
    choices = draw.sample(near, CHOICES - 1)
    choices.insert(label, right)
    texts = [str(c) for c in choices]
    return {"id": i, "question": question, "expression": expression, "choices": texts, "label": label}


if __name__ == "__main__":
    write(__file__, items())
