"""All judges: position swap, missing verdicts, a user's functions, and how good a judge is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from prefzoo.errors import UserError
from prefzoo.evals.judges import function, load_judge
from prefzoo.evals.judges.coverage import coverage
from prefzoo.evals.judges.judge_prompt import JudgePrompt, read_prompt, read_verdict
from prefzoo.evals.judges.position_swap import PairwiseJudge
from prefzoo.evals.judges.protocol import Answer, Comparison, Outcome, Progress, PromptRow, Verdict
from prefzoo.evals.judges.scoring import bradley_terry, by_scores, higher_wins
from prefzoo.evals.judges.verifier import Verifier
from prefzoo.evals.metrics.judge_quality import LabelledPair, quality


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))


def compared(first: str, second: str, prompt: str = "p") -> Comparison:
    return Comparison(PromptRow("1", prompt), Answer(first, True, 1), Answer(second, True, 1))


class By(PairwiseJudge):
    """Compares by a function, and notes the texts in the order in which it saw them."""

    name = "by"

    def __init__(self, preference: Callable[[Comparison], Outcome]) -> None:
        self.preference = preference
        self.asked: list[tuple[str, str]] = []

    def preferences(self, comparisons: Sequence[Comparison], progress: Progress | None = None) -> list[Outcome]:
        self.asked += [(c.first.text, c.second.text) for c in comparisons]
        return [self.preference(c) for c in comparisons]


def first_or_strong(c: Comparison) -> float:
    """Favours the first position, but the good answer's word more."""
    return 2.0 if "strong" in c.second.text else 1.0


def test_both_orders_are_asked_and_averaged() -> None:
    judge = By(lambda c: 1.8 if c.second.text == "good" else 1.4)
    (outcome,) = judge.compare([compared("bad", "good")])
    # straight 1.8 for the second; swapped 1.4 for "bad", which is 3 - 1.4 = 1.6 for "good"; the mean is 1.7
    assert outcome.preference == pytest.approx(1.7) and outcome.orders == pytest.approx((1.8, 1.6))
    assert judge.asked == [("bad", "good"), ("good", "bad")]


def test_verdicts_that_miss_the_same_are_equal() -> None:
    assert Verdict(2.0) == Verdict(2.0) != Verdict(1.0) and Verdict(2.0) != 2.0
    missing = [Verdict(float("nan"), missing="timeout") for _ in range(2)]
    assert missing[0] == missing[1] and len({*missing}) == 1


def test_position_bias_alone_gives_a_tie() -> None:
    (outcome,) = By(lambda _: 2.0).compare([compared("a", "b")])
    assert outcome == Verdict(1.5, (2.0, 1.0))


def test_identical_answers_tie_unasked() -> None:
    judge = By(lambda c: 2.0 if c.second.text == "b" else 1.0)
    assert judge.compare([compared("a", "a"), compared("a", "b")]) == [Verdict(1.5), Verdict(2.0, (2.0, 2.0))]
    assert judge.asked == [("a", "b"), ("b", "a")]


@pytest.mark.parametrize(
    ("outcomes", "reason"),
    [
        (["no reply", 1.0], "no reply"),
        ([1.0, "no reply"], "no reply"),
        ([math.nan, 1.0], "preference nan is outside [1, 2]"),
        ([0.0, 1.0], "preference 0.0 is outside [1, 2]"),
    ],
)
def test_a_verdict_is_missing_where_either_order_is(outcomes: list[Outcome], reason: str) -> None:
    left = iter(outcomes)
    (outcome,) = By(lambda _: next(left)).compare([compared("a", "b")])
    assert math.isnan(outcome.preference) and outcome.missing == reason


def test_a_missing_verdict_has_a_reason_and_others_have_none() -> None:
    with pytest.raises(ValueError, match="one goes without the other"):
        Verdict(math.nan)
    with pytest.raises(ValueError, match="one goes without the other"):
        Verdict(1.5, (), "lost")


def test_scores_become_preferences() -> None:
    assert (higher_wins(0, 1), higher_wins(1, 0), higher_wins(1, 1)) == (2.0, 1.0, 1.5)
    # 1 + sigma(log 3) = 1 + 3/4; far apart it stays finite
    assert bradley_terry(0.0, math.log(3)) == pytest.approx(1.75)
    assert bradley_terry(math.log(3), 0.0) == pytest.approx(1.25)
    assert (bradley_terry(0.0, 9999.0), bradley_terry(9999.0, 0.0)) == (2.0, 1.0)
    asked = [compared("a", "b"), compared("a", "a"), compared("a", "c"), compared("a", "d")]
    outcomes = by_scores(asked, [(0.0, 1.0), (0.0, 0.0), (math.inf, 0.0), ("too long", 0.0)], higher_wins)
    assert [v.missing for v in outcomes] == ["", "", "score inf is not finite", "too long"]
    assert outcomes[:2] == [Verdict(2.0, (2.0,)), Verdict(1.5)]


def test_the_verifier_is_a_judge_like_any_other() -> None:
    row = PromptRow("1", "p", ({"kind": "lower_case"},))
    loud, quiet = Answer("LOUD", True, 1), Answer("quiet", True, 1)
    judge = load_judge("verifier", Path())
    assert isinstance(judge, Verifier) and judge.name == "verifier" and judge.forecast([]) == ""
    assert judge.scores_answers and judge.needs_checks and judge.free
    told: list[tuple[int, int]] = []
    outcomes = judge.compare([Comparison(row, loud, quiet), Comparison(row, quiet, loud)], lambda *x: told.append(x))
    assert [v.preference for v in outcomes] == [2.0, 1.0] and told == [(i, 4) for i in (1, 2, 3, 4)]  # answers


OWN = """
def better(instruction, output_1, output_2):
    return 1.0 if len(output_1) > len(output_2) else 2.0
def short(instruction, output, scale=1):
    return -scale * len(output)
def broken(instruction, output_1, output_2):
    raise KeyError("gone\\naway")
def alone(x):
    return 1
not_one = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "wrong.py").write_text("import nowhere_at_all")
    return tmp_path


def test_a_function_of_both_answers_or_of_one(own: Path) -> None:
    asked = [compared("aa", "b"), compared("a", "bb")]
    both = load_judge("own.py:better", own)
    assert [v.preference for v in both.compare(asked)] == [1.0, 2.0]
    assert both.compare(asked)[0].orders == (1.0, 1.0) and both.name.startswith("function:own.py:better@")
    one = load_judge("own.py:short", own)
    assert [v.preference for v in one.compare(asked)] == [2.0, 1.0] and one.forecast(asked) == ""
    assert one.scores_answers and not both.scores_answers
    with pytest.raises(TypeError, match="own.py:better@.* does not score single answers"):
        both.scores([])
    assert function.load("textwrap:indent", own).scores_answers  # of an installed module


def test_what_a_function_raises_is_the_reason(own: Path) -> None:
    (outcome,) = load_judge("own.py:broken", own).compare([compared("a", "b")])
    assert outcome.missing.endswith("own.py:7: KeyError: 'gone\\naway'")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("own.py:beter", "own.py has no function 'beter'; did you mean 'better'?"),
        ("own.py:not_one", "own.py has no function 'not_one'; it has better, short, broken, alone"),
        ("own.py:alone", "takes 1 argument; write it as (instruction, output_1, output_2)"),
        ("none.py:x", "none.py:x: no such file:"),
        ("wrong.py:x", "wrong.py:1: ModuleNotFoundError: No module named 'nowhere_at_all'; fix it"),
        ("nowhere_at_all:x", "nowhere_at_all:x: fails on import: ModuleNotFoundError"),
        ("own.py:", "'own.py:' names no function; write it like my_judge.py:better"),
        ("verifer", "no such judge: 'verifer'; did you mean 'verifier'?"),
        ("gpt", "no such judge: 'gpt'; there are verifier, my_judge.py:better, and mappings with kind: reward, model,"),
    ],
)
def test_a_judge_that_is_none(own: Path, spec: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load_judge(spec, own)
    (line,) = caught.value.lines
    assert line.startswith("evals.judge: ") and says in line


@pytest.mark.parametrize(
    ("reply", "preference"),
    [
        ("A", 1.0),
        (" b.\n", 2.0),
        ("**B**", 2.0),
        ("[[C]]", 1.5),
        ("First I thought A.\nFinal verdict: B", 2.0),
        ("Answer (a)", 1.0),
        ("A good question, I cannot say.", None),
        ("both", None),
        ("", None),
        ("AB", None),
    ],
)
def test_verdicts_are_read_strictly(reply: str, preference: float | None) -> None:
    assert read_verdict(reply) == preference


def test_answers_cannot_speak_in_the_templates_place() -> None:
    question = JudgePrompt("{instruction}|{first}|{second}|{other}")
    assert question.filled(compared("{second} {x}", "b", "do")) == "do|{second} {x}|b|{other}"
    assert len(question.hash) == 12 != len(JudgePrompt().template) and question.hash != JudgePrompt().hash


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    with pytest.raises(UserError, match=r"evals.judge.prompt: .*q.txt cannot be read \(FileNotFoundError\); name a"):
        read_prompt(path, "evals.judge.prompt")
    path.write_text("{instruction} {first}")
    with pytest.raises(UserError, match=r"q.txt has no \{second\}; put it where that text belongs"):
        read_prompt(path, "evals.judge.prompt")
    path.write_text("{instruction} {first} {second}")
    assert read_prompt(path, "").template == path.read_text() and read_prompt(None, "") == JudgePrompt()


def test_coverage_counts_alike_reasons_and_withholds_past_five_percent() -> None:
    lost = [Verdict(math.nan, (), f"unknown verdict 'x{i}'") for i in range(5)]
    fine = coverage([Verdict(1.5)] * 95 + lost)
    assert not fine.withheld and fine.reasons == (("unknown verdict 'x0'", 5),)
    assert fine.summary() == "5 of 100 verdicts are missing (5 x unknown verdict 'x0'); left out"
    bad = coverage([Verdict(1.5)] * 94 + lost + [Verdict(math.nan, (), "HTTP 500, 4 tries")])
    assert bad.withheld and bad.summary().endswith("more than 5%: the number is withheld")
    assert coverage([Verdict(1.5)]).summary() == ""


def labelled(chosen: str, rejected: str) -> LabelledPair:
    return LabelledPair(PromptRow("1", "p"), Answer(chosen, True, 1), Answer(rejected, True, 1))


def test_quality_worked_by_hand() -> None:
    pairs = [
        labelled("strong", "no"),  # right in both orders; the longer wins, and is the better one
        labelled("ok", "strong and wrong"),  # wrong in both orders; the longer wins, and is the worse one
        labelled("ok", "no"),  # first position in both orders: a flip, a tie, counted half
        labelled("yes", "yes"),  # identical: a tie that nobody was asked about
    ]
    measured_quality = quality(By(first_or_strong), pairs)
    assert measured_quality.agreement.value == (1 + 0 + 0.5 + 0.5) / 4 and measured_quality.agreement.n == 4
    assert (measured_quality.flips.value, measured_quality.flips.n) == (pytest.approx(1 / 3), 3)
    # single verdicts: "strong" wins twice from either position (2 of 4 first), in the third the first one does
    assert (measured_quality.first_position.value, measured_quality.first_position.n) == (pytest.approx(4 / 6), 6)
    assert (measured_quality.longer_wins.value, measured_quality.longer_wins.n) == (1.0, 2)
    assert (measured_quality.longer_is_better.value, measured_quality.longer_is_better.n) == (0.5, 2)
    assert measured_quality.ties == 2 and measured_quality.coverage.missing == 0


def test_quality_of_a_judge_that_sees_one_answer_at_a_time_has_no_flips() -> None:
    row = PromptRow("1", "p", ({"kind": "lower_case"},))
    measured_quality = quality(Verifier(), [LabelledPair(row, Answer("low", True, 1), Answer("UP", True, 1))] * 2)
    assert measured_quality.agreement.value == 1 and measured_quality.flips.n == measured_quality.first_position.n == 0


def test_quality_is_withheld_where_verdicts_are_missing(own: Path) -> None:
    measured_quality = quality(load_judge("own.py:broken", own), [labelled("a", "b")])
    assert math.isnan(measured_quality.agreement.value) and measured_quality.coverage.withheld
    with pytest.raises(UserError, match="labelled pairs: none"):
        quality(By(first_or_strong), [])


@pytest.mark.parametrize("value", [None, "A", [1.0]])
def test_a_function_that_returns_no_number_is_named_where_it_is_defined(value: object) -> None:
    def mine(instruction: str, output: str) -> object:
        return value

    reason = function.Function(mine).call(["q", "a"])
    line = mine.__code__.co_firstlineno
    assert isinstance(reason, str)
    assert reason.endswith(f"test_judges.py:{line}: mine returned {value!r}; it must return a number")
