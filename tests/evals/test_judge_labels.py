"""Labelled pairs beside a judge: read, put to it, and what the board says."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from called import prefzoo
from rich.console import Console

from prefzoo.errors import UserError
from prefzoo.evals.boards.cautions import Setting, cautions
from prefzoo.evals.boards.leaderboard import Leaderboard, build
from prefzoo.evals.judges.function import judge_by
from prefzoo.evals.judges.protocol import Judge, PromptRow
from prefzoo.evals.metrics.builtin.corrected import refusal
from prefzoo.evals.metrics.measure import Measured
from prefzoo.experiment.labelled_pairs import LabelledPairs
from prefzoo.experiment.labels import labels_of, with_labels

N = 80
PROMPTS = [PromptRow(str(i), f"question {i}") for i in range(N)]


def answers(name: str, won: float, seed: int) -> list[str]:
    """Answers of which people prefer the share that begin with `good`; one in ten is the base's own."""
    rng = np.random.default_rng(seed)
    return [f"plain {i}" if i % 10 == 0 else f"{'good' if rng.random() < won else 'poor'} {name} {i}" for i in range(N)]


def measured(own: list[str]) -> Measured:
    return Measured([], [], [2] * N, [True] * N, [0.0] * N, own, {})


def errs_on(*digits: int) -> Judge:
    """A judge that prefers what people do, but for prompts that end in some digits."""

    def prefer(instruction: str, first: str, second: str) -> float:
        ranks = [("poor", "plain", "good").index(text.split()[0]) for text in (first, second)]
        right = 1.5 + 0.5 * np.sign(ranks[1] - ranks[0])
        return float(3 - right if int(instruction[-1]) in digits else right)

    return judge_by(prefer, "mine")


def labels(folder: Path, models: dict[str, list[str]], upto: int = 60) -> Path:
    """What people say of the models' answers to the first prompts."""
    rows = []
    for own in models.values():
        for i in range(upto):
            if not own[i].startswith("plain"):
                better = own[i].startswith("good")
                two = (own[i], f"plain {i}") if better else (f"plain {i}", own[i])
                rows.append({"prompt": f"question {i}", "chosen": two[0], "rejected": two[1]})
    path = folder / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def corrected(
    tmp_path: Path, judge: Judge, own: bool = True, upto: int = 60
) -> tuple[Leaderboard, dict[str, Measured]]:
    models = {"a": answers("a", 0.8, 0), "b": answers("b", 0.5, 1)}
    base = [f"plain {i}" for i in range(N)]
    numbers = {"base": measured(base)} | {name: measured(own) for name, own in models.items()}
    for name, texts in models.items():
        verdicts = [judge.compare([_comparison(i, base[i], texts[i])])[0] for i in range(N)]
        numbers[name] = replace(numbers[name], preferences=[v.preference for v in verdicts], judge=judge.name)
    labelled = models if own else {"c": answers("c", 0.6, 5)}
    pairs = labels_of("labels.jsonl", labels(tmp_path, labelled, upto).parent, PROMPTS)
    numbers = with_labels(judge, pairs, PROMPTS, numbers, tmp_path, Console(quiet=True))
    return replace(build(numbers, {}), cautions=cautions(numbers, Setting(64))), numbers


def _comparison(i: int, first: str, second: str):  # type: ignore[no-untyped-def]
    from prefzoo.evals.judges.protocol import Answer, Comparison

    return Comparison(PROMPTS[i], Answer(first, True, 1), Answer(second, True, 1))


def test_the_corrected_rates_stand_beside_the_raw_one(tmp_path: Path) -> None:
    board, numbers = corrected(tmp_path, errs_on(3))
    rows = board.long[board.long.variant == "a"].set_index("metric")
    truth = np.mean([0.5 if x.startswith("plain") else x.startswith("good") for x in numbers["a"].answers])
    assert abs(rows.value["win_rate"] - truth) > 0.03
    for metric in ("win_rate_rg", "win_rate_ppi"):
        assert rows.low[metric] < truth < rows.high[metric] and abs(rows.value[metric] - truth) < 0.04
        assert "from 54 labels of its own answers, as precise as" in rows.note[metric]
    assert "Corrected for the judge's errors, a has" in board.verdict().statistics
    columns = list(board.wide().columns)
    assert columns.index("win_rate") < columns.index("win_rate_rg") < columns.index("win_rate_ppi")


def test_labels_of_other_answers_correct_by_rates_of_error_alone(tmp_path: Path) -> None:
    board, _ = corrected(tmp_path, errs_on(3), own=False)
    rows = board.long[board.long.variant == "a"].set_index("metric")
    assert "win_rate_ppi" not in rows.index and "labels of answers to these prompts" in rows.note["win_rate_rg"]


def test_what_was_labelled_is_on_disk_and_read_back(tmp_path: Path) -> None:
    _, numbers = corrected(tmp_path, errs_on(3))
    written = json.loads((tmp_path / "a" / "judge_labels.json").read_text())
    assert written == {k: asdict(numbers["a"])[k] for k in ("human", "labels", "labels_fault", "labels_left_out")}
    assert written["human"][0] is None and written["human"][1] in (0.0, 1.0) and len(written["labels"]) == 108
    with_labels(errs_on(3), LabelledPairs(), PROMPTS, numbers, tmp_path, Console(quiet=True))
    assert not (tmp_path / "a" / "judge_labels.json").exists()  # the recipe names no labels any more


@pytest.mark.parametrize(
    ("digits", "says"),
    [
        (range(10), "worse than chance; choose another judge"),
        ((1, 2, 3, 4), "no better than chance; choose another judge, or label more pairs"),
    ],
)
def test_a_judge_no_better_than_chance_is_refused(tmp_path: Path, digits: tuple[int, ...], says: str) -> None:
    board, numbers = corrected(tmp_path, errs_on(*digits))
    assert refusal(numbers["a"]).endswith(says) and refusal(numbers["a"]).startswith("the judge agrees with ")
    assert not {"win_rate_rg", "win_rate_ppi"} & set(board.long.metric) and "win_rate" in set(board.long.metric)
    (line,) = (c for c in board.verdict().cautions if "evals.judge_labels" in c)
    assert line.startswith("No win rate is corrected by the labels (evals.judge_labels): the judge agrees with ")


def test_few_labels_and_a_judge_without_verdicts_are_refused(tmp_path: Path) -> None:
    _, numbers = corrected(tmp_path, errs_on(3), upto=5)
    assert refusal(numbers["a"]) == "8 labelled pairs are too few; label at least 10"
    pairs = labels_of("labels.jsonl", tmp_path, PROMPTS)

    def fails(instruction: str, first: str, second: str) -> float:
        raise OSError("gone")

    numbers = with_labels(judge_by(fails, "no"), pairs, PROMPTS, numbers, tmp_path, Console(quiet=True))
    assert "8 of 8 verdicts are missing" in refusal(numbers["a"]) and refusal(numbers["a"]).endswith("; fix the judge")


def test_ties_count_half_and_other_prompts_are_left_out(tmp_path: Path) -> None:
    rows = [
        {"prompt": "question 1", "chosen": "good x", "rejected": "plain 1", "tie": True},
        {"prompt": "other", "chosen": "good x", "rejected": "plain 1", "tie": False},
    ]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labelled = labels_of("l.jsonl", tmp_path, PROMPTS)
    assert [(p.row.id, p.tie) for p in labelled.pairs] == [("1", True)]
    assert labelled.losses() == ["1 of 2 pairs left out: about other prompts than evals.prompts"]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (
            {"prompt": "other", "chosen": "a", "rejected": "b"},
            "none of its 1 pairs has a prompt of evals",
        ),
        ({"question": "other"}, "its columns question fit no format"),
    ],
)
def test_labels_of_other_prompts_or_of_no_format(tmp_path: Path, row: dict[str, str], says: str) -> None:
    (tmp_path / "l.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError) as caught:
        labels_of("l.jsonl", tmp_path, PROMPTS)
    (line,) = caught.value.lines
    assert line.startswith("evals.judge_labels: ") and says in line and "data.columns" not in line


def measured_by(judge: Judge, rows: list[dict[str, object]], folder: Path) -> Measured:
    """A model beside pairs of one file, read as labels and put to the judge."""
    (folder / "annotations.json").write_text(json.dumps(rows))
    pairs = labels_of("annotations.json", folder, PROMPTS)
    numbers = {"base": measured([f"plain {i}" for i in range(N)]), "a": measured([f"good {i}" for i in range(N)])}
    return with_labels(judge, pairs, PROMPTS, numbers, folder, Console(quiet=True))["a"]


def annotations(n: int, annotator: str = "me", **more: object) -> list[dict[str, object]]:
    """Rows as AlpacaEval has them, of which the model wins each."""
    return [
        {"instruction": f"question {i}", "output_1": f"plain {i}", "output_2": f"good {i}", "generator_1": "base",
         "generator_2": "a", "annotator": annotator, "preference": 2.0, **more}
        for i in range(n)
    ]  # fmt: skip


def test_an_empty_answer_is_read(tmp_path: Path) -> None:
    rows = annotations(12)
    rows[1]["output_1"], rows[2]["output_1"] = "", "  "
    rows[3] |= {"output_2": "", "preference": 1.0}
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    pairs = labels_of("annotations.json", tmp_path, PROMPTS).pairs
    assert len(pairs) == 12 and [p.rejected.text for p in pairs[:4]] == ["plain 0", "", "  ", ""]
    named = [{"prompt": "question 1", "chosen": "", "rejected": "b"}]
    (tmp_path / "named.json").write_text(json.dumps(named))
    assert labels_of("named.json", tmp_path, PROMPTS).pairs[0].chosen.text == ""


def test_the_judges_own_verdicts_are_no_labels(tmp_path: Path) -> None:
    judge = errs_on()
    told = refusal(measured_by(judge, annotations(12, judge.name), tmp_path))
    assert told == (
        f"these are the judge's own verdicts (the annotator is {judge.name}, and it agrees with each), so they "
        "show none of its errors; correct them by hand, and write your name as the annotator"
    )
    corrected_by_hand = annotations(12, judge.name)
    corrected_by_hand[3]["preference"] = 1.0
    for rows in (annotations(12), corrected_by_hand):
        assert refusal(measured_by(judge, rows, tmp_path)) == ""


@pytest.mark.parametrize(
    ("ties", "says"),
    [
        (
            12,
            "all 12 labels are ties, and a tie cannot show an error of the judge; label at least 10 pairs in which",
        ),
        (
            11,
            "only 1 of 12 labels are not ties, and a tie cannot show an error of the judge; label at least 10",
        ),
    ],
)
def test_labels_that_are_ties_are_told_so(tmp_path: Path, ties: int, says: str) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"plain {i}", "tie": i < ties} for i in range(12)
    ]
    assert refusal(measured_by(errs_on(), rows, tmp_path)).startswith(says)


def test_annotations_that_are_all_ties_are_told_so(tmp_path: Path) -> None:
    told = refusal(measured_by(errs_on(), annotations(12, preference=1.5), tmp_path))
    assert told.startswith("all 12 labels are ties, and a tie cannot show an error of the judge; label at least")


@pytest.mark.parametrize("tie", [1.5, 0, "tie", "both_bad"])
def test_ties_of_annotations_are_counted_and_enter(tmp_path: Path, tie: object) -> None:
    """AlpacaEval writes 1.5, or 0 in older files."""
    rows = annotations(30)
    for row in rows[:6]:
        row["preference"] = tie
    rows[6] |= {"output_1": "alike", "output_2": "alike", "preference": tie}
    one = measured_by(errs_on(), rows, tmp_path)
    assert one.human[:8] == [0.5] * 6 + [None, 1.0] and [row[2] for row in one.labels] == [0.5] * 6 + [1.0] * 23
    assert one.labels_left_out == {"a tie of two answers that are the same, of which there is nothing to judge": 1}
    written = json.loads((tmp_path / "a" / "judge_labels.json").read_text())
    assert written["labels_left_out"] == one.labels_left_out
    told = cautions({"a": one}, Setting(64))
    assert (
        "6 of 29 labelled pairs (evals.judge_labels) are ties: among a model's own answers each is half a win; among "
        "other answers they are left out, since no verdict on a tie is an error."
    ) in told
    assert any(line.startswith("1 row of the labels (evals.judge_labels) not used: a tie of two") for line in told)


@pytest.mark.parametrize(
    "row",
    [
        {"question": "question 1", "answer_0": "good", "answer_1": "plain", "score_0": 1, "score_1": 1.0},
        {"prompt": "question 1", "response_1": "good", "response_2": "plain", "preference_strength": 0},
        {"prompt": '["question 1"]', "response_a": '["good"]', "response_b": '["plain"]', "winner_model_a": 0,
         "winner_model_b": 0, "winner_tie": 1},
        {"prompt": "question 1", "chosen": "good", "rejected": "plain", "score_chosen": 2, "score_rejected": 2},
        {"prompt": "question 1", "responses": ["good", "plain"], "scores": [1, 1]},
        {"winner": "tie (bothbad)"} | {
            f"conversation_{x}": [{"role": "user", "content": "question 1"}, {"role": "assistant", "content": answer}]
            for x, answer in (("a", "good"), ("b", "plain"))
        },
    ],
)  # fmt: skip
def test_a_tie_of_any_format_is_a_tie(tmp_path: Path, row: dict[str, object]) -> None:
    (tmp_path / "l.jsonl").write_text(json.dumps(row) + "\n")
    (pair,) = labels_of("l.jsonl", tmp_path, PROMPTS).pairs
    assert pair.tie and (pair.chosen.text, pair.rejected.text) == ("good", "plain")


def test_labels_of_few_prompts_are_told_so(tmp_path: Path) -> None:
    rows = [{**row, "instruction": "question 1"} for row in annotations(12)]
    assert refusal(measured_by(errs_on(), rows, tmp_path)) == (
        "all 12 labels are of answers to one prompt, which say little about other prompts; label answers to at least "
        "10 prompts"
    )


def test_a_judge_that_calls_every_pair_a_tie_is_told_so(tmp_path: Path) -> None:
    tied = judge_by(lambda instruction, first, second: 1.5, "tied")
    says = "the judge calls each of the 12 labelled pairs a tie; choose another judge"
    assert refusal(measured_by(tied, annotations(12), tmp_path)) == says


@pytest.mark.slow
def test_a_run_corrects_its_win_rates_from_the_command_line(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run_folder)
    monkeypatch.setenv("PREFZOO_CACHE", str(run_folder / "cache"))
    by_length = "def longer(i, a, b):\n    return 1.5 + 0.5 * ((len(b) > len(a)) - (len(b) < len(a)))\n"
    Path("own.py").write_text(by_length)
    text = Path("r.yaml").read_text().replace("instruct:eval:3", "instruct:eval:30").replace("steps: 25", "steps: 2")
    Path("r.yaml").write_text(text.replace("evals: {", "evals: {judge: own.py:longer, "))
    assert prefzoo(monkeypatch, "run", "r.yaml", "--quiet") == 0
    files = [Path(f"results/tiny/{v}/annotations.json") for v in ("dpo", "shift", "moving", "low")]
    entries = [row for file in files for row in json.loads(file.read_text())]
    pairs = [
        {"prompt": r["instruction"], "chosen": max(two, key=len), "rejected": min(two, key=len)}
        for r in entries
        if len(set(map(len, two := (r["output_1"], r["output_2"])))) == 2
    ]
    Path("labels.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    capsys.readouterr()
    assert prefzoo(monkeypatch, "run", "r.yaml", "--quiet", "--set", "evals.judge_labels=labels.jsonl") == 0
    assert "Corrected for the judge's errors" in capsys.readouterr().out
    assert prefzoo(monkeypatch, "compare", "results/tiny", "--sort", "win_rate_rg") == 0
    Path("own.py").write_text(by_length.replace("1.5 +", "1.5 -"))
    assert prefzoo(monkeypatch, "run", "r.yaml", "--quiet", "--set", "evals.judge_labels=labels.jsonl") == 3
    assert "worse than chance; choose another judge" in capsys.readouterr().out
