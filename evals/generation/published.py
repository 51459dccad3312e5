"""Read published answers in AlpacaEval's format, to use them as the baseline of a comparison."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prefzoo.errors import UserError
from prefzoo.evals.judges.protocol import Answer, PromptRow

SHOWN = 60  # most characters of an instruction in a message


def is_published(spec: str) -> bool:
    """Return whether a baseline is a file of answers rather than a model."""
    return Path(spec).suffix == ".json"


def published_answers(path: Path, prompts: Sequence[PromptRow]) -> list[Answer]:
    """Read the answer to each prompt. Match answers and prompts by their text, not by their position.

    Raises:
        UserError: the file is not a list of rows with `instruction` and `output`, repeats an instruction, or lacks the
            answer to a prompt.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        answers = [(str(row["instruction"]), str(row["output"])) for row in rows]
    except OSError as e:
        raise UserError(f"--base {path}: {e.strerror}; name a model, or a file of answers") from None
    except (ValueError, TypeError, KeyError) as e:
        raise UserError(
            f"--base {path}: not AlpacaEval outputs ({type(e).__name__}: {e}); rows need instruction and output"
        ) from None
    counts = f"{len(answers)} answers in the file, {len(prompts)} prompts"
    twice = [text for text, n in Counter(text for text, _ in answers).items() if n > 1]
    if twice:
        raise UserError(f"--base {path}: {len(twice)} instructions occur twice ({counts}), like {twice[0][:SHOWN]!r}")
    by_text = dict(answers)
    lost = [row.text for row in prompts if row.text not in by_text]
    if lost:
        raise UserError(
            f"--base {path}: no answer to {len(lost)} prompts ({counts}), like {lost[0][:SHOWN]!r}; "
            "judge on the prompts that the file answers"
        )
    return [Answer(by_text[row.text], True, 0) for row in prompts]
