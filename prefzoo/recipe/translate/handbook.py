"""Keys that TRL lacks: those of the alignment handbook, and of SimPO's repository, which is built on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefzoo.errors import UserError
from prefzoo.recipe.translate import losses_of_trl as by_trl
from prefzoo.recipe.translate.data_sets import mappings, write_sources
from prefzoo.recipe.translate.translation import Translation

MIXER, MIXTURE, RATIO = "dataset_mixer", "dataset_mixture", "gamma_beta_ratio"
ALL_ROWS = "the share of rows that is read; here all are, or the first ones: rows: N beside the path"
SIMPO_BETA = 2.0  # of SimPO's own configurations


def data(t: Translation) -> bool:
    """Translate a mixture of data sets.

    Args:
        t: the translation.

    Returns:
        Whether the configuration has one.
    """
    mixer, splits, mixture = t.take(MIXER), t.take("dataset_splits"), t.take(MIXTURE)
    if mixer:
        if not isinstance(mixer, dict):
            raise UserError(f"{MIXER}: must be a mapping from a data set to a share; correct it in the configuration")
        _mixer(t, mixer, list(splits or ["train", "test"]))
    elif mixture:
        _mixture(t, mixture)
    t.leave("dataset_configs", "the hub's default configuration is read; name a local file for another")
    return bool(mixer or mixture)


def _mixer(t: Translation, mixer: Mapping[str, Any], splits: list[str]) -> None:
    """Write what `dataset_mixer` maps from a name to a share of the training rows; held-out rows are always all."""
    for field, word in (("data.train", "train"), ("data.eval", "test")):
        sources = [_source(t, name, split) for name in mixer for split in splits if word in split]
        if sources:
            write_sources(t, field, sources, MIXER)
    if "dataset_splits" in t.given:
        t.mapped["dataset_splits"] = "the splits of data.train and data.eval"
    if any(float(share) != 1 for share in mixer.values()):
        t.differ(MIXER, ALL_ROWS)


def _mixture(t: Translation, mixture: Mapping[str, Any]) -> None:
    """Write what `dataset_mixture` lists; all of it is trained on, but for rows that are held out by chance there."""
    entries = mappings(f"{MIXTURE}.datasets", dict(mixture).get("datasets"), "id")
    if not entries:
        raise UserError(f"{MIXTURE}.datasets: lists no data set; add one to the configuration")
    write_sources(t, "data.train", [_source(t, one["id"], one.get("split", "train")) for one in entries], MIXTURE)
    if any(float(one.get("weight") or 1) != 1 for one in entries):
        t.differ(MIXTURE, ALL_ROWS)
    if any(one.get("config") not in (None, "default") for one in entries):
        t.left_out[f"{MIXTURE}.config"] = "the hub's default configuration is read; name a local file for another"
    if mixture.get("test_split_size"):
        t.left_out[f"{MIXTURE}.test_split_size"] = "no row is held out; name held-out pairs by data.eval"


def _source(t: Translation, name: Any, split: str) -> dict[str, str]:
    return {"path": t.place.path(str(name)), **({"split": split} if split != "train" else {})}


def simpo(t: Translation) -> bool:
    """Write the variant of SimPO's own configuration, which names the target margin as a multiple of beta.

    Args:
        t: the translation.

    Returns:
        Whether the configuration is one.
    """
    if RATIO not in t.left:
        return False
    kind, smoothing = t.take("loss_type", "sigmoid"), t.number("label_smoothing", 0.0)
    beta, ratio, weight = t.number("beta", SIMPO_BETA), t.number(RATIO, 0.25), t.number("sft_weight", 0.0)
    if kind != "sigmoid":
        t.differ(f"loss_type: {kind}", "simpo is trained by its logistic loss; a hinge on the same margin is repo")
    if smoothing:
        t.left_out["label_smoothing"] = "simpo is not smoothed here"
    knobs = {"beta": beta, "gamma": beta * ratio}
    if weight:
        by_trl.write_variant(t, f"simpo + {weight:g}*sft", {"simpo": knobs}, name="simpo_sft")
        t.mapped["sft_weight"] = "the weight of sft"
    else:
        by_trl.write_variant(t, "simpo", knobs)
    t.mapped |= {"beta": "the variant's beta", RATIO: "the variant's gamma, which is beta times as large"}
    return True
