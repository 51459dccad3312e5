"""Decide which numbers may be ranked together: those with the same base model, evaluation set, limits and judge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from prefzoo.evals.boards.selection import Entry
from prefzoo.evals.metrics.registry import all_metrics
from prefzoo.recipe.data_paths import shown

Fact = tuple[str, str]  # key that must be equal, and text shown to the user


def origins(entries: Sequence[Entry], metric: str) -> list[dict[str, Fact]]:
    """Return for each entry what a metric was measured with: the base model, the evaluation set, the judge.

    Evaluation sets are compared by content if every run stored a hash or the prompts themselves, else by name.
    """
    parts: dict[str, list[list[Fact]]] = {"base model": [[_plain(e.run.recipe["model"])] for e in entries]}
    further = [_further(e, metric) for e in entries]
    for name in dict.fromkeys(name for one in further for name in one):
        parts[name] = [one.get(name, [("", "none")]) for one in further]
    return [{name: _strongest(facts, i) for name, facts in parts.items()} for i in range(len(entries))]


def groups(entries: Sequence[Entry], metric: str) -> list[int]:
    """Return a group number for each entry; entries of one group may be compared by the metric."""
    keys = [tuple(sorted((name, key) for name, (key, _) in one.items())) for one in origins(entries, metric)]
    order = list(dict.fromkeys(keys))
    return [order.index(key) for key in keys]


def obstacles(entries: Sequence[Entry], metric: str) -> list[str]:
    """Return the reasons why the entries cannot be ranked by a metric, in a few words each; empty if they can."""
    facts = origins(entries, metric)
    out = []
    for name in facts[0] if facts else ():
        shown: dict[str, str] = {}
        for one in facts:
            shown.setdefault(one[name][0], one[name][1])
        if len(shown) > 1:
            names = list(shown.values())
            text = " and ".join(names) if len(set(names)) == len(names) else f"{names[0]} with different content"
            out.append(f"different {name} ({text})")
    return out


def _further(entry: Entry, metric: str) -> dict[str, list[Fact]]:
    recipe, about = entry.run.recipe, entry.metrics[metric]
    evals, data = recipe["evals"], recipe["data"]
    settings = [data["eval"], data["columns"], data["max_length"], data["too_long"]]
    pairs = shown(data["eval"]) or "none"
    if about.measured_on == "held-out pairs":
        return {"set of held-out pairs": [*_sets(entry, metric, pairs), (_hash(settings), pairs)]}
    if about.measured_on == "benchmark" or metric in evals["benchmarks"]:
        return {"benchmark": [*_sets(entry, metric, metric), _plain(metric)]}
    if about.measured_on != "prompts":
        return {"evaluation set": [*_sets(entry, metric, pairs), (_hash([settings, evals]), metric)]}
    asked = next(([row["instruction"] for row in v.outputs] for v in entry.run.variants.values() if v.outputs), [])
    spec = str(evals["prompts"] or "none")
    facts = {
        "set of prompts": [*_sets(entry, metric, spec), (_hash(asked) if asked else "", spec), (_hash(spec), spec)],
        "limit on answers": [_plain(f"{evals['max_new_tokens']} tokens")],
    }
    return facts | {"judge": [_judge(entry)]} if about.judged else facts


def _sets(entry: Entry, metric: str, shown: str) -> list[Fact]:
    """Return the evaluation set with its content hash from the long table; the hash is empty if there is none."""
    long = entry.run.long
    if "suite" not in long.columns:
        return [("", shown)]
    suites = long[(long.metric == metric) & long.suite.notna()].suite
    return [(str(suites.iloc[0]).rpartition("@")[2] if len(suites) else "", shown)]


def _judge(entry: Entry) -> Fact:
    long = entry.run.long
    if "judge" in long.columns:
        judged = [m.name for m in all_metrics() if m.judged]
        rows = long[long.metric.isin(judged) & long.judge.notna()]
        if len(rows):
            wording = (
                "" if "prompt_hash" not in rows or rows.prompt_hash.isna().all() else str(rows.prompt_hash.iloc[0])
            )
            name = str(rows.judge.iloc[0])
            return f"{name}@{wording}", name
    judge = entry.run.recipe["evals"]["judge"]
    return (f"{judge}@" if isinstance(judge, str) else _hash(judge)), json.dumps(judge).strip('"')


def _strongest(facts: list[list[Fact]], i: int) -> Fact:
    """Return entry `i`'s fact of the first kind that all entries have."""
    depth = max(len(one) for one in facts)
    for at in range(depth):
        if all(at < len(one) and one[at][0] for one in facts):
            return facts[i][at]
    return facts[i][-1]


def _plain(value: Any) -> Fact:
    return str(value), str(value)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
