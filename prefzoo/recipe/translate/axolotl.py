"""axolotl: `axolotl train FILE` with `rl:` dpo, ipo, kto, orpo or simpo. Read: its repository as of July 2026."""

from __future__ import annotations

from typing import Any

from prefzoo.errors import UserError
from prefzoo.recipe.translate import losses_of_trl as by_trl
from prefzoo.recipe.translate.data_sets import mappings, write_sources
from prefzoo.recipe.translate.left_out import leave_common
from prefzoo.recipe.translate.shared import MERGED, batch, lora, trainer_arguments
from prefzoo.recipe.translate.translation import Translation

VERSION = "axolotl (July 2026)"
KINDS = ("dpo", "ipo", "kto", "orpo", "simpo")
TRAINER = {"num_epochs": "num_train_epochs", "lr_scheduler": "lr_scheduler_type", "optimizer": "optim"}
TRACKERS = "wandb_project wandb_entity wandb_watch wandb_name wandb_log_model use_wandb use_tensorboard"
FIELDS = {"field_prompt": "prompt", "field_chosen": "chosen", "field_rejected": "rejected"}


OPTIONS: dict[str, Any] = {  # of a loss -> the default
    "kto_desirable_weight": 1.0, "kto_undesirable_weight": 1.0, "simpo_gamma": 0.5, "cpo_alpha": 1.0,
    "dpo_loss_type": None, "dpo_loss_weights": None, "dpo_label_smoothing": 0, "dpo_use_weighting": False,
    "dpo_norm_loss": False, "rpo_alpha": 0, "trl.beta": None, "rl_beta": None, "dpo_beta": None, "orpo_alpha": None,
}  # fmt: skip
ADAPTER: dict[str, Any] = {
    "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0, "lora_target_modules": None, "lora_target_linear": False,
    "load_in_4bit": False,
}  # fmt: skip


def read(t: Translation, method: str) -> None:
    """Translate a configuration.

    Args:
        t: the translation, with all keys left.
        method: the value of `rl`; empty for that of the configuration.

    Raises:
        UserError: the configuration trains no preference loss.
    """
    t.loss_key = "rl"
    kind = method or str(t.left.get("rl"))
    t.left.pop("rl", None)
    if kind not in KINDS:
        raise UserError(f"rl: must be {', '.join(KINDS)} to be translated (is {kind}); --method names it")
    for theirs, name in TRAINER.items():
        if theirs in t.left:
            t.left[name] = t.left.pop(theirs)
            t.aliases[name] = theirs
    trainer_arguments(t, learning_rate=5e-5, schedule="cosine", epochs=1.0, name=f"axolotl-{kind}")
    whole, each = t.take("batch_size"), t.number("micro_batch_size", 1)
    t.left["micro_batch_size"] = each
    if whole and "gradient_accumulation_steps" not in t.left:
        t.left["gradient_accumulation_steps"] = max(1, int(whole) // int(each))
    batch(t, "micro_batch_size", 1)
    t.set("train.gradient_checkpointing", bool(t.take("gradient_checkpointing", False)), "gradient_checkpointing")
    _model(t)
    _data(t)
    _loss(t, kind)
    t.leave(TRACKERS,
            "train.trackers names a tracker")  # fmt: skip
    leave_common(t)


def _model(t: Translation) -> None:
    adapter_of = t.take("lora_model_dir")
    base = str(t.take("base_model", "org/model"))
    if adapter_of:
        t.set("model", t.place.path(str(adapter_of)), "lora_model_dir",
              MERGED)  # fmt: skip
        t.left_out["base_model"] = f"the adapter names its model itself ({base})"
    else:
        t.set("model", t.place.path(base), "base_model")
    t.leave("base_model_config tokenizer_config revision_of_model", "configuration and tokenizer come with the model")
    if t.take("trust_remote_code", False):
        t.set("trust_remote_code", True, "trust_remote_code")
    adapter, four = t.take("adapter"), bool(t.take("load_in_4bit", False))
    rank, alpha, dropout = t.number("lora_r", 8), t.number("lora_alpha", 16), t.number("lora_dropout", 0.0)
    targets, linear = t.take("lora_target_modules"), t.take("lora_target_linear", False)
    if adapter in ("lora", "qlora"):
        names = [targets] if isinstance(targets, str) else targets
        whole = linear or not names
        if not linear and not names:
            t.differ("lora_target_modules", "unset; here all linear layers have an adapter")
        lora(
            t,
            ("lora_r", "lora_target_linear" if linear else "lora_target_modules"),
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            targets="all-linear" if whole else names,
            four_bit=four or adapter == "qlora",
        )
    else:
        t.name_unused(ADAPTER, "all weights are trained")
    if adapter and adapter not in ("lora", "qlora"):
        t.differ("adapter", f"{adapter} is not among the adapters; all weights are trained")
    t.leave(
        "special_tokens tokens added_tokens_overrides",
        "the tokenizer's own tokens are used; save a model with others first",
    )


def _data(t: Translation) -> None:
    sources = [_source(t, one) for one in mappings("datasets", t.take("datasets"))]
    if not sources:
        t.set("data.train", "owner/pairs", "datasets", "names no data; write a file or a hub id")
    else:
        write_sources(t, "data.train", sources, "datasets")
    t.leave("test_datasets val_set_size", "prefzoo holds no rows back; name held-out pairs in data.eval")
    t.set("data.max_length", int(t.number("sequence_len", 512)), "sequence_len")
    strategy = str(t.take("excess_length_strategy", "drop"))
    t.set("data.too_long", "cut" if strategy == "truncate" else "drop", "excess_length_strategy",
          "an error there" if strategy == "raise" else "")  # fmt: skip
    t.leave(
        "chat_template chat_template_jinja default_system_message eot_tokens",
        "the tokenizer's own chat template is used",
    )
    kwargs = t.take("chat_template_kwargs")
    if kwargs:
        t.set("data.chat_template_kwargs", dict(kwargs), "chat_template_kwargs")
    t.leave("streaming", "data.train: [{path: ..., streaming: true}] streams")
    t.leave("train_on_inputs", "prompts are never scored")
    t.leave("shuffle_merged_datasets dataset_exact_deduplication", "rows are shuffled; data.drop leaves duplicates out")


def _source(t: Translation, one: Any) -> dict[str, Any]:
    one = {key: value for key, value in dict(one).items() if value is not None}
    files = one.pop("data_files", None)
    path = files[0] if isinstance(files, list) and files else files or one.pop("path", "owner/pairs")
    one.pop("path", None)
    source: dict[str, Any] = {"path": t.place.path(str(path))}
    local = source["path"].endswith((".json", ".jsonl", ".csv", ".parquet"))
    if (split := one.pop("split", "train")) != "train" and not local:
        source["split"] = split
    if "revision" in one:
        source["revision"] = one.pop("revision")
    columns = {ours: one.pop(theirs) for theirs, ours in FIELDS.items() if theirs in one}
    columns = {ours: name for ours, name in columns.items() if name != ours}
    if columns:
        source["columns"] = columns
    if "type" in one:
        t.left_out["datasets.type"] = (
            f"prefzoo detects the format of rows ({one.pop('type')} in axolotl); data.format sets it"
        )
    one.pop("ds_type", None)
    for key in one:
        t.left_out[f"datasets.{key}"] = "prefzoo detects the format of rows"
    return source


def _loss(t: Translation, kind: str) -> None:
    inner = t.take("trl") or {}
    given = {"trl.beta": inner.get("beta"), **{key: t.take(key) for key in ("rl_beta", "dpo_beta", "orpo_alpha")}}
    read = next((key for key, value in given.items() if value is not None), "")
    beta = float(given[read]) if read else 0.1
    t.given |= {key: value for key, value in given.items() if value is not None}
    t.use(read, "the variant's beta")
    for key in inner:
        if key != "beta":
            t.left_out[f"trl.{key}"] = "not an option of a preference loss here"
    good, bad = t.number("kto_desirable_weight", 1.0), t.number("kto_undesirable_weight", 1.0)
    gamma, alpha = t.number("simpo_gamma", 0.5), t.number("cpo_alpha", 1.0)
    kinds, weights = t.take("dpo_loss_type"), t.take("dpo_loss_weights")
    options = {
        "beta": beta,
        "label_smoothing": t.take("dpo_label_smoothing"),
        "use_weighting": t.take("dpo_use_weighting"),
    }
    if kind == "kto":
        by_trl.kto(t, beta, good, bad)
        t.use("kto_desirable_weight", "the variant's desirable")
        t.use("kto_undesirable_weight", "the variant's undesirable")
    elif kind == "orpo":
        by_trl.orpo(t, beta)
    elif kind == "simpo":
        by_trl.cpo(t, "simpo", beta, alpha, gamma, 0.0)
    else:
        t.aliases |= {name: f"dpo_{name}" for name in ("label_smoothing", "use_weighting", "loss_weights")}
        t.use("dpo_loss_type", "the variant's loss")
        norm, likelihood = t.take("dpo_norm_loss", False), t.number("rpo_alpha", 0.0)  # refused by axolotl since 2026
        kinds = kinds or ("ipo" if kind == "ipo" else "sigmoid_norm" if norm else "sigmoid")
        if norm and kinds == "sigmoid_norm":
            t.use("dpo_norm_loss", "the loss dpo_norm")
        if likelihood:
            kinds = kinds if isinstance(kinds, list) else [kinds]
            kinds, weights = [*kinds, "sft"], [*(weights or [1.0] * len(kinds)), likelihood]
            t.use("rpo_alpha", "the weight of sft")
        by_trl.pair_losses(t, kinds, weights, options)
    t.name_unused(OPTIONS, f"rl: {kind} does not read it")
    t.leave("rl_adapter_ref_model", "the reference is the model with the adapter that it starts from")
