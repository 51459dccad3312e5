"""Panels of judges: majority and mean, missing verdicts, how far they agree, and what a recipe says of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from called import prefzoo
from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.evals.boards.cautions import Setting, cautions
from prefzoo.evals.boards.judged_files import measured_of
from prefzoo.evals.boards.run_files import VariantFiles
from prefzoo.evals.judges.function import judge_by
from prefzoo.evals.judges.panel import Panel
from prefzoo.evals.judges.protocol import Answer, Comparison, Judge, PromptRow
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats.agreement import krippendorff_alpha
from prefzoo.experiment.stages.judge import judge_models, judge_settings
from prefzoo.recipe.load import load

PROMPTS = [PromptRow(str(i), f"q{i}") for i in range(4)]


def always(preference: float) -> Judge:
    """A judge that prefers the model's answer (`good`) as much as is said, in either order."""

    def prefer(instruction: str, first: str, second: str) -> float:
        return preference if second.startswith("good") else 3 - preference

    return judge_by(prefer, f"always {preference}")


def fails(at: str = "q") -> Judge:
    def prefer(instruction: str, first: str, second: str) -> float:
        if instruction.startswith(at):
            raise OSError("gone")
        return 2.0 if second.startswith("good") else 1.0

    return judge_by(prefer, "fails")


def asked(n: int = 1) -> list[Comparison]:
    return [Comparison(PROMPTS[i], Answer(f"base {i}", True, 1), Answer(f"good {i}", True, 1)) for i in range(n)]


@pytest.mark.parametrize(
    ("preferences", "majority", "mean"),
    [
        ((2.0, 1.9, 1.0), 2.0, 4.9 / 3),
        ((1.4, 1.4, 2.0), 1.0, 1.6),
        ((2.0, 1.0), 1.5, 1.5),
        ((2.0, 1.5, 1.5), 2.0, 5 / 3),
    ],
)
def test_the_majority_or_the_mean(preferences: tuple[float, ...], majority: float, mean: float) -> None:
    judges = [always(p) for p in preferences]
    assert Panel(judges, "majority").compare(asked())[0].preference == majority
    verdict = Panel(judges, "mean").compare(asked())[0]
    assert verdict.preference == pytest.approx(mean) and verdict.members == pytest.approx(preferences)


def test_the_others_decide_where_a_verdict_is_missing() -> None:
    (verdict,) = Panel([always(2.0), fails(), always(1.8)], "mean").compare(asked())
    assert verdict.preference == pytest.approx(1.9) and math.isnan(verdict.members[1])
    (verdict,) = Panel([always(2.0), fails()], "majority").compare(asked())
    assert verdict.missing.startswith("1 of 2 judges gave no verdict (") and "gone" in verdict.missing


def test_judges_of_one_name_are_told_apart() -> None:
    panel = Panel([always(2.0), always(2.0)], "mean")
    assert panel.members == ("always 2.0", "always 2.0 (2)") and panel.name == "mean of always 2.0, always 2.0 (2)"
    assert not panel.needs_checks and not panel.free


@pytest.mark.slow
def test_alpha_is_krippendorffs() -> None:
    """The number is that of krippendorff 0.9.0 for the same nominal values."""
    rows: dict[str, list[float | None]] = {
        "a": [1, 1, 2, 2, 1.5, 1, 2, None, 1.2, 2],
        "b": [1, 2, 2, 2, 1.5, 1, 1, 1, 1.4, None],
        "c": [1, 1, 2, 1, 1, 1, 2, 2, None, 1.9],
    }
    assert krippendorff_alpha(rows) == pytest.approx(0.3627450980392156)
    assert krippendorff_alpha({"a": [1, 2, 1, 2], "b": [1.0, 2, 1, 2]}) == 1
    assert math.isnan(krippendorff_alpha({"a": [1, 1], "b": [1, 1.0]}))
    assert math.isnan(krippendorff_alpha({"a": [1, None], "b": [None, 1.0]}))


def test_every_judges_verdicts_are_on_disk_and_the_board_says_how_far_they_agree(tmp_path: Path) -> None:
    def measured(name: str) -> Measured:
        return Measured([], [], [1] * 4, [True] * 4, [0.0] * 4, [f"{name} {i}" for i in range(4)], {})

    panel = Panel([always(2.0), fails("q1"), always(1.0)], "majority")
    numbers = judge_models(
        panel, PROMPTS, {"base": measured("base"), "m": measured("good")}, tmp_path, Console(quiet=True)
    )
    rows = json.loads((tmp_path / "m" / "annotations.json").read_text())
    assert rows[1]["preference_by_judge"] == {"always 2.0": 2.0, "fails": None, "always 1.0": 1.0}
    assert numbers["m"].preferences == [2.0, 1.5, 2.0, 2.0]
    assert numbers["m"].panel == {"always 2.0": [2.0] * 4, "fails": [2.0, None, 2.0, 2.0], "always 1.0": [1.0] * 4}
    files = VariantFiles("m", tmp_path, None, measured("good"), None, rows, [])  # type: ignore[arg-type]
    again = measured_of(files)
    assert again is not None and again.panel == numbers["m"].panel
    lines = cautions(numbers, Setting(64))
    assert lines[0].startswith("Agreement of the 3 judges on who wins: Krippendorff's alpha -0.")
    assert lines[1] == "1 of 4 verdicts of fails are missing."
    assert numbers["m"].unstated == 1  # so that the next run asks again


def test_agreement_that_cannot_be_told() -> None:
    def told(panel: dict[str, list[float | None]]) -> str:
        return cautions({"m": Measured([], [], [], [], [], [], {}, panel=panel)}, Setting(64))[0]

    assert told({"a": [1, 1], "b": [1, 1.0]}).endswith("is unknown: all verdicts are the same.")
    alone = told({"a": [1, 2], "b": [None, None]})
    assert alone == (
        "How far the 2 judges agree on who wins is unknown: no two of them gave a verdict on the same answers."
    )


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Any]:
    def read(judge: str) -> Any:
        text = (
            f"name: a\nmodel: m\ndata: {{train: t.jsonl}}\nvariants: {{dpo: }}\nevals: {{prompts: p, judge: {judge}}}\n"
        )
        (tmp_path / "r.yaml").write_text(text)
        return load(tmp_path / "r.yaml")

    return read


def test_a_list_is_a_panel(recipe: Callable[..., Any]) -> None:
    short = recipe("[verifier, 'mine.py:better', {kind: server, url: 'http://h/v1', model: x}]").evals.judge
    long = recipe("{kind: panel, of: [verifier, 'mine.py:better', {kind: server, url: 'http://h/v1', model: x}]}")
    assert short == long.evals.judge and short.by == "majority" and short.of[2].model == "x"
    assert recipe("{kind: panel, of: [verifier, 'mine.py:better'], by: mean}").evals.judge.by == "mean"
    assert long.resolved()["evals"]["judge"]["of"][2]["max_tokens"] == 8


def test_a_judge_named_on_the_command_line_has_its_faults_where_they_stand() -> None:
    with pytest.raises(UserError, match=r"^--judge: 1: no such judge: 'verifer'"):
        judge_settings("[verifier, verifer]")


@pytest.mark.parametrize(
    "other", ["temperature: 1.0", "max_tokens: 9", "verdicts: arena", "prompt: p.txt", "url: 'http://g/v1'", "model: y"]
)
def test_servers_that_differ_are_no_judge_named_twice(recipe: Callable[..., Any], other: str) -> None:
    field = other.partition(":")[0]
    kept = [text for text in ("kind: server", "url: 'http://h/v1'", "model: x") if not text.startswith(field)]
    assert len(recipe(f"[{SERVER}, {{{', '.join([*kept, other])}}}]").evals.judge.of) == 2


SERVER = "{kind: server, url: 'http://h/v1', model: x}"


def two_servers(more: str, other: str = "") -> str:
    """A panel of two servers, one with more settings than the other, or with other ones."""
    first = SERVER if not other else SERVER.replace("}", f", {other}}}")
    return f"[{first}, {SERVER.replace('}', f', {more}}}')}]"


@pytest.mark.parametrize(
    ("judge", "says"),
    [
        ("[verifier]", "evals.judge: must have at least 2 judges"),
        ("[]", "evals.judge: must have at least 2 judges"),
        ("{kind: panel, of: [verifier]}", "evals.judge.of: must have at least 2 judges"),
        ("[verifier, verifer]", "evals.judge.1: no such judge: 'verifer'; did you mean 'verifier'?"),
        ("{kind: panel, of: [verifier, verifer]}", "evals.judge.of.1: no such judge: 'verifer'; did you mean"),
        ("[verifier, 3]", "evals.judge.1: "),
        ("[verifier, [a.py:b, verifer]]", "evals.judge.1.1: no such judge: 'verifer'"),
        ("[verifier, {kind: server, url: 'http://h', model: x, triez: 3}]", "judge.1.triez: no such field; did you"),
        ("[verifier, {kind: server, url: 'http://h'}]", "evals.judge.1.model: is missing"),
        ("[verifier, a.py:b, verifier]", "evals.judge: has verifier twice, which always agrees with itself; name"),
        ("[verifier, {kind: verifier}]", "evals.judge: has verifier twice"),
        ("[a.py:b, ./a.py:b]", "evals.judge: has a.py:b twice"),
        ("{kind: panel, of: [a.py:b, a.py:b]}", "evals.judge.of: has a.py:b twice"),
        (f"[{SERVER}, verifier, {SERVER}]", "evals.judge: has a judge of kind server twice, which"),
        (two_servers("workers: 2"), "kind server twice (they differ only in workers, which changes no verdict), wh"),
        (two_servers("tries: 1"), "kind server twice (they differ only in tries, wh"),
        (two_servers("timeout: 5.0"), "kind server twice (they differ only in timeout, wh"),
        (two_servers("key: OTHER_KEY"), "kind server twice (they differ only in key, wh"),
        (
            two_servers("prompt_price: 1.0, answer_price: 1.0, spend_limit: 2.0"),
            "kind server twice (they differ only in answer_price and prompt_price and spend_limit, which changes no v",
        ),
        (two_servers("prompt: p.txt", "prompt: ./p.txt"), "server twice, which"),
        (f"[[{SERVER}, verifier], [verifier, {SERVER}]]", "evals.judge: has a judge of kind panel twice, which"),
        (
            "[{kind: alpaca_eval, annotator: a}, {kind: alpaca_eval, annotator: a, tries: 2}]",
            "has a judge of kind alpaca_eval twice (they differ only in tries, which changes no verdict)",
        ),
        ("{kind: panel, of: [verifier, a.py:b], by: vote}", "judge.by: must be 'majority' or 'mean' (is 'vote')"),
        ("{kind: panel, judges: [verifier, verifier]}", "evals.judge.judges: no such field"),
    ],
)  # fmt: skip
def test_panels_that_are_none(recipe: Callable[..., Any], judge: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe(judge)
    assert any(says in line for line in caught.value.lines), caught.value.lines


def test_a_panel_is_measured_on_labelled_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"q{i}", "chosen": "a" * 5, "rejected": "b" * 3} for i in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = "def longer(i, a, b):\n    return 1 + float(len(b) > len(a))\n\nsame = longer\n\n"
    (tmp_path / "own.py").write_text(own + "def shorter(i, a, b):\n    return 2 - float(len(b) > len(a))\n")
    judges = "['own.py:longer', 'own.py:same', 'own.py:shorter']"
    text = f"name: a\nmodel: m\ndata: {{train: pairs.jsonl}}\nvariants: {{dpo: }}\nevals: {{judge: {judges}}}\n"
    (tmp_path / "r.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    assert prefzoo(monkeypatch, "judge", "r.yaml", "--pairs", "pairs.jsonl", "--quiet") == 0
    out = capsys.readouterr().out
    assert out.startswith("majority of function:own.py:longer@") and "agrees with the label: 100.0%" in out
