"""What a judging model is asked, and how its verdict is read."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from prefzoo.errors import UserError
from prefzoo.evals.judges.protocol import TIE, Comparison

FIELDS = ("instruction", "first", "second")
LETTERS = {"A": 1.0, "B": 2.0, "C": TIE}
VERDICT = re.compile(r"\W*(?:(?:final\s+)?(?:verdict|answer|output|winner|choice)\b\W*)?([ABC])\W*", re.IGNORECASE)
TEMPLATE = """\
You compare two answers to one instruction. Judge which of them a careful person would rather receive: does it do what
was asked, is it right, is it clear? Length by itself is no merit, and neither is the order in which the answers stand.

<instruction>
{instruction}
</instruction>

<answer_A>
{first}
</answer_A>

<answer_B>
{second}
</answer_B>

Which answer is better? Reply with a single letter, A or B, and nothing else."""


@dataclass(frozen=True)
class JudgePrompt:
    """A template with `{instruction}`, `{first}` and `{second}`; the reply is to be A, B, or C for a tie."""

    template: str = TEMPLATE

    @property
    def hash(self) -> str:
        """Hash of the template, on every row of a table."""
        return hashlib.sha256(self.template.encode()).hexdigest()[:12]

    def filled(self, c: Comparison) -> str:
        """Fill the template in, in one pass: braces inside an answer stay what they are."""
        values = {"instruction": c.row.prompt, "first": c.first.text, "second": c.second.text}
        return re.sub(r"\{(instruction|first|second)\}", lambda match: values[match.group(1)], self.template)


def read_prompt(path: Path | None, field: str) -> JudgePrompt:
    """Read the template in a file; without a path, return the built-in one. `field` is named in messages.

    Raises:
        UserError: there is no such file, or it leaves out what is to be judged.
    """
    if path is None:
        return JudgePrompt()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{field}: {path} cannot be read ({type(e).__name__}); name a text file") from None
    absent = [f"{{{name}}}" for name in FIELDS if f"{{{name}}}" not in text]
    if absent:
        raise UserError(f"{field}: {path} has no {', '.join(absent)}; put it where that text is to stand")
    return JudgePrompt(text)


def read_verdict(reply: str) -> float | None:
    """Return the preference that the last line of a reply states; None where that line is anything but a verdict."""
    lines = [line for line in reply.splitlines() if line.strip()]
    match = VERDICT.fullmatch(lines[-1]) if lines else None
    return LETTERS[match.group(1).upper()] if match else None
