"""TRL's command line: `trl dpo --config FILE`, and its kto, cpo and orpo. Read: TRL 1.16.0."""

from __future__ import annotations

from typing import Any

from prefzoo.recipe.translate import handbook
from prefzoo.recipe.translate import losses_of_trl as by_trl
from prefzoo.recipe.translate.data_sets import mappings, write_sources
from prefzoo.recipe.translate.left_out import leave_common
from prefzoo.recipe.translate.shared import batch, lora, trainer_arguments
from prefzoo.recipe.translate.translation import Translation

VERSION = "TRL 1.16.0"
METHODS = ("dpo", "kto", "cpo", "orpo")
OPTIONS: tuple[str, ...] = (
    "label_smoothing", "use_weighting", "ld_alpha", "f_divergence_type", "f_alpha_divergence_coef", "discopop_tau"
)  # fmt: skip


KTO: dict[str, Any] = {"desirable_weight": 1.0, "undesirable_weight": 1.0}  # key -> its default
CPO: dict[str, Any] = {"cpo_alpha": 1.0, "simpo_gamma": 0.5, "alpha": 0.0}
ADAPTER: dict[str, Any] = {
    "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "lora_target_modules": None, "load_in_4bit": False
}  # fmt: skip


def read(t: Translation, method: str) -> None:
    """Translate a configuration.

    Args:
        t: the translation, with all keys left.
        method: which of TRL's trainers it is for; empty if its keys are to tell.
    """
    method = method or _guess(t.left)
    trainer_arguments(t, learning_rate=1e-6, schedule="linear", epochs=3.0, name=f"trl-{method}")
    batch(t, "per_device_train_batch_size", 8)
    t.set("train.gradient_checkpointing", bool(t.take("gradient_checkpointing", True)), "gradient_checkpointing")
    _model(t)
    _data(t)
    _loss(t, method)
    _reference(t)
    leave_common(t)


def _guess(keys: dict[str, Any]) -> str:
    if {"desirable_weight", "undesirable_weight"} & keys.keys() or str(keys.get("loss_type")) == "kto":
        return "kto"
    if {"cpo_alpha", "simpo_gamma", handbook.RATIO} & keys.keys() or keys.get("loss_type") == "simpo":
        return "cpo"
    return "dpo"


def _model(t: Translation) -> None:
    model = t.take("model_name_or_path")
    t.set("model", t.place.path(str(model)) if model else "org/model", "model_name_or_path",
          "" if model else "names no model; write one")  # fmt: skip
    if t.take("trust_remote_code", False):
        t.set("trust_remote_code", True, "trust_remote_code")
    t.leave("model_revision", "the hub's newest; name a local copy of another")
    t.leave("ref_adapter_name model_adapter_name force_use_ref_model", "the reference is the model before training")
    t.leave("model_init_kwargs ref_model_init_kwargs", "models are loaded in fp32, and products computed in bf16")
    if t.take("disable_dropout", True) is False:
        t.set("train.dropout", "model", "disable_dropout")
    four, rank, alpha = bool(t.take("load_in_4bit", False)), t.number("lora_r", 16), t.number("lora_alpha", 32)
    dropout, targets = t.number("lora_dropout", 0.05), t.take("lora_target_modules")
    if not t.take("use_peft", False):
        t.name_unused(ADAPTER, "all weights are trained (use_peft is off)")
        return
    if targets is None:
        targets = ["q_proj", "v_proj"]
        t.differ("lora_target_modules", "unset, which is peft's choice for the family there; here q_proj and v_proj")
    whole = targets in ("all-linear", ["all-linear"])
    names = targets if isinstance(targets, list) else str(targets).split()
    lora(
        t,
        ("lora_r", "lora_target_modules"),
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        targets="all-linear" if whole else names,
        four_bit=four,
    )
    t.leave("use_bnb_nested_quant bnb_4bit_quant_type", "four bits are NF4 with nested scales")


def _data(t: Translation) -> None:
    name, mixture = t.take("dataset_name"), t.take("datasets")
    if mixture and not name:
        write_sources(t, "data.train", [_source(t, one) for one in mappings("datasets", mixture, "path")], "datasets")
    elif name or not handbook.data(t):
        path, split = t.place.path(str(name)) if name else "owner/pairs", t.take("dataset_train_split", "train")
        t.set("data.train", path if split == "train" else f"{path}:{split}", "dataset_name",
              "" if name else "names no data; write a file or a hub id")  # fmt: skip
    t.leave("dataset_config", "the hub's default configuration is read; name a local file for another")
    t.leave("dataset_streaming streaming", "data.train: [{path: ..., streaming: true}] streams")
    t.leave("dataset_train_split", "the split is a part of the name: owner/pairs:split")
    t.leave("dataset_test_split test_split_size", "prefzoo holds no rows back; name held-out pairs in data.eval")
    t.set("data.max_length", int(t.number("max_length", 1024)), "max_length")
    mode = t.take("truncation_mode", "keep_start")
    t.set("data.too_long", "cut", "truncation_mode", "" if mode == "keep_start" else "answers are cut at their end")


def _source(t: Translation, one: Any) -> dict[str, Any]:
    source = {"path": t.place.path(str(one.get("path")))}
    if one.get("split", "train") != "train":
        source["split"] = one["split"]
    for key in sorted(one.keys() - {"path", "split"}):
        if one[key] is not None:
            t.left_out[f"datasets.{key}"] = "is not an option of a source here"
    return source


def _loss(t: Translation, method: str) -> None:
    if method == "cpo" and handbook.simpo(t):
        return
    kind, beta = t.take("loss_type"), t.number("beta", 0.1)
    if method != "dpo":
        t.use("beta", "the variant's weight" if method == "orpo" else "the variant's beta")
    if method == "dpo":
        options = {name: t.take(name) for name in OPTIONS if name in t.left}
        if t.take("reference_free", False):  # up to TRL 0.28
            kind = by_trl.without_reference(t, kind or "sigmoid")
        rpo = t.number("rpo_alpha", 0.0)
        kinds, weights = kind or "sigmoid", t.take("loss_weights")
        if rpo:  # up to TRL 0.28, beside any losses
            kinds, weights = by_trl.with_likelihood(t, kinds, weights, rpo)
            t.use("rpo_alpha", "the weight of sft")
        by_trl.pair_losses(t, kinds, weights, {"beta": beta, **options})
    elif method == "kto":
        by_trl.kto(t, beta, t.number("desirable_weight", 1.0), t.number("undesirable_weight", 1.0), str(kind or "kto"))
        for name in KTO if kind in (None, "kto") else ():
            t.use(name, f"the variant's {name.removesuffix('_weight')}")
        t.name_unused(KTO, by_trl.UNREAD.format(loss=kind))
    elif method == "orpo":
        by_trl.orpo(t, beta)
        if kind:
            t.differ("loss_type", "is not read: orpo has one loss")
    else:
        cpo_alpha, gamma, shape = t.number("cpo_alpha", 1.0), t.number("simpo_gamma", 0.5), t.number("alpha", 0.0)
        by_trl.cpo(t, str(kind or "sigmoid"), beta, cpo_alpha, gamma, shape)
        t.name_unused(CPO, by_trl.UNREAD.format(loss=kind or "cpo"))
        t.leave("label_smoothing", "cpo is not smoothed here")


def _reference(t: Translation) -> None:
    if t.take("sync_ref_model", False):
        t.set("train.sync_reference.alpha", t.number("ref_model_mixup_alpha", 0.6), "ref_model_mixup_alpha")
        t.set("train.sync_reference.every", int(t.number("ref_model_sync_steps", 512)), "ref_model_sync_steps")
    t.leave("ref_model_mixup_alpha ref_model_sync_steps", "the reference is not moved (sync_ref_model is off)")
