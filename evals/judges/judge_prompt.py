"""The prompts for judging models, and the parsing of their verdicts."""

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


# Arena-Hard 2's five verdicts (arXiv:2406.11939), also with the two letters swapped.
GRADES = {"A>>B": 1.0, "A>B": 1.25, "A=B": TIE, "B=A": TIE, "B>A": 1.75, "B>>A": 2.0, "A<B": 1.75, "A<<B": 2.0,
          "B<A": 1.25, "B<<A": 1.0}  # fmt: skip
GRADE = re.compile(r"\[\[?\s*([AB]\s*[<>=]{1,2}\s*[AB])\s*\]\]?", re.IGNORECASE)
ARENA_TEMPLATE = """\
Two assistants, A and B, answered the same prompt. Judge as an impartial expert which of the answers serves its author
better.

First write an answer of your own. Hold both answers against it: name their mistakes, and correct them. Then ask which
answer is the more helpful (it does what was asked, or asks back where the prompt is ambiguous), the more relevant (all
of it belongs to the prompt) and the more concise (clear, without padding). Say what either of them leaves out. The
order of the answers is chance, and length by itself is no merit.

[the prompt]
{instruction}
[end of the prompt]

[answer of assistant A]
{first}
[end of the answer of assistant A]

[answer of assistant B]
{second}
[end of the answer of assistant B]

End with one of these verdicts, and nothing after it:
[[A>>B]] A is clearly better
[[A>B]] A is slightly better
[[A=B]] they are about as good
[[B>A]] B is slightly better
[[B>>A]] B is clearly better"""


@dataclass(frozen=True)
class JudgePrompt:
    """A template with `{instruction}`, `{first}` and `{second}`.

    The model replies with A, B, or C for a tie. With `arena` it ends its reply in one of Arena-Hard's five verdicts.
    """

    template: str = TEMPLATE
    arena: bool = False

    @property
    def hash(self) -> str:
        """Hash of the template and of the form of its verdicts, which every row of annotations carries."""
        return hashlib.sha256((self.template + "arena" * self.arena).encode()).hexdigest()[:12]

    def filled(self, c: Comparison) -> str:
        """Return the template filled with a comparison, in one pass, so that braces in an answer stay as they are."""
        values = {"instruction": c.row.text, "first": c.first.text, "second": c.second.text}
        return re.sub(r"\{(instruction|first|second)\}", lambda match: values[match.group(1)], self.template)


def read_prompt(path: Path | None, field: str, *, arena: bool = False) -> JudgePrompt:
    """Read a template from a file.

    Args:
        path: the file; None for the built-in template.
        field: the recipe's field that names it, for messages.
        arena: whether the model replies with Arena-Hard's verdicts.

    Returns:
        The template.

    Raises:
        UserError: the file cannot be read, or lacks `{instruction}`, `{first}` or `{second}`.
    """
    if path is None:
        return JudgePrompt(ARENA_TEMPLATE if arena else TEMPLATE, arena)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{field}: {path} cannot be read ({type(e).__name__}); name a text file") from None
    absent = [f"{{{name}}}" for name in FIELDS if f"{{{name}}}" not in text]
    if absent:
        raise UserError(f"{field}: {path} has no {', '.join(absent)}; put it where that text belongs")
    return JudgePrompt(text, arena)


def read_verdict(reply: str) -> float | None:
    """Return the preference in the last line of a reply; None if that line is not a verdict and nothing else."""
    lines = [line for line in reply.splitlines() if line.strip()]
    match = VERDICT.fullmatch(lines[-1]) if lines else None
    return LETTERS[match.group(1).upper()] if match else None


def read_grade(reply: str) -> float | None:
    """Return the preference of the last Arena-Hard verdict in a reply; None if it has none."""
    stated = [re.sub(r"\s", "", match).upper() for match in GRADE.findall(reply)]
    known = [GRADES[verdict] for verdict in stated if verdict in GRADES]
    return known[-1] if known else None
