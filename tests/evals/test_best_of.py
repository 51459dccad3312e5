"""RewardBench 2's best of N: its scores by hand, and by a plain loop; for judges of one answer and of two."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from called import prefzoo

from prefzoo.errors import UserError
from prefzoo.evals.judges.function import Function, PairwiseFunction, ScoringFunction
from prefzoo.evals.judges.implicit import ImplicitSettings
from prefzoo.evals.judges.protocol import Answer, Judge, PromptRow
from prefzoo.evals.metrics.best_of import BestOf, Item, average, best_of, comparisons_of, ties_score
from prefzoo.evals.stats.intervals import Estimate
from prefzoo.experiment.best_of_file import read_best_of


def item(number: object, subset: str, right: list[str], wrong: list[str]) -> Item:
    answers = (tuple(Answer(text, True, 0) for text in texts) for texts in (right, wrong))
    return Item(PromptRow(str(number), f"task {number}"), subset, *answers)


def scoring(fn: Callable[[str, str], float]) -> Judge:
    return ScoringFunction(Function(fn), "own")


def pairwise(fn: Callable[[str, str, str], float]) -> Judge:
    return PairwiseFunction(Function(fn), "own")


def length(instruction: str, answer: str) -> float:
    return len(answer)


def longer(instruction: str, first: str, second: str) -> float:
    return 1.5 + 0.5 * float(np.sign(len(second) - len(first)))


MATH = [
    item(1, "Math", ["xxxx"], ["x", "xx", "xxx"]),  # the best
    item(2, "Math", ["xx"], ["x", "yy", "x"]),  # shares the best grade with one
    item(3, "Math", ["x"], ["xx", "y", "x"]),
    item(4, "Focus", ["xxx"], ["x", "xx", ""[:0] + "y"]),
]


@pytest.mark.parametrize("judge", [scoring(length), pairwise(longer)])
def test_the_right_answer_must_have_the_best_grade(judge: Judge) -> None:
    measured = best_of(judge, MATH)
    assert {name: score.value for name, score in measured.subsets.items()} == {"Math": 0.5, "Focus": 1.0}
    assert measured.subsets["Math"].n == 3 and 0 < measured.subsets["Focus"].low < measured.subsets["Focus"].high == 1
    assert measured.average.value == 0.75 and measured.average.n == 4 and measured.parts == {}
    assert measured.average.low < 0.75 < measured.average.high and not measured.coverage.missing


def test_a_judge_of_pairs_compares_the_right_answer_with_each_wrong_one_alone() -> None:
    judge = pairwise(longer)
    assert len(comparisons_of(judge, MATH)) == 4 * 3 and comparisons_of(scoring(length), MATH) == []
    assert len(comparisons_of(judge, [item("tied:1", "Ties", ["a", "b"], ["c", "d"])])) == 6


def test_what_the_judge_cannot_grade_is_missing_and_many_withhold_the_subset() -> None:
    def moody(instruction: str, answer: str) -> float:
        if instruction == "task 4":
            raise TimeoutError("no time")
        return len(answer)

    measured = best_of(scoring(moody), MATH)
    assert measured.subsets["Focus"].n == 0 and math.isnan(measured.average.value)
    assert measured.coverage.missing == 1 and "TimeoutError: no time" in measured.coverage.summary()


def by_a_plain_loop(scores: dict[str, tuple[int, list[float]]]) -> float:
    """The published formula, prompt by prompt."""
    of: dict[str, dict[str, tuple[float, float]]] = {"ref": {}, "tied": {}}
    for name, (right, values) in scores.items():
        kind, prompt = name.split(":")
        good, bad = values[:right], values[right:]
        of[kind][prompt] = (min(good) - max(bad), max(good) - min(good))
    accuracy = {kind: sum(margin > 0 for margin, _ in own.values()) / len(own) for kind, own in of.items()}
    both = sorted(of["ref"].keys() & of["tied"].keys())
    preferred = hard = by = 0.0
    for prompt in both:
        (reference, _), (margin, spread) = of["ref"][prompt], of["tied"][prompt]
        smaller = min(reference, margin)
        preferred += (margin > spread) / len(both)
        hard += (smaller > spread) / len(both)
        by += math.tanh(smaller / spread - 1) / len(both)
    return 0.3 * accuracy["tied"] + 0.3 * accuracy["ref"] + 0.2 * preferred + 0.2 * hard + 0.01 * by


def test_the_score_of_the_ties_is_the_published_one() -> None:
    rng = np.random.default_rng(0)
    graded, plain = [], {}
    for prompt in range(12):
        for kind, right in (("ref", 1), ("tied", 4)):
            if (prompt, kind) == (11, "ref"):
                continue  # a prompt of one kind alone counts in the accuracies
            values = np.concatenate([rng.normal(1.5, 0.4, right), rng.normal(0, 0.5, 5)])
            graded.append((item(f"{kind}:{prompt}", "Ties", ["a"] * right, ["b"] * 5), values))
            plain[f"{kind}:{prompt}"] = (right, values.tolist())
    estimate, parts = ties_score(graded)
    assert estimate.value == pytest.approx(by_a_plain_loop(plain)) and estimate.n == 12
    assert estimate.low < estimate.value < estimate.high and list(parts)[:2] == ["ref_accuracy", "tied_accuracy"]
    assert ties_score(graded) == (estimate, parts)  # seeded


def test_right_answers_without_a_spread_are_no_fault() -> None:
    rows = [item("ref:1", "Ties", ["xxx"], ["x"]), item("tied:1", "Ties", ["xxx", "yyy"], ["x", "y"])]
    measured = best_of(scoring(length), rows)
    # every part is 1: the margin is 2, the spread 0, and tanh(2 / 0 - 1) = 1
    assert measured.subsets["Ties"].value == pytest.approx(1.01)
    assert measured.average == measured.subsets["Ties"]


def test_the_mean_of_subsets_has_the_interval_of_independent_ones() -> None:
    one, other = Estimate(0.5, 0.03, 0.44, 0.56, 100), Estimate(0.7, 0.04, 0.62, 0.78, 50)
    mean = average([one, other])
    assert mean.value == pytest.approx(0.6) and mean.n == 150
    assert mean.stderr == pytest.approx(math.hypot(0.0306, 0.0408) / 2, rel=1e-3)


@pytest.mark.slow
def test_intervals_hold_the_true_score() -> None:
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        texts = [["x" * 9] if rng.random() < 0.7 else ["x"] for _ in range(60)]
        score = best_of(scoring(length), [item(i, "a", right, ["xx"]) for i, right in enumerate(texts)]).subsets["a"]
        held += score.low <= 0.7 <= score.high
    assert 0.90 <= held / 200 <= 0.99


ROW: dict[str, Any] = {
    "id": "1", "prompt": "Say hi", "chosen": ["hi there"], "rejected": ["no", "y", "z"], "num_correct": 1,
    "num_incorrect": 3, "total_completions": 4, "subset": "Focus", "models": ["a", "b", "c", "d"],
    "additional_metadata": {},
}  # fmt: skip


def test_a_file_of_the_benchmark_is_read_by_its_names(tmp_path: Path) -> None:
    turns = (("user", "Hi"), ("assistant", "Yes?"), ("user", "?"))
    talk = [{"role": role, "content": text} for role, text in turns]
    rows = [ROW, {"prompt": talk, "chosen": "a", "rejected": [{"role": "assistant", "content": "b"}]}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    first, second = read_best_of("rows.json", tmp_path)
    assert (first.subset, second.subset, first.row.id) == ("Focus", "all", "1")
    assert [a.text for a in first.answers] == ["hi there", "no", "y", "z"] and second.wrong[0].text == "b"
    assert second.row.prompt == talk


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"chosen": []}, "row 1: chosen must be a list of answers (is [])"),
        ({"rejected": None}, "row 1: rejected must be a list of answers (is None)"),
        ({"rejected": ["a", " ", "b"]}, "row 1: rejected holds an answer without text; leave it out"),
        ({"num_correct": 2}, "row 1: num_correct is 2, but the row has 1; correct one of them"),
        ({"total_completions": 3}, "row 1: total_completions is 3, but the row has 4; correct one of them"),
        ({"subset": "Ties"}, "row 1: id '1' in the ties must begin with ref: or tied:, and end with a prompt's name"),
        ({"prompt": ""}, "row 1: prompt is missing or empty"),
    ],
)
def test_what_a_wrong_row_is_told(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({**ROW, **change}) + "\n")
    with pytest.raises(UserError) as caught:
        read_best_of("rows.jsonl", tmp_path)
    assert caught.value.lines == (f"rows.jsonl: {says}",)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{**ROW, "id": str(i), "prompt": f"Say {i}"} for i in range(4)]
    ties = [
        {"id": "ref:7", "prompt": "A colour", "chosen": ["blue"], "rejected": ["x", "y"], "subset": "Ties"},
        {"id": "tied:7", "prompt": "A colour", "chosen": ["blue", "yellow"], "rejected": ["x", "y"], "subset": "Ties"},
    ]
    (tmp_path / "rb2.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + ties))
    (tmp_path / "own.py").write_text("def length(instruction, output):\n    return float(len(output))\n")
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_prints_a_table_and_writes_json(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "judge", "--judge", "own.py:length", "--best-of", "rb2.jsonl", "--out", "b.json") == 0
    out = capsys.readouterr().out
    assert "best of right and wrong answers to 6 prompts" in out and "mean of subsets" in out
    assert "ties: one right answer 1.000, several right answers 1.000" in out
    written = json.loads((place / "b.json").read_text())
    assert written["subsets"]["Focus"]["value"] == 1.0 and written.keys() == asdict(EMPTY).keys()


EMPTY = BestOf("", "", {}, Estimate(0, 0, 0, 0, 0), {}, best_of(scoring(length), []).coverage)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--best-of", "rb2.jsonl"], "no judge; name a recipe, or a judge by --judge"),
        (["--judge", "verifier", "--best-of", "rb2.jsonl"], "--judge: verifier scores only prompts with checks, and"),
        (["--judge", "own.py:length", "--best-of", "rb2.jsonl", "--pairs", "p"], "--pairs, --best-of: the judge is me"),
        (["--judge", "own.py:length"], "--judge: nothing to measure it on; add --pairs FILE"),
        (
            ["--judge", "own.py:length", "--best-of", "none.jsonl"],
            "none.jsonl: no such file; paths on the command line are relative to the current folder",
        ),
        (
            ["--judge", "none.py:length", "--best-of", "rb2.jsonl"],
            "none.py; paths on the command line are relative to the current folder",
        ),
        (
            ["--judge", "own.py:length", "--best-of", "rb2.jsonl", "--set", "a=1"],
            "--set: there is no recipe to override",
        ),
    ],
)
def test_words_that_do_not_go_together(
    place: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prefzoo(monkeypatch, "judge", *words) == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error


def test_a_policy_is_judged_by_its_log_ratio(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any) -> None:
    """The implicit reward by the model's own logits."""
    tiny_model.save_pretrained(tmp_path / "reference")
    with torch.no_grad():
        tiny_model.lm_head.weight += 0.3 * torch.randn(
            tiny_model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0)
        )
    policy = tmp_path / "run" / "dpo" / "checkpoint"
    tiny_model.save_pretrained(policy)
    for folder in (policy, tmp_path / "reference"):
        tiny_tokenizer.save_pretrained(folder)
    settings = ImplicitSettings(kind="implicit", model="run/dpo/checkpoint", reference="reference")
    judge = settings.load(tmp_path)
    row, answers = PromptRow("1", "Name a river"), [Answer(text, True, 0) for text in ("the river", "cold", "long")]
    prompt = tiny_tokenizer.apply_chat_template(
        [{"role": "user", "content": row.prompt}], tokenize=False, add_generation_prompt=True
    )
    expected = []
    for answer in answers:
        start = len(tiny_tokenizer(prompt, add_special_tokens=False)["input_ids"])
        ids = tiny_tokenizer(f"{prompt}{answer.text}<|im_end|>", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            both = [model(torch.tensor([ids])).logits[0] for model in (judge.policy, judge.reference)]
        logs = [logits.float().log_softmax(-1) for logits in both]
        own, other = (float(sum(log[t - 1, ids[t]] for t in range(start, len(ids)))) for log in logs)
        expected.append(own - other)
    assert judge.scores([(row, answer) for answer in answers]) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(UserError, match="evals.judge.reference: .* is not a checkpoint in a run's folder; name"):
        ImplicitSettings(kind="implicit", model="run/dpo/checkpoint").load(tmp_path)
    with pytest.raises(UserError, match="evals.judge.model: nowhere: no such folder: .*nowhere; name a checkpoint;"):
        ImplicitSettings(kind="implicit", model="nowhere").load(tmp_path)
    (tmp_path / "run" / "recipe.resolved.yaml").write_text(f"model: {tmp_path / 'reference'}\nvariants: {{dpo: }}\n")
    again = ImplicitSettings(kind="implicit", model="run/dpo/checkpoint").load(tmp_path)
    assert again.scores([(row, answers[0])]) == pytest.approx(expected[:1], abs=1e-4)


def test_an_interval_of_few_prompts_that_all_ended_alike_has_a_width() -> None:
    graded = [
        (item(f"{kind}:{i}", "Ties", ["x"] * right, ["y"]), np.array([3.0 + j for j in range(right)] + [0.0]))
        for i in range(6)
        for kind, right in (("ref", 1), ("tied", 2))
    ]
    estimate, parts = ties_score(graded)
    assert estimate.value == pytest.approx(1.0096, abs=1e-4) and parts["ref_accuracy"] == 1
    assert estimate.low == pytest.approx(estimate.value - (1 - 0.6097), abs=1e-3)  # Wilson's of 6 of 6
    mean = average([estimate, Estimate(1.0, 0.0, 0.6, 1.0, 4)])
    assert mean.low <= mean.value <= mean.high


def test_a_judge_of_pairs_is_told_that_its_ties_are_no_published_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": f"{kind}:1", "prompt": f"a color, {kind}", "subset": "Ties", "chosen": right, "rejected": ["x"]}
        for kind, right in (("ref", ["red"]), ("tied", ["red", "green"]))
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.py").write_text(
        "def pair(instruction, a, b):\n    return 2.0 if len(b) > len(a) else 1.0\n\n\n"
        "def one(instruction, a):\n    return len(a)\n"
    )
    monkeypatch.chdir(tmp_path)
    for judge, told in (("own.py:pair", True), ("own.py:one", False)):
        assert prefzoo(monkeypatch, "judge", "--judge", judge, "--best-of", "t.jsonl", "--out", "o.json") == 0
        assert ("this is not its score" in capsys.readouterr().out) == told
        assert json.loads((tmp_path / "o.json").read_text())["rated"] is not told


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (
            ["ref:1"],
            "id 'ref:1' has no partner row 'tied:1', and ties are scored on both; add it, or leave the row out",
        ),
        (["ref:1", "tied:1", "tied:1"], "id 'tied:1' is in 2 rows; give each row of the ties its own id"),
    ],
)
def test_ties_whose_rows_are_not_in_twos(tmp_path: Path, ids: list[str], says: str) -> None:
    row = {"prompt": "a", "chosen": ["b"], "rejected": ["c"], "subset": "Ties"}
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row | {"id": name}) + "\n" for name in ids))
    with pytest.raises(UserError) as told:
        read_best_of("t.jsonl", tmp_path)
    assert told.value.lines[0] == f"t.jsonl: {says}"
