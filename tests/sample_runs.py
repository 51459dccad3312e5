"""Write run folders with known numbers for the tests of boards and reports, by the code that writes real ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from prefzoo.evals.boards import leaderboard
from prefzoo.evals.boards.judged_files import rebuilt
from prefzoo.evals.boards.run_files import read_run
from prefzoo.evals.metrics.measure import Measured
from prefzoo.runtime.run_folders import RunResult, write_json

STEPS = 16
QUICK_PROMPTS = "instruct:eval:100"


def make_run(
    folder: Path, variants: Mapping[str, Sequence[float]], *, model: str = "m/base", prompts: str | None = "p.jsonl",
    judge: str = "verifier", tokens: int = 48, gamma: float = 1.0, margins: Mapping[str, Sequence[float]] | None = None,
    documents: Mapping[str, Sequence[float]] | None = None, train: Mapping[str, Any] | None = None,
    equivalence: float | None = None,
) -> Path:  # fmt: skip
    """Write a run's folder.

    Args:
        folder: Folder to create; its name is the run's.
        variants: Scores of each variant on the prompts (the base has 0.5 on each); empty without prompts.
        model, prompts, judge, tokens: Settings of the recipe: the model, and the evaluation's prompts, judge and
            `max_new_tokens`.
        gamma: A hyperparameter of every loss, so that two runs may differ in it.
        margins: Margins of each variant on held-out pairs, in nats.
        documents: Scores of each variant and the base on the documents of the benchmark `knowledge`.
        train: Settings of every variant's training; None for a batch of 8.
        equivalence: Percentage points within which variants count as equal.

    Returns:
        The folder.
    """
    n = len(next(iter(variants.values())))
    evals = {
        "prompts": prompts,
        "judge": judge,
        "max_new_tokens": tokens,
        "benchmarks": ["knowledge"] * bool(documents),
        "equivalence": equivalence,
    }
    settings = {name: {"loss": name, "train": dict(train or {"batch": 8}), "gamma": gamma} for name in variants}
    _write_recipe(folder, model, evals, settings)
    measured = {}
    for name, scores in {"base": [0.5] * n, **variants}.items():
        on_documents = _benchmark(folder / name, (documents or {}).get(name))
        words = [20 + i % 5 + len(measured) for i in range(n)]
        answers = [f"{name} answers {i}: {s}" for i, s in enumerate(scores)]
        measured[name] = Measured(
            list((margins or {}).get(name, ())), list(scores), words, [True] * n, [0.0] * n, answers, on_documents
        )
        write_json(folder / name / "evals.json", asdict(measured[name]))
        _write_answers(folder / name, measured[name], prompts)
    for i, name in enumerate(variants):
        _write_training(folder / name, i, gamma)
    leaderboard.build(measured, {}, points=equivalence).write(folder)
    return folder


def share(won: int, of: int = 40) -> list[float]:
    """Return `of` scores; the first `won` of them beat the base, and all others lose to it."""
    return [1.0] * won + [0.0] * (of - won)


def quick_run(folder: Path) -> Path:
    """Write a run like the quickstart's: ipo below the base, and three variants above it, equal within noise."""
    rng = np.random.default_rng(0)
    wins = {"dpo": share(66, 100), "cdpo": share(65, 100), "ipo": share(48, 100), "simpo": share(69, 100)}
    margins = {name: rng.normal(0.3 + i / 10, 0.5, 100).tolist() for i, name in enumerate(wins)}
    documents = {name: share(40 + i, 60) for i, name in enumerate(["base", *wins])}
    train = {"batch": 8, "steps": STEPS, "gradient_checkpointing": False}
    return make_run(folder, wins, prompts=QUICK_PROMPTS, margins=margins, documents=documents, train=train)


def seeded_run(folder: Path, variants: Mapping[str, Sequence[Sequence[float]]], **more: Any) -> Path:
    """Write a run of several seeds, from each variant's scores by seed; other arguments are those of `make_run`."""
    finals = {f"{name}-s{seed}": name for name, seeds in variants.items() for seed in range(len(seeds))}
    scores = [row for seeds in variants.values() for row in seeds]
    make_run(folder, dict(zip(finals, scores, strict=True)), **more)
    path = folder / "recipe.resolved.yaml"
    recipe = yaml.safe_load(path.read_text())
    recipe["variants"] = {name: {**recipe["variants"][f"{name}-s0"], "loss": name} for name in variants}
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    for seed, name in finals.items():
        result = folder / seed / "result.json"
        about = json.loads(result.read_text())
        write_json(result, {**about, "loss": name, "seed": int(seed[-1])})
    write_json(folder / "sweep.json", {"finals": finals, "trials": []})
    (folder / "leaderboard.csv").unlink()
    rebuilt(read_run(folder)).write(folder)
    return folder


def pairs_run(folder: Path) -> Path:
    """Write a run of three variants, measured on held-out pairs only, with smaller margins than in `quick_run`."""
    rng = np.random.default_rng(1)
    margins = {name: rng.normal(0.1, 0.5, 100).tolist() for name in ("dpo", "repo", "apo_zero_unpaired")}
    return make_run(
        folder, {name: [] for name in margins}, prompts=None, margins=margins, train={"batch": 4, "steps": 6}
    )


def _write_recipe(folder: Path, model: str, evals: Mapping[str, Any], variants: Mapping[str, Any]) -> None:
    data = {"train": "t.jsonl", "eval": "e.jsonl", "columns": {}, "max_length": 256, "too_long": "drop"}
    recipe = {
        "name": folder.name, "seed": 0, "model": model, "train": {}, "data": data, "evals": dict(evals),
        "variants": dict(variants),
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))


def _benchmark(folder: Path, scores: Sequence[float] | None) -> dict[str, dict[str, Any]]:
    if scores is None:
        return {}
    rows = [{"doc_id": i, "doc_hash": f"h{i}", "score": s} for i, s in enumerate(scores)]
    (folder / "benchmarks").mkdir(parents=True)
    (folder / "benchmarks" / "knowledge.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    stderr = float(np.std(scores, ddof=1)) / len(scores) ** 0.5
    return {"knowledge": {"value": float(np.mean(scores)), "stderr": stderr, "n": len(scores)}}


def _write_answers(folder: Path, measured: Measured, prompts: str | None) -> None:
    rows = [(f"{prompts} {i}", answer) for i, answer in enumerate(measured.answers)]
    outputs = [{"instruction": asked, "output": answer, "generator": folder.name} for asked, answer in rows]
    write_json(folder / "model_outputs.json", outputs)
    if folder.name != "base":
        judged = [
            {"instruction": asked, "annotator": "verifier", "preference": 1 + score, "prompt_hash": "", "missing": ""}
            for (asked, _), score in zip(rows, measured.scores, strict=True)
        ]
        write_json(folder / "annotations.json", judged)


def _write_training(folder: Path, i: int, gamma: float) -> None:
    """Write the files of a training, with costs that differ between variants."""
    steps = [{"step": s, "loss": 0.7 / s, "rewards/margins": 0.1 * s, "grad_norm": 3.0} for s in range(1, STEPS + 1)]
    costs = {"seconds": 10.0 + i, "pairs_per_second": 2.0 - i, "peak_memory_bytes": 2.0**30, "energy_joules": 5.0}
    hardware = {"gpu": None, "processor": "P", "cores": 2}
    environment = {"commit": "c0", "versions": {"torch": "2"}, "hardware": hardware, "processes": 1}
    train = {"batch": 8, "steps": STEPS}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(s) + "\n" for s in steps))
    RunResult(folder.name, folder.name, {"gamma": gamma}, train, 0, "k", steps[-1], costs, environment).write(folder)
