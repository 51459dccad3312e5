"""Differences from the base on benchmarks: paired by document, corrected, by the right test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from prefzoo.evals.boards import leaderboard
from prefzoo.evals.metrics.benchmark_deltas import benchmark_estimate
from prefzoo.evals.metrics.measure import Measured, write_samples
from prefzoo.evals.stats.intervals import holm


def result(scores: list[float], metric: str = "acc", **more: Any) -> dict[str, Any]:
    samples = [{"doc_id": i, "doc_hash": f"h{i}", "score": s} for i, s in enumerate(scores)]
    return {
        "value": float(np.mean(scores)), "stderr": 0.1, "n": len(scores), "metric": metric, "chat_template": False,
        "higher_is_better": metric == "acc", "suite": "k@1", "samples": samples, "reason": "", **more,
    }  # fmt: skip


def board(**benchmarks: dict[str, Any]) -> Any:
    models = {name: Measured([], [], [], [], [], [], {"k": b}) for name, b in benchmarks.items()}
    return leaderboard.build(models, {})


def test_shares_by_mcnemar_with_holm() -> None:
    base = [1.0] * 10 + [0.0] * 10
    worse = [0.0] * 8 + [1.0] * 2 + [0.0] * 9 + [1.0]  # 8 lost, 1 won
    other = [0.0] * 1 + [1.0] * 9 + [0.0] * 8 + [1.0] * 2  # 1 lost, 2 won
    long = board(base=result(base), worse=result(worse), other=result(other)).long
    rows = long[long.metric == "k_delta"].set_index("variant")
    exact = [binomtest(1, 9).pvalue, binomtest(1, 3).pvalue]
    assert list(rows.p[["worse", "other"]]) == pytest.approx(holm(exact))
    assert list(rows.value[["worse", "other"]]) == pytest.approx([-7 / 20, 1 / 20])
    assert (rows.low < rows.value).all() and (rows.value < rows.high).all() and (rows.n == 20).all()
    assert set(rows.baseline) == {"base"} and set(rows.suite) == {"k@1"} and "McNemar" in rows.note["worse"]
    assert long[long.metric == "k"].note.eq("acc; chat template off").all()


def test_other_scores_by_sign_flips() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(2, 1, 50)
    long = board(base=result(list(base), "bits_per_byte"), a=result(list(base + 0.1), "bits_per_byte")).long
    row = long[long.metric == "k_delta"].iloc[0]
    assert row.value == pytest.approx(0.1) and row.p < 0.01 and row.higher_is_better is False
    assert "p < 0.001" in board(base=result(list(base)), a=result(list(base + 0.1))).markdown()


def test_only_documents_that_both_answered_in_one_way() -> None:
    theirs, ours = result([1.0, 0.0, 1.0]), result([0.0, 0.0])
    ours["samples"][1]["doc_hash"] = "another text"
    long = board(base=theirs, a=ours, b=result([1.0] * 3, chat_template=True)).long
    assert list(long[long.metric == "k_delta"].variant) == ["a"] and long[long.metric == "k_delta"].n.iloc[0] == 1


def test_what_is_unavailable_says_so() -> None:
    gone = result([0.0], reason="no network", value=float("nan"), n=0, samples=[])
    ranked = board(base=gone, a=gone)
    assert set(ranked.long.note) == {"unavailable: no network"} and "k_delta" not in set(ranked.long.metric)
    assert ranked.long.value.isna().all() and (ranked.long.n == 0).all() and "| - |" in ranked.markdown()


def test_intervals() -> None:
    share = benchmark_estimate(result([1.0, 0.0, 1.0, 1.0]))
    assert (share.value, share.n) == (0.75, 4) and 0.3 < share.low < 0.31 and 0.95 < share.high < 0.96  # Wilson's
    bits = benchmark_estimate(result([1.0, 2.0, 3.0], "bits_per_byte"))
    assert bits.stderr == pytest.approx(1 / 3**0.5) and bits.high == pytest.approx(2 + 1.96 / 3**0.5)
    old = benchmark_estimate({"value": 0.25, "stderr": 0.1, "n": 100})  # of results without samples
    assert old.low < 0.25 < old.high


def test_samples_are_kept(tmp_path: Path) -> None:
    write_samples(tmp_path, Measured([], [], [], [], [], [], {"k": result([1.0, 0.0])}))
    lines = (tmp_path / "benchmarks" / "k.jsonl").read_text().splitlines()
    assert [json.loads(x) for x in lines] == [
        {"doc_id": 0, "doc_hash": "h0", "score": 1.0}, {"doc_id": 1, "doc_hash": "h1", "score": 0.0}
    ]  # fmt: skip
