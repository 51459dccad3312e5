"""Checkable instructions.

Each is a pure function `(text, **params) -> bool`, registered with the sentence that asks for it in a prompt.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from prefzoo.errors import UserError, did_you_mean

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)")


@dataclass(frozen=True)
class Check:
    """A kind of instruction.

    Attributes:
        kind: its name.
        holds: the function `(text, **params) -> bool`.
        wording: the sentence that asks for it, with the parameters in braces; empty if no prompt asks for it.
    """

    kind: str
    holds: Callable[..., bool]
    wording: str

    def instruction(self, params: dict[str, object]) -> str:
        """Return the sentence that asks for it, with the parameters filled in."""
        words = {k: NUMBERS[v] if isinstance(v, int) and v < len(NUMBERS) else v for k, v in params.items()}
        return self.wording.format(**words)


CHECKS: dict[str, Check] = {}


def check(wording: str) -> Callable[[Callable[..., bool]], Callable[..., bool]]:
    """Register the decorated function as a check under its own name.

    Args:
        wording: the sentence that asks for it in a prompt; empty for a check that prompts do not mention.
    """

    def register(fn: Callable[..., bool]) -> Callable[..., bool]:
        CHECKS[fn.__name__] = Check(fn.__name__, fn, wording)
        return fn

    return register


def holds(text: str, spec: dict[str, object]) -> bool:
    """Return whether `text` passes the check `spec` (`{"kind": …, **params}`).

    Raises:
        UserError: the kind or a parameter is unknown.
    """
    params = {k: v for k, v in spec.items() if k != "kind"}
    kind = str(spec.get("kind"))
    if kind not in CHECKS:
        raise UserError(f"check {kind!r}: no such kind{did_you_mean(kind, list(CHECKS))}; known: {', '.join(CHECKS)}")
    fn = CHECKS[kind].holds
    try:
        inspect.signature(fn).bind(text, **params)
    except TypeError as e:
        raise UserError(
            f"check {kind!r} {params}: {e}; it takes {', '.join(list(inspect.signature(fn).parameters)[1:])}"
        ) from e
    return fn(text, **params)


def sentences(text: str) -> list[str]:
    """Split a text into sentences at closing punctuation; the last sentence may lack it."""
    return [s.strip() for s in SENTENCE_END.split(text.strip()) if s.strip()]


def words(text: str) -> list[str]:
    """Split a text into words: runs of letters, digits, underscores, hyphens and apostrophes."""
    return re.findall(r"[\w'’-]*\w", text)


def lines(text: str) -> list[str]:
    """Return the lines of a text that are not blank, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]


@check("Use exactly {n} sentences.")
def exact_sentences(text: str, n: int) -> bool:
    return len(sentences(text)) == n


@check("Answer in one sentence.")
def one_sentence(text: str) -> bool:
    return len(sentences(text)) == 1


@check("Use at most {n} words.")
def most_words(text: str, n: int) -> bool:
    return 0 < len(words(text)) <= n


@check("Use at least {n} words.")
def least_words(text: str, n: int) -> bool:
    return len(words(text)) >= n


@check('Use the word "{word}".')
def contains(text: str, word: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


@check('Do not use the word "{word}".')
def avoids(text: str, word: str) -> bool:
    return bool(text.strip()) and not contains(text, word)


@check("Write everything in lower case.")
def lower_case(text: str) -> bool:
    return any(c.isalpha() for c in text) and text == text.lower()


@check("WRITE EVERYTHING IN CAPITAL LETTERS.")
def upper_case(text: str) -> bool:
    return any(c.isalpha() for c in text) and text == text.upper()


@check('Answer with a JSON object with the key "{key}".')
def json_object(text: str, key: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and key in value


@check("Answer as a numbered list of exactly {n} items.")
def numbered_list(text: str, n: int) -> bool:
    marks = [re.match(r"(\d+)[.)]\s+\S", line) for line in lines(text)]
    return len(marks) == n and all(m is not None and int(m.group(1)) == i for i, m in enumerate(marks, 1))


@check("Answer as a list of exactly {n} lines, each starting with a dash.")
def dash_list(text: str, n: int) -> bool:
    return len(lines(text)) == n and all(re.match(r"-\s+\S", line) for line in lines(text))


@check('Start with the words "{phrase}".')
def starts_with(text: str, phrase: str) -> bool:
    return text.strip().lower().startswith(phrase.lower())


@check('End with the words "{phrase}".')
def ends_with(text: str, phrase: str) -> bool:
    return text.strip().rstrip(".!?\"'").lower().endswith(phrase.lower().rstrip(".!?"))


@check("End with a question.")
def ends_with_question(text: str) -> bool:
    return text.strip().endswith("?")


@check("End with an exclamation mark.")
def ends_with_exclamation(text: str) -> bool:
    return text.strip().endswith("!")


@check("Do not use commas.")
def no_commas(text: str) -> bool:
    return bool(text.strip()) and "," not in text


@check("Put your whole answer in double quotes.")
def in_quotes(text: str) -> bool:
    bare = text.strip()
    return len(bare) > 2 and bare[0] in '"“' and bare[-1] in '"”'  # noqa: PLR2004 - the two quotes themselves


@check("Put your whole answer in round brackets.")
def in_brackets(text: str) -> bool:
    bare = text.strip()
    return len(bare) > 2 and bare[0] == "(" and bare[-1] == ")"  # noqa: PLR2004 - the two brackets themselves


@check("Use a number written in digits.")
def has_digits(text: str) -> bool:
    return any(c.isdigit() for c in text)


@check("Write exactly {n} paragraphs, with an empty line between them.")
def paragraphs(text: str, n: int) -> bool:
    return len([p for p in re.split(r"\n\s*\n", text) if p.strip()]) == n


@check("Answer in Cyrillic letters.")
def cyrillic(text: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    return bool(letters) and sum("\u0400" <= c <= "\u04ff" for c in letters) > len(letters) / 2


@check("")
def on_topic(text: str, keys: list[str]) -> bool:
    """Return whether a word begins with one of `keys`, which are stems, so that any inflection counts."""
    return any(re.search(rf"\b{re.escape(key)}", text, re.IGNORECASE) for key in keys)


@check("")
def no_repetition(text: str) -> bool:
    """Return whether no sentence or line occurs twice, and at most a fifth of the word triples are repeats."""
    parts = [p.lower() for line in lines(text) for p in sentences(re.sub(r"^\W*\d*[.)]?\s*", "", line))]
    tokens = [w.lower() for w in words(text)]
    triples = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return len(set(parts)) == len(parts) and len(triples) - len(set(triples)) <= len(triples) / 5
