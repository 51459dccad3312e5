"""Tables of the settings in which the recipes of variants differ, and of the costs of their training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from prefzoo.evals.boards.costs import with_price
from prefzoo.evals.boards.run_files import price_of
from prefzoo.evals.boards.selection import Entry


def recipe_differences(order: Sequence[Entry]) -> pd.DataFrame:
    """Return a row per variant, with a column for each recipe key whose value differs; None if a variant lacks it."""
    trained = [e for e in order if not e.is_base]
    flat = {e.label: _settings(e) for e in trained}
    keys = list(dict.fromkeys(k for one in flat.values() for k in one))
    differ = [k for k in keys if len({_text(one.get(k)) for one in flat.values()}) > 1]
    rows = [{"variant": label} | {k: one.get(k) for k in differ} for label, one in flat.items()]
    return pd.DataFrame(rows, columns=["variant", *differ], dtype=object)


def _text(value: Any) -> str:
    """Return a value as text to compare; a field that is off equals one that is absent from an older recipe."""
    return "" if value is None or value is False or value in ([], {}) else str(value)


def _settings(e: Entry) -> dict[str, Any]:
    """Return all settings of a variant, by keys like `a.b`."""
    recipe, result = e.run.recipe, e.files.result
    mine = dict(recipe["variants"].get(e.files.name) or {})
    if (not mine or e.members) and result is not None:  # one setting of a sweep
        seeds = [seed.files.result.seed for seed in e.seeds if seed.files.result is not None]
        seed: Any = seeds[0] if len(seeds) == 1 else seeds
        mine = {"loss": result.loss, "train": result.train, "seed": seed, **result.params}
    loss, train = mine.pop("loss", None), mine.pop("train", {})
    shared = {k: v for k, v in recipe.items() if k not in ("name", "train", "variants", *mine)}
    return _dotted({"loss": loss, **mine, "train": train, **shared})


def _dotted(value: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for k, v in value.items():
        out |= _dotted(v, f"{under}{k}.") if isinstance(v, dict) and v else {f"{under}{k}": v}
    return out


def training_costs(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return a row per variant: the costs in `result.json`, under their names there, the price, and the hardware.

    The costs of a variant with several seeds are means over its seeds.
    """
    rows: list[dict[str, Any]] = []
    for e in entries:
        if not e.is_base:
            of_seeds = [_costs(seed) for seed in e.seeds]
            names = dict.fromkeys(name for costs in of_seeds for name in costs)
            costs = {name: fmean(costs[name] for costs in of_seeds if name in costs) for name in names}
            rows.append(
                {"variant": e.label} | costs | {"hardware": " and ".join(dict.fromkeys(map(_hardware, e.seeds)))}
            )
    table = pd.DataFrame(rows, columns=None if rows else ["variant", "hardware"])
    return table[[c for c in table.columns if c != "hardware"] + ["hardware"]]


def _costs(e: Entry) -> dict[str, float]:
    result = e.files.result
    return with_price(result.costs, price_of(e.run)) if result else {}


def _hardware(e: Entry) -> str:
    result = e.files.result
    hardware = result.environment.get("hardware", {}) if result else {}
    processes = result.environment.get("processes", 1) if result else 1
    device = hardware.get("gpu") or f"{hardware.get('processor', '?')}, {hardware.get('cores', '?')} cores"
    return (f"{processes} x " if processes > 1 else "") + device
