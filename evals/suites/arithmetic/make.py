"""Writes the items of the suite: `python -m evals.suites.arithmetic.make`. Sums and differences."""

from __future__ import annotations

import json
import random
from pathlib import Path

SEED, ITEMS = 0, 100


def items() -> list[dict[str, object]]:
    """The items; the right answer's place is drawn evenly."""
    draw = random.Random(SEED)
    made: list[dict[str, object]] = []
    for i in range(ITEMS):
        a, b = draw.randint(1, 9), draw.randint(1, 9)
        plus = draw.random() < 0.5  # noqa: PLR2004 - a fair coin
        a, b = (a, b) if plus else (max(a, b), min(a, b))
        right = a + b if plus else a - b
        wrong = draw.sample([n for n in range(max(0, right - 4), right + 5) if n != right], 3)
        choices = [*wrong]
        label = draw.randrange(4)
        choices.insert(label, right)
        verb = "plus" if plus else "minus"
        question = f"How much is {a} {verb} {b}?"
        made.append({"id": i, "question": question, "choices": [str(c) for c in choices], "label": label})
    return made


if __name__ == "__main__":
    text = "".join(json.dumps(item) + "\n" for item in items())
    (Path(__file__).parent / "items.jsonl").write_text(text, encoding="utf-8")
