"""The studies: recipes with equal budgets, numbers from a run's files, and a page on which no number is typed."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sample_runs import make_run, share

from examples.studies import pictures, pieces
from examples.studies.__main__ import NUMBERS, SUMMARY, TEMPLATE, main
from examples.studies.agreement import ROWS, agreement_of
from examples.studies.fluency import split_by_likelihood
from examples.studies.mass import change
from examples.studies.noise import trend_of
from examples.studies.numbers import numbers_of
from examples.studies.page import END, START, read_numbers, render, summary, with_summary, written_by_hand
from examples.studies.seeds import seed_effects, steadiness
from prefzoo.engine.first_tokens import MovedMass, MovedToken
from prefzoo.errors import UserError
from prefzoo.evals.metrics.frontier import COLUMNS
from prefzoo.evals.stats.inference import detectable_by, seeded_difference
from prefzoo.evals.suites.prompts import load_prompts
from prefzoo.experiment.search import budgets, expand
from prefzoo.recipe.load import load

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "recipes" / "studies").glob("*.yaml"))
PAGE, RESULTS = ROOT / "docs" / "studies.md", ROOT / "results" / "studies"
PAIR, HELD_OUT, ANSWER, HOURS = 0.37, 0.3, 0.3, 8.3  # core-seconds of each, as measured; hours of two cores


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_names_the_schema_and_loads(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../recipe.schema.json" and lines[1].startswith("# Study ")
    recipe = load(path)
    assert recipe.name == ("01" if path.stem == pieces.PAIRS else path.stem)


def test_both_arms_have_the_same_losses_steps_and_prompts_and_the_second_equal_budgets() -> None:
    defaults, tuned = (load(ROOT / "recipes" / "studies" / f"{name}.yaml") for name in ("defaults", "tuned"))
    assert list(defaults.variants) == list(tuned.variants) and len(tuned.variants) == 10
    assert defaults.evals == tuned.evals and defaults.train.steps == tuned.train.steps and defaults.seeds == tuned.seeds
    assert set(budgets(expand(tuned)).values()) == {6}
    assert len({trial.variant.train.learning_rate for trial in expand(defaults)}) == 1


def test_recipes_of_noise_differ_in_the_share_alone() -> None:
    known = [yaml.safe_load(path.read_text()) for path in FILES if path.stem.startswith("noise")]
    assert sorted(one["data"].pop("flip_labels") for one in known) == [0, 0.1, 0.2, 0.4]
    for one in known:
        del one["name"], one["variants"]["cdpo"]["flip_rate"], one["variants"]["robust"]["flip_rate"]
    assert all(one == known[0] for one in known)


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def core_seconds(path: Path) -> float:
    """What a recipe of answers takes: a third of a search's settings go on after a third of their steps."""
    recipe = load(path)
    seeds, trials, settings = len(recipe.seeds) or 1, expand(recipe), budgets(expand(recipe))
    pairs, finals = (recipe.train.steps or 0) * recipe.train.batch, len(recipe.variants) * seeds
    searched = sum(n / 3 + n / 3 * 2 / 3 + seeds - 1 if n > 1 else seeds for n in settings.values())
    validated = len([t for t in trials if t.seed == trials[0].seed]) * 110 * HELD_OUT * (max(settings.values()) > 1)
    prompts = int(str(recipe.evals.prompts).rpartition(":")[2])
    measured = (finals + 1) * (prompts * ANSWER + 100 * HELD_OUT + recipe.evals.kl * 2 * ANSWER)
    along = len(recipe.variants) * recipe.evals.frontier * recipe.evals.kl * 2 * ANSWER
    return searched * pairs * PAIR + validated * 4 / 3 + measured + along


def test_the_studies_take_nine_hours_and_a_quarter_ten_minutes_on_two_cores() -> None:
    own = [path for path in FILES if not path.stem.startswith(("displacement", "quarter"))]
    short = 100 * (20 * 0.5 + 2) + 24 * (3 * 12 * 0.5 + 20)  # displacement: a step of one short pair, and starts
    assert (sum(map(core_seconds, own)) + short) / 2 / 3600 <= HOURS
    without_bf16 = 3  # times as long, as measured
    assert without_bf16 * core_seconds(ROOT / "recipes" / "studies" / "quarter.yaml") / 2 < 600


@pytest.mark.parametrize("study", pieces.PIECES)
def test_pieces_cover_a_study_and_each_loads(study: str, tmp_path: Path) -> None:
    path = ROOT / "recipes" / "studies" / f"{study}.yaml"
    parts = pieces.pieces_of(study)
    whole = load(path)
    for part in parts:
        recipe = load(path, part.overrides)
        assert tuple(recipe.variants) == part.variants and not part.is_done
        assert all(recipe.variants[name] == whole.variants[name] for name in part.variants)
    if study != pieces.PAIRS:
        assert [name for part in parts for name in part.variants] == list(whole.variants)
    else:
        assert len({part.folder for part in parts}) == 24


def test_a_piece_is_done_when_each_of_its_seeds_is_measured(tmp_path: Path) -> None:
    piece = pieces.Piece("x", tmp_path, ("dpo", "ipo"), 2, ())
    for name in ("base", "dpo-s0", "dpo-s1", "dpo_norm-s0", "ipo-s0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "evals.json").touch()
    assert not piece.is_done
    (tmp_path / "ipo-s1").mkdir()
    (tmp_path / "ipo-s1" / "evals.json").touch()
    assert piece.is_done


def test_pairs_of_displacement_are_one_row_each_and_not_tested_on() -> None:
    files = sorted((ROOT / "recipes" / "studies" / "data" / "displacement").glob("*.jsonl"))
    rows = [row for path in files for row in json_lines(path)]
    assert len(rows) == len(files) == 24
    assert [row["meaning"] for row in rows].count("like") == 12
    assert all(" " not in row["chosen"] + row["rejected"] for row in rows)
    assert (rows[0]["chosen"], rows[0]["rejected"]) == ("No", "Never")
    for row in rows:  # both answers are in the turns before the question, the chosen one last
        assert [turn["content"] for turn in row["prompt"] if turn["role"] == "assistant"] == [
            row["rejected"],
            row["chosen"],
        ]
    lengths = [part.overrides[-1] for part in pieces.pieces_of(pieces.PAIRS)]
    assert lengths == [f"data.max_length={row['prompt_tokens'] + 1}" for row in rows]
    assert load(ROOT / "recipes/studies/displacement.yaml").data.max_length == rows[0]["prompt_tokens"] + 1


SWEEP = {
    "settings": dict.fromkeys(("dpo", "ipo", "simpo"), 6), "validation": {"pairs": 110},
    "chosen": {name: name for name in ("dpo", "ipo", "simpo")}, "finals": {n: n for n in ("dpo", "ipo", "simpo")},
    "trials": [
        {
            "name": f"{name}-s0", "variant": name, "values": {"beta": beta, "train.learning_rate": 1e-4}, "seed": 0,
            "failed": None,
        }
        for name, beta in {"dpo": 0.05, "ipo": 0.1, "simpo": 2.5}.items()
    ],
}  # fmt: skip


def test_training_pairs_are_a_thousand_of_prompts_that_nothing_is_tested_on() -> None:
    file = ROOT / "recipes" / "studies" / "data" / "on_policy_train.jsonl"
    rows = json_lines(file)
    asked = {row["prompt"] for row in rows}
    assert len(rows) == len(asked) == json.loads(file.with_name(f"{file.name}.card.json").read_text())["pairs"] >= 1000
    held_out = json_lines(ROOT / "prefzoo" / "data" / "packaged" / "instruct_eval.jsonl")
    tested = [str(row.prompt) for row in load_prompts("instruct:eval:300", ROOT)]
    assert len(tested) == 300 and asked.isdisjoint([*tested, *(row["prompt"] for row in held_out)])
    assert all(row["score_chosen"] > row["score_rejected"] for row in rows)
    longer = sum(len(row["chosen"].split()) > len(row["rejected"].split()) for row in rows) / len(rows)
    assert 0.45 < longer < 0.5  # length tells nothing of the label


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with known numbers in place of both arms."""
    tmp_path = tmp_path_factory.mktemp("studies")
    make_run(tmp_path / "defaults", {"dpo": share(30), "ipo": share(20), "simpo": share(4)}, equivalence=5)
    make_run(tmp_path / "tuned", {"dpo": share(25), "ipo": share(24), "simpo": share(35)}, equivalence=5, gamma=2.0)
    (tmp_path / "tuned" / "sweep.json").write_text(json.dumps(SWEEP))
    return tmp_path


def test_numbers_are_those_of_the_tools_own_statistics(studies: Path) -> None:
    numbers = numbers_of(studies / "defaults")
    assert (numbers["metric"], numbers["prompts"], numbers["seeds"]) == ("win_rate", 40, 1)
    assert [(row["variant"], row["value"]) for row in numbers["variants"]] == [
        ("dpo", pytest.approx(75)), ("ipo", pytest.approx(50)), ("simpo", pytest.approx(10)),
    ]  # fmt: skip
    worst = numbers["differences"][-1]
    expected = seeded_difference(np.array([share(4)]), np.array([share(30)]))
    assert worst["variant"] == "simpo" and worst["outcome"] == "different"
    assert worst["difference"] == pytest.approx(100 * expected.value) and worst["low"] == pytest.approx(
        100 * expected.low
    )
    assert (numbers["different"], numbers["undecided"]) == ("ipo, simpo", "none")
    assert (numbers["varies"]["unsteady"], numbers["varies"]["steady"]) == ("none", "dpo, ipo, simpo")  # of one seed
    assert 0 < numbers["sees"]["alone"] < numbers["sees"]["after_holm"] and numbers["cost"]["trainings"] == 3


def test_agreement_reads_nothing_but_the_stored_rows(numbered: Path, tmp_path: Path) -> None:
    for name in ("defaults", "tuned"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ROWS).write_bytes((numbered / name / ROWS).read_bytes())
    agreement = agreement_of(tmp_path / "defaults", tmp_path / "tuned")
    assert agreement["tau"] == pytest.approx(-1 / 3) and agreement["moved"][-1] == {"variant": "simpo", "places": 2}
    gained = agreement["gained"][0]  # simpo less dpo: from -65 to +25 points
    assert (gained["variant"], gained["outcome"]) == ("simpo", "gained") and gained["by"] == pytest.approx(90)
    rows = json.loads((tmp_path / "tuned" / ROWS).read_text())
    assert len(rows["prompts"]) == len(set(rows["prompts"])) == len(rows["values"]["dpo"][0]) == 40
    for wrong in ({"prompts": rows["prompts"][::-1]}, {"values": {"dpo": rows["values"]["dpo"]}}):
        (tmp_path / "tuned" / ROWS).write_text(json.dumps(rows | wrong))
        with pytest.raises(UserError, match=r"rows\.json: (have different prompts|share 1 variants)"):
            agreement_of(tmp_path / "defaults", tmp_path / "tuned")
    with pytest.raises(UserError, match=r"rows\.json: is missing; `python -m examples.studies numbers "):
        agreement_of(tmp_path / "defaults", tmp_path)


@pytest.fixture(scope="module")
def numbered(studies: Path) -> Path:
    """The same, with the numbers of both arms in their folders."""
    words: list[Any] = [["numbers", studies / name] for name in ("defaults", "tuned")]
    for one in [*words, ["agreement", studies / "defaults", studies / "tuned"]]:
        assert main([str(word) for word in one]) == 0
    for name in ("defaults", "tuned"):
        rows = [
            {"variant": v, "value": -p, "low": -2.0, "high": -0.5}
            for v, p in (("base", 0.4), ("ipo", 0.5), ("dpo", 1.5))
        ]
        write_numbers(studies / name, {"fluency": {**split_by_likelihood(rows, ["dpo", "ipo"]), "prompts": 14}})
    return studies


def write_numbers(folder: Path, more: dict[str, Any]) -> None:
    file = folder / NUMBERS
    file.write_text(json.dumps(json.loads(file.read_text()) | more))


def noise_rows(folder: Path, fall: float, shares: tuple[int, ...] = (0, 10, 20, 40)) -> list[Path]:
    """Write the rows of studies: dpo falls by 5 points per ten points of flipped labels, robust by `fall`."""
    rng = np.random.default_rng(4)
    folders = []
    for flipped in shares:
        values = {
            loss: (
                0.8 - by * flipped / 1000 + 0.05 * rng.normal(size=(2, 1)) + 0.2 * rng.normal(size=(2, 400))
            ).tolist()
            for loss, by in (("dpo", 5.0), ("robust", fall))
        }
        folders.append(folder / f"noise_{flipped}")
        folders[-1].mkdir(parents=True)
        rows = {"metric": "win_rate", "prompts": [str(i) for i in range(400)], "values": values}
        (folders[-1] / ROWS).write_text(json.dumps(rows))
    return folders


def test_the_trend_with_noise_is_compared_with_that_of_dpo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    level, falling = (noise_rows(tmp_path / str(fall), fall) for fall in (0.5, 5.0))
    assert main(["trend", *map(str, reversed(level)), "--out", str(level[-1])]) == 0
    trend = json.loads((level[-1] / NUMBERS).read_text())["trend"]
    robust, dpo = trend["losses"]
    assert (dpo["variant"], dpo["outcome"]) == ("dpo", "falls") and dpo["low"] < -5 < dpo["high"]
    assert dpo["at_0"] == pytest.approx(80, abs=8) and dpo["at_40"] == pytest.approx(60, abs=8)
    (gap,) = trend["less_dpo"]
    assert gap["variant"] == "robust" and gap["by"] == pytest.approx(robust["by"] - dpo["by"])
    assert gap["low"] < 4.5 < gap["high"] and 0 < trend["sees"] < 10
    assert trend_of(falling)["less_dpo"][0]["outcome"] == "undecided"
    assert main(["trend", str(level[0]), str(level[1])]) == 2
    assert "takes 3 folders or more (2 given)" in capsys.readouterr().err
    rows = json.loads((level[1] / ROWS).read_text())
    (level[1] / ROWS).write_text(json.dumps(rows | {"values": {"dpo": rows["values"]["dpo"]}}))
    with pytest.raises(UserError, match="noise_0/rows.json: have different losses or numbers of seeds"):
        trend_of(level)
    with pytest.raises(UserError, match="is not named noise_SHARE"):
        trend_of([*level[:2], tmp_path])


def test_what_seeds_move_more_than_prompts_do() -> None:
    rows = [{"variant": v, "spread_over_seeds": s, "error_over_prompts": 2.0} for v, s in (("a", 4.5), ("b", 3.5))]
    assert steadiness(rows) == {"unsteady": "a", "steady": "b"}


def test_the_page_is_made_of_the_numbers_and_tells_what_has_not_run(numbered: Path) -> None:
    assert {"agreement", "variants"} <= json.loads((numbered / "tuned" / NUMBERS).read_text()).keys()
    page = render(TEMPLATE.read_text(encoding="utf-8"), read_numbers(numbered))
    assert "| dpo | 75.0 |" in page and "Kendall's tau is -0.33" in page and "| simpo | +2 |" in page
    assert "simpo less dpo is -65.0 (" in page and "Told apart from dpo here: ipo, simpo. Equal" in page
    assert "| dpo | -1.50 | -2.00 | -0.50 |" in page
    assert "| simpo | 6 | beta 2.5, learning rate 0.0001 |" in page and "on 110 validation pairs" in page
    assert "Not run to their end yet, and left out here: `make study-displacement`, `make study-displ" in page
    assert "## Study 1" in page and "## Study 2" not in page and not re.search(r"[{]|\[\[|<!-- left", page)


def test_the_readme_tells_what_has_run(numbered: Path) -> None:
    text = summary(SUMMARY.read_text(encoding="utf-8"), read_numbers(numbered))
    assert "Different from `dpo`: ipo, simpo. Equal to it within\n  5 points: none. Undecided: none." in text
    assert "-65.0 points from `dpo` with the one setting and +25.0 tuned" in text and "tau of -0.33" in text
    assert "The win rate of none differs between seeds" in text and "of: dpo. Among the other losses, `ipo` has" in text
    assert "flipped" not in text and "Likelihood" not in text and not re.search(r"[{]|<!--", text)
    assert (
        text.startswith("## What we found\n\nMeasured")
        and "\n\nTen losses, trained" in text
        and text.endswith("on your own.\n")
    )
    old = f"# A\n{START}{text}{END}\n## B\n"
    assert with_summary(old, "new\n") == f"# A\n{START}new\n{END}\n## B\n"
    assert with_summary("# A\n", text) == "# A\n"


@pytest.mark.slow
def test_the_pictures_that_the_page_names_are_drawn_beside_it(numbered: Path) -> None:
    assert main(["page", str(numbered), "--out", str(numbered / "studies.md")]) == 0
    named = re.findall(r"\]\((studies/\w+\.svg)\)", (numbered / "studies.md").read_text())
    assert named == ["studies/arms.svg", "studies/differences.svg"]
    assert sorted(path.name for path in (numbered / "studies").iterdir()) == ["arms.svg", "differences.svg"]


def test_the_change_along_the_training_is_paired_by_prompt_and_pooled_by_loss(tmp_path: Path) -> None:
    names = {"dpo_1": "dpo", "dpo_2": "dpo", "ipo_1": "ipo"}
    folder = make_run(tmp_path / "along", dict.fromkeys(names, share(30)))
    recipe = yaml.safe_load((folder / "recipe.resolved.yaml").read_text())
    for name, loss in names.items():
        recipe["variants"][name]["loss"] = loss
    (folder / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    won = {"base": {0: 20}, "dpo_1": {2: 36, 4: 16}, "dpo_2": {2: 36, 4: 26}, "ipo_1": {2: 30, 4: 30}}
    rows = []
    for name, points in won.items():
        for step, of in points.items():
            (folder / name / "frontier").mkdir(exist_ok=True)
            point = {"reward": share(of), "kl": [float(step)] * 40}
            (folder / name / "frontier" / f"step-{step:08d}.json").write_text(json.dumps(point))
    for name in names:
        rows += [(name, step, step, 0, 0, of / 40, 0, 1, "score") for step, of in ({0: 20} | won[name]).items()]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / "frontier.csv", index=False)
    numbers = numbers_of(folder)
    assert numbers["base"] == 50 and len(numbers["frontier"]) == 9
    rows = [(row["variant"], row["from"], row["to"], row["before"], row["change"]) for row in numbers["stretches"]]
    assert rows == [
        ("dpo", 0, 2, 50, 40), ("dpo", 2, 4, 90, pytest.approx(-37.5)), ("ipo", 0, 2, 50, 25), ("ipo", 2, 4, 75, 0),
    ]  # fmt: skip
    assert (numbers["fell"], numbers["rose"], numbers["level"]) == ("dpo", "none", "ipo")
    assert [row["change"] for row in numbers["changes"]] == [0, -25, -50]
    (pair,) = numbers["pairs"]
    assert pair["losses"] == "dpo less ipo" and pair["difference"] == -37.5 and pair["outcome"] == "different"
    assert numbers["falls"][-1]["variant"] == "dpo_1" and numbers["falls"][-1]["fall"] == 50
    assert [(row["loss"], row["highest"], row["span"]) for row in numbers["spans"]] == [
        ("dpo", "dpo_1", 0), ("ipo", "ipo_1", 0),
    ]  # fmt: skip
    assert numbers["between"] == 0 and numbers["visible"] > 0
    assert set(numbers["climbed"].split(", ")) <= {"dpo", "ipo", "none"}


def test_pictures_show_what_the_numbers_say() -> None:
    arm = {"variants": [{"variant": v, "value": 50.0, "low": 45.0, "high": 55.0} for v in ("dpo", "robust")]}
    along = [
        {"variant": f"{loss}_{beta}", "loss": loss, "kl": kl, "reward": 50 + kl, "low": 40.0, "high": 60.0}
        for loss in ("dpo", "ipo") for beta in (1, 2) for kl in (0.0, 5.0)
    ]  # fmt: skip
    other = {"variants": arm["variants"][::-1]}
    charts = pictures.PICTURES["arms"]({"defaults": arm, "tuned": other})
    assert [chart.description.index("dpo") for chart in charts] == [0, 0]  # in the order of the first
    numbers = {"noise_0": arm, "noise_40": arm, "overoptimisation": {"frontier": along}}
    (noise,) = pictures.PICTURES["noise"](numbers)
    assert [text.split(":")[0] for text in noise.description.split("; ")] == ["dpo", "robust"] * 2
    assert "% 40.4" in noise.description  # side by side at each share
    assert [chart.title for chart in pictures.PICTURES["overoptimisation"](numbers)] == ["dpo", "ipo"]
    assert not pictures.PICTURES["arms"](numbers) and not pictures.PICTURES["displacement"](numbers)


def test_what_the_user_can_mend_is_one_line(studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["numbers", str(studies)]) == 2 and main(["agreement", str(studies / "tuned")]) == 2
    assert main(["run", "unknown"]) == 2
    assert all(line.startswith("error: ") for line in capsys.readouterr().err.splitlines())


def test_a_number_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"a.c: no c among b"):
        render("## A\n<!-- needs a -->\n{a.c:.1f}\n", {"a": {"b": 1}})
    table = render("[[a.rows: variant, name=v:+.1f, w]]\n", {"a": {"rows": [{"variant": "x", "v": 1.0, "w": None}]}})
    assert table.endswith("| variant | name | w |\n|---|---|---|\n| x | +1.0 | - |\n")


def test_no_number_on_the_page_is_typed_by_hand() -> None:
    assert not written_by_hand(TEMPLATE.read_text(encoding="utf-8"))
    assert not written_by_hand(SUMMARY.read_text(encoding="utf-8"))
    assert written_by_hand("It gained 3 points.\n## Study 1\n`12`\narXiv:2603.19335 finds 11.5\n") == [
        "It gained 3 points."
    ]


def test_what_the_other_comparison_could_see_follows_from_its_spread() -> None:
    template, spread, seeds, variants = TEMPLATE.read_text(encoding="utf-8"), 2.27, 5, 20
    stderr, freedom = spread * math.sqrt(2 / seeds), 2 * (seeds - 1)
    alone, after = (detectable_by(stderr, freedom, tests) for tests in (1, variants - 1))
    assert f"{alone:.1f}, after Bonferroni {after:.1f}, by its spread of {spread}" in template


@pytest.mark.slow  # so that it is not run on perturbed numbers
def test_the_committed_page_follows_from_the_committed_numbers() -> None:
    """If this fails: `make studies-page`."""
    numbers = read_numbers(RESULTS)
    page = render(TEMPLATE.read_text(encoding="utf-8"), numbers)
    assert not PAGE.is_file() or PAGE.read_text(encoding="utf-8") == page
    assert numbers or not PAGE.is_file()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_summary(readme, summary(SUMMARY.read_text(encoding="utf-8"), numbers)) == readme


def test_what_seeds_move_is_told_beside_what_losses_move() -> None:
    values = {name: np.array([share(won), share(won + 8)]) for name, won in {"dpo": 20, "ipo": 24}.items()}
    entries: Any = [SimpleNamespace(value={"win_rate": w, "finished": w / 2}.get) for w in (0.5, 0.6, 0.7, 0.8)]
    effects = seed_effects(values, entries, "win_rate", 100)
    assert [row["value"] for row in effects["seeds"]] == [pytest.approx(55), pytest.approx(75)]
    assert effects["between_seeds"] == pytest.approx(20 / 2**0.5)
    assert effects["between_losses"] == pytest.approx(10 / 2**0.5)
    assert effects["ended"]["rho"] == pytest.approx(1) and effects["ended"]["models"] == 4
    one = seed_effects({name: own[:1] for name, own in values.items()}, entries, "win_rate", 100)
    assert one["between_seeds"] is None and len(one["seeds"]) == 1


def test_a_change_is_that_of_the_log_prob() -> None:
    token = MovedToken("No", 0.2, 0.1)
    assert change(MovedMass(token, token, (), ()), "chosen") == pytest.approx(-np.log(2))
