"""Write a run folder with all files that a run may have, for the tests of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

VARIANTS = ("dpo", "simpo", "kto_pair_with_a_long_name")
N = 12  # prompts
STEPS = 40
LEVEL = 0.2  # the quality of the base; each variant adds its share


def full_run(folder: Path, text: str = "") -> Path:
    """Write all files of a run; `text` is added to prompts, answers, losses' names, recipe and environment."""
    names = [*VARIANTS]
    write(folder / "recipe.resolved.yaml", yaml.safe_dump(_recipe(names, text)))
    for i, name in enumerate(["base", *names]):
        _variant(folder / name, i, text)
    write(folder / "round_robin.json", json.dumps(_round_robin(["base", *names], text)))
    rows = [
        {"variant": n, "step": s, "kl": s / 10 * (i + 1), "kl_low": 0.0, "kl_high": 9.0, "reward": 0.5 + s / 100,
         "reward_low": 0.45 + s / 100, "reward_high": 0.55 + s / 100, "metric": "win_rate"}
        for i, n in enumerate(names) for s in (0, 10, 20)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "frontier.csv", index=False)
    pd.DataFrame(_long(names, text)).to_csv(folder / "leaderboard.csv", index=False)
    lengths = {"n": 9, "mean": 12.5, "median": 12, "p95": 20, "longest": 22}
    audit = {
        "spec": f"pairs.jsonl{text}", "schema": "pairs", "single": False, "rows": 10, "kept": 9, "chosen": lengths,
        "rejected": lengths, "chosen_longer": 0.75, "rejected_longer": 0.1, "duplicates": 1, "repeated_prompts": 2,
        "ties": None, "findings": [
            {"name": "leaks", "words": f"nearly the same{text}", "count": 9, "rows": [[2, 3], [7, 1]],
             "against": f"test.jsonl{text}", "drop": "leaks"},
        ], "counts": {f"dropped, too long{text}": 1}, "example": [["prompt", text]],
    }  # fmt: skip
    write(folder / "data_audit.json", json.dumps({"train": audit}))
    return folder


def write(path: Path, text: str) -> None:
    """Write a file, creating its folder if it is absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _recipe(names: list[str], text: str) -> dict[str, Any]:
    return {
        "name": f"full{text}", "seed": 0, "model": f"my-model{text}",
        "data": {"train": f"pairs.jsonl{text}", "eval": None},
        "variants": {n: {"loss": f"{n}{text}", "beta": 0.1} for n in names},
    }  # fmt: skip


def _variant(folder: Path, i: int, text: str) -> None:
    rng = np.random.default_rng(i)
    answers = [f"answer {j} of {folder.name}{text}" for j in range(N)]
    prompts = [f"prompt {j}{text}" for j in range(N)]
    scores = np.clip(rng.normal(LEVEL * (i + 1), 0.1, N), 0, 1).tolist()
    evals = {
        "margins": rng.normal(i, 1, N).tolist() if i else [], "scores": scores, "words": [10 * (i + 1)] * N,
        "finished": [True] * N, "repetition": [0.0] * N, "answers": answers,
        "benchmarks": {"arithmetic": {"value": 0.5 - i / 20, "stderr": 0.02, "n": 100},
                       "recall": {"value": 0.5, "stderr": 0.05, "n": 100}},
    }  # fmt: skip
    write(folder / "evals.json", json.dumps(evals))
    outputs = [{"instruction": p, "output": a, "generator": folder.name} for p, a in zip(prompts, answers, strict=True)]
    write(folder / "model_outputs.json", json.dumps(outputs))
    if i == 0:
        return
    judged: list[dict[str, Any]] = [
        {"instruction": p, "preference": 1 + (j % 4 > i - 1), "annotator": f"verifier{text}",
         "prompt_hash": "", "missing": ""}
        for j, p in enumerate(prompts)
    ]  # fmt: skip
    write(folder / "annotations.json", json.dumps(judged))
    steps = [
        {"step": s, "loss": 0.7 / s, "logps/chosen": -40 - i * s, "logps/rejected": -50 - 2 * i * s,
         "grad_norm": 3.0 / s * i, "rewards/chosen": -0.1 * i * (s - 1), "rewards/margins": 0.1 * s,
         "rewards/accuracies": s / STEPS}
        for s in range(1, STEPS + 1)
    ]  # fmt: skip
    write(folder / "metrics.jsonl", "".join(json.dumps(s) + "\n" for s in steps))
    result = {
        "variant": folder.name, "loss": f"{folder.name}{text}", "params": {"beta": 0.1}, "train": {},
        "seed": 0, "key": "k", "metrics": steps[-1], "costs": {"seconds": 100.0 * i, "pairs_per_second": 2.5,
                                                          "peak_memory_bytes": 2.0**31},
        "environment": {"commit": f"abc{text}", "versions": {"torch": f"2{text}"},
                        "hardware": {"processor": f"cpu{text}", "gpu": None}, "processes": 1},
    }  # fmt: skip
    write(folder / "result.json", json.dumps(result))


def _round_robin(names: list[str], text: str) -> dict[str, Any]:
    n = len(names)
    return {
        "judge": f"verifier{text}", "prompt_hash": "", "variants": names,
        "wins": [[None if a == b else 0.5 + (b - a) / (2 * n) for b in range(n)] for a in range(n)],
        "scores": [{"variant": v, "score": 10.0 * (n - i), "low": 0.0, "high": 50.0, "p_best": 1 / n, "best_rank": 1,
                    "worst_rank": n} for i, v in enumerate(names)],
        "differences": [], "coverage": {"asked": 9, "missing": 1, "reason": f"1 of 9 verdicts is missing{text}"},
    }  # fmt: skip


def _long(names: list[str], text: str) -> list[dict[str, Any]]:
    """Return rows of metrics that are in no other file: KL, and benchmark differences paired by document."""
    rows = []
    for i, name in enumerate(names):
        for metric, value, reach in (("kl", 2.0 + i, 0.5), ("arithmetic_delta", -0.05 * (i + 1), 0.04)):
            rows.append({"variant": name, "metric": metric, "value": value, "stderr": reach / 2, "low": value - reach,
                         "high": value + reach, "n": N, "higher_is_better": None, "note": f"note{text}"})  # fmt: skip
    return rows
