"""LLaMA-Factory: `llamafactory-cli train FILE` of the stages dpo and kto. Read: its repository as of August 2026."""

from __future__ import annotations

import json
from typing import Any

from prefzoo.errors import UserError
from prefzoo.recipe.translate import losses_of_trl as by_trl
from prefzoo.recipe.translate.data_sets import write_sources
from prefzoo.recipe.translate.left_out import leave_common
from prefzoo.recipe.translate.shared import FOUR, MERGED, SIMPO_TARGET, batch, lora, trainer_arguments
from prefzoo.recipe.translate.translation import Translation

VERSION = "LLaMA-Factory (August 2026)"
STAGES = ("dpo", "kto")
AS_LOGISTIC = {"hinge": "trains the logistic loss with TRL 0.20 and later", "kto_pair": "is the logistic loss"}
ALPACA = {"prompt": "instruction", "query": "input"}  # the defaults of dataset_info.json


OPTIONS: dict[str, Any] = {  # of a loss -> the default
    "pref_beta": None, "dpo_label_smoothing": 0, "simpo_gamma": 0.5, "ld_alpha": None, "kto_chosen_weight": 1.0,
    "kto_rejected_weight": 1.0,
}  # fmt: skip
ADAPTER: dict[str, Any] = {"lora_rank": 8, "lora_alpha": None, "lora_dropout": 0, "lora_target": "all"}


def read(t: Translation, method: str) -> None:
    """Translate a configuration.

    Args:
        t: the translation, with all keys left.
        method: the stage; empty for that of the configuration.

    Raises:
        UserError: the configuration is of another stage.
    """
    t.loss_key = "pref_loss"
    stage = method or str(t.take("stage", "dpo"))
    t.left.pop("stage", None)
    if stage not in STAGES:
        raise UserError(
            f"stage: {stage} trains no preference loss; prefzoo translates the stages {' and '.join(STAGES)}"
        )
    if t.take("use_muon", False):
        t.left["optim"], t.aliases["optim"] = "muon", "use_muon"
    trainer_arguments(t, learning_rate=5e-5, schedule="linear", epochs=3.0, name=f"llamafactory-{stage}")
    batch(t, "per_device_train_batch_size", 8)
    off = bool(t.take("disable_gradient_checkpointing", False)) or t.take("gradient_checkpointing") is False
    t.set("train.gradient_checkpointing", not off, "disable_gradient_checkpointing")
    _model(t)
    _data(t)
    _loss(t, stage)
    leave_common(t)


def _model(t: Translation) -> None:
    model, adapter = t.take("model_name_or_path", "org/model"), t.take("adapter_name_or_path")
    if adapter:
        t.set("model", t.place.path(str(adapter)), "adapter_name_or_path",
              MERGED)  # fmt: skip
        t.left_out["model_name_or_path"] = f"the adapter names its model itself ({model})"
    else:
        t.set("model", t.place.path(str(model)), "model_name_or_path")
    t.leave("create_new_adapter", "an adapter on an adapter is always new")
    reference, adapters = t.take("ref_model"), t.take("ref_model_adapters")
    if reference or adapters:
        t.set("reference", t.place.path(str(adapters or reference)), "ref_model_adapters" if adapters else "ref_model")
    if t.take("trust_remote_code", False):
        t.set("trust_remote_code", True, "trust_remote_code")
    kind, bits = t.take("finetuning_type", "lora"), int(t.number("quantization_bit", 0))
    rank, dropout, targets = t.number("lora_rank", 8), t.number("lora_dropout", 0.0), t.take("lora_target", "all")
    alpha = t.number("lora_alpha", 2 * rank)
    if kind == "lora":
        names = targets if isinstance(targets, list) else [one.strip() for one in str(targets).split(",")]
        lora(
            t,
            ("lora_rank", "lora_target"),
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            targets="all-linear" if "all" in names else names,
            four_bit=bits == FOUR,
        )
    else:
        t.name_unused(ADAPTER, f"all weights are trained (finetuning_type is {kind})")
    if kind not in ("lora", "full"):
        t.differ("finetuning_type", f"{kind} is not among the kinds of training; all weights are trained")
    if bits not in (0, FOUR):
        t.left_out["quantization_bit"] = "frozen weights are in full or half precision, or in 4 bits"
    t.leave("ref_model_quantization_bit", "the reference has full or half precision")
    t.leave("oft_rank oft_block_size oft_target module_dropout", "adapters are plain LoRA")
    t.leave("quantization_method quantization_type double_quantization", "four bits are NF4 with nested scales")
    t.leave("resize_vocab", "the embedding is given a row for each token that lacks one")
    t.leave("add_tokens add_special_tokens", "save the tokenizer with its new tokens beside the model first")
    t.leave("rope_scaling shift_attn", "the model is read as its configuration says")


def _data(t: Translation) -> None:
    names = [one.strip() for one in str(t.take("dataset", "")).split(",") if one.strip()]
    folder = t.place.origin / str(t.take("dataset_dir", "data"))
    known = _dataset_info(folder / "dataset_info.json")
    sources = []
    for name in names:
        info = known.get(name)
        if not isinstance(info, dict):
            t.differ("dataset", f"{name} is not in {folder / 'dataset_info.json'}; write its file or hub id")
            sources.append({"path": f"{name}.json"})
            continue
        path = info.get("hf_hub_url") or str(folder / str(info.get("file_name", f"{name}.json")))
        sources.append({"path": t.place.path(str(path))})
        _columns(t, info)
    if not sources:
        t.set("data.train", "owner/pairs", "dataset", "names no data; write a file or a hub id")
    else:
        write_sources(t, "data.train", sources, "dataset")
    t.leave("eval_dataset val_size", "prefzoo holds no rows back; name held-out pairs in data.eval")
    t.leave("max_samples", "all rows are read; data.train: [{path: ..., rows: N}] reads some")
    t.set("data.max_length", int(t.number("cutoff_len", 2048)), "cutoff_len")
    t.set(
        "data.too_long",
        "cut",
        "cutoff_len",
        "LLaMA-Factory cuts prompt and answer in proportion, prefzoo cuts answers at their end",
    )
    template = str(t.take("template", ""))
    if template:
        t.left_out["template"] = f"the tokenizer's own chat template is used, not {template}"
    thinking = t.take("enable_thinking", False if template.endswith("_nothink") else None)
    if thinking is not None:
        t.set("data.chat_template_kwargs.enable_thinking", bool(thinking), "template")
    t.leave("preserve_thinking", "data.chat_template_kwargs has the options of the chat template")
    t.leave("default_system tool_format", "a system prompt belongs in the data")
    t.leave("mask_history train_on_prompt", "data.score decides which turns are scored")
    t.leave("streaming mix_strategy interleave_probs buffer_size", "sources have weight and streaming of their own")


def _dataset_info(path: Any) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _columns(t: Translation, info: dict[str, Any]) -> None:
    """Name the columns that `dataset_info.json` renames, where they are those of plain pairs."""
    columns = {**(ALPACA if info.get("formatting", "alpaca") == "alpaca" else {}), **(info.get("columns") or {})}
    renamed = {key: columns[key] for key in ("prompt", "chosen", "rejected") if columns.get(key, key) != key}
    if renamed and renamed != {"prompt": "instruction"}:
        t.set("data.columns", renamed, "dataset")


def _loss(t: Translation, stage: str) -> None:
    beta, likelihood, kind = t.number("pref_beta", 0.1), t.number("pref_ftx", 0.0), str(t.take("pref_loss", "sigmoid"))
    smoothing, gamma, ld_alpha = t.number("dpo_label_smoothing", 0.0), t.number("simpo_gamma", 0.5), t.take("ld_alpha")
    good, bad = t.number("kto_chosen_weight", 1.0), t.number("kto_rejected_weight", 1.0)
    t.use("pref_beta", "the variant's beta")
    loss, knobs = "dpo", {"beta": beta}
    if stage == "kto":
        loss, knobs = "kto", {"beta": beta, "desirable": good, "undesirable": bad}
        t.use("kto_chosen_weight", "the variant's desirable")
        t.use("kto_rejected_weight", "the variant's undesirable")
    elif kind == "orpo":
        loss, knobs = "orpo", {"weight": beta}
        t.use("pref_beta", "the variant's weight")
    elif kind == "simpo":
        loss, knobs = "simpo", {"beta": beta, "gamma": gamma}
        t.differ("simpo_gamma", SIMPO_TARGET.format(beta=beta, gamma=gamma, target=gamma / beta))
    elif kind == "ipo":
        loss = "dpo_norm"
        t.differ("pref_loss", "ipo trains the logistic loss of means with TRL 0.20 and later; the paper's is ipo")
    elif kind in AS_LOGISTIC:
        t.differ("pref_loss", f"{kind} {AS_LOGISTIC[kind]}; prefzoo has a loss of its own for it")
    elif ld_alpha is not None:
        loss, knobs = "ld_dpo_policy", {"beta": beta, "alpha": float(ld_alpha)}
        t.differ("ld_alpha", "weighs the policy's tokens only; the paper's is ld_dpo")
    elif smoothing:
        loss, knobs = "cdpo", {"beta": beta, "flip_rate": smoothing}
        t.use("dpo_label_smoothing", "the variant's flip_rate")
    if likelihood:
        by_trl.write_variant(t, f"{loss} + {likelihood:g}*sft", {loss: knobs}, name=f"{loss}_sft")
        t.mapped["pref_ftx"] = "the weight of sft"
    else:
        by_trl.write_variant(t, loss, knobs)
    _name_unread(t, stage, kind, loss)


def _name_unread(t: Translation, stage: str, kind: str, loss: str) -> None:
    """Name the options of other losses."""
    if stage == "kto" and kind != "sigmoid":
        t.differ("pref_loss", "is not read: the stage kto trains kto")
    t.name_unused(OPTIONS, by_trl.UNREAD.format(loss=loss))
    if t.number("pref_bco_weight", 0.0):
        t.left_out["pref_bco_weight"] = "a mean with bco_pair_shift; write loss: dpo + W*bco_pair_shift for it"
