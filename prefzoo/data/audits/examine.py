"""Find odd rows by their texts, in one pass over a data set."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from prefzoo.data.audits.contradictions import Contradictions
from prefzoo.data.audits.findings import Flagged, flagged_rows
from prefzoo.data.audits.kinds import KINDS, Drop
from prefzoo.data.audits.languages import is_other_language, language_of
from prefzoo.data.audits.overlap import NearTexts, words_of
from prefzoo.data.audits.refusals import is_refusal
from prefzoo.data.audits.texts import parts_of, spoken
from prefzoo.data.examples import Example, Pair, Text
from prefzoo.data.mixtures import Origins
from prefzoo.runtime.progress import Report

EVERY = 1_000  # rows between progress reports


@dataclass(frozen=True)
class TextAudit:
    """The results of an audit of texts.

    Attributes:
        flagged: the odd rows, by kind; kinds without rows are left out.
        languages: number of examples by the language of their first answer, the most frequent first.
        repeated_prompts: number of examples that repeat an earlier prompt, with any answers.
        ties: number of pairs with two equal scores; None if no pair has scores.
    """

    flagged: tuple[Flagged, ...]
    languages: dict[str, int]
    repeated_prompts: int
    ties: int | None

    def count(self, kind: str) -> int:
        """Return the number of rows that are flagged as a kind of `KINDS`."""
        return sum(len(one.rows) for one in self.flagged if one.kind == kind)


class TestedOn:
    """An index of the data that a model is tested on, to find near-duplicates of training rows in it."""

    __test__ = False  # tells pytest that this is not a class of tests

    def __init__(self, spec: str, rows: Sequence[Example], prompts: Iterable[str] = ()) -> None:
        """Index test data.

        Args:
            spec: name of the data set.
            rows: held-out pairs or labelled answers.
            prompts: prompts without answers, if the test data are no rows.
        """
        self.spec = spec
        bare = ((number, words_of(prompt)) for number, prompt in enumerate(prompts))
        of_rows = ((example.row, _words(*parts_of(example))[0]) for example in rows)
        self._prompts = NearTexts(chain(of_rows, bare))
        self._wholes = NearTexts((example.row, list(chain(*_words(*parts_of(example))))) for example in rows)

    def match(self, prompt: list[str], answers: list[str]) -> int | None:
        """Return the index of a test row that nearly equals a training row; None if there is none.

        The prompts are compared first, then the prompts with their answers.

        Args:
            prompt, answers: words of the training row.
        """
        same = self._prompts.match(prompt)
        return self._wholes.match(prompt + answers) if same is None else same


def examine(examples: Sequence[Example], tested_on: Sequence[TestedOn] = (), report: Report | None = None) -> TextAudit:
    """Find odd rows by their texts.

    Args:
        examples: pairs or labelled answers; they are read once and not stored.
        tested_on: the test data that they are compared with.
        report: called with (rows done, all rows, "") every `EVERY` rows.

    Returns:
        The odd rows and statistics.
    """
    contradictions, languages = Contradictions(), Counter[str]()
    rows = {kind: array("q") for kind in ("refusals", "refusals_rejected", "other_language")}
    leaks = [(array("q"), array("q")) for _ in tested_on]
    for number, example in enumerate(examples, 1):
        if report and not number % EVERY:
            report(number, len(examples), "")
        prompt, answers = parts_of(example)
        contradictions.add(example, prompt, answers)
        texts = [spoken(answer, "assistant") for answer in answers]
        good = isinstance(example, Pair) or example.label
        for text, kind in zip(
            texts, ("refusals", "refusals_rejected") if good else ("refusals_rejected",), strict=False
        ):
            if is_refusal(text):
                rows[kind].append(example.row)
        language = language_of(texts[0])
        languages[language or "no letters"] += 1
        if good and is_other_language(language_of(spoken(prompt, "user")), language):
            rows["other_language"].append(example.row)
        words = _words(prompt, answers) if tested_on else ([], [])
        for test, (mine, theirs) in zip(tested_on, leaks, strict=True):
            row = test.match(*words)
            if row is not None:
                mine.append(example.row)
                theirs.append(row)
    flagged = [*contradictions.flagged(), *(flagged_rows(kind, list(indices)) for kind, indices in rows.items())]
    for test, (mine, theirs) in zip(tested_on, leaks, strict=True):
        one = flagged_rows("leaks", list(mine), list(theirs))
        flagged.append(Flagged("leaks", one.rows, one.others, test.spec))
    order = {kind: place for place, kind in enumerate(KINDS)}
    flagged.sort(key=lambda one: order[one.kind])
    kept = tuple(one for one in flagged if len(one.rows))
    return TextAudit(kept, dict(languages.most_common()), contradictions.repeated_prompts, contradictions.ties)


def dropped_rows(audit: TextAudit, drop: Sequence[Drop], origins: Origins | None = None) -> dict[int, str]:
    """Return the rows that `data.drop` leaves out.

    Args:
        audit: the odd rows.
        drop: the words of `data.drop`; if several apply to a row, the first one gives the reason.
        origins: the sources of a mixture; None if there is one source.

    Returns:
        Index of the row -> reason.
    """
    reasons: dict[int, str] = {}
    for word in drop:
        for one in audit.flagged:
            if KINDS[one.kind].drop == word:
                for at, row in enumerate(one.rows.tolist()):
                    reasons.setdefault(row, one.reason(at, origins))
    return reasons


def _words(prompt: Text, answers: Sequence[Text]) -> tuple[list[str], list[str]]:
    """Return the words of a prompt and of its answers, for comparison with test data."""
    return words_of(spoken(prompt)), words_of("\n".join(spoken(answer) for answer in answers))
