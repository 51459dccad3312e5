"""Names of our fields in other tools (TRL, LLaMA-Factory, axolotl, OpenRLHF, ms-swift), for suggestions alone."""

from __future__ import annotations

# Dotted fields of a recipe, knobs of losses, and their other names.
_FIELDS = {
    "train.learning_rate": "lr learning-rate learningrate peak_lr lr_rate actor_learning_rate",
    "train.optimizer": "optim optimiser",
    "train.epochs": "epoch n_epochs num_epochs num_train_epochs max_epochs nepochs",
    "train.steps": "max_steps num_steps n_steps train_steps num_train_steps total_steps max_train_steps iterations",
    "train.batch": "bs batch_size batchsize train_batch_size global_batch_size effective_batch_size total_batch_size",
    "train.micro_batch": "per_device_train_batch_size per_device_batch_size micro_batch_size micro_train_batch_size",
    "train.warmup": "warmup_ratio warmup_steps warmup_fraction lr_warmup_ratio num_warmup_steps",
    "train.schedule": "lr_scheduler lr_scheduler_type scheduler lr_schedule",
    "train.weight_decay": "wd l2",
    "train.max_grad_norm": "grad_clip clip_grad gradient_clipping gradient_clip_val clip_grad_norm max_norm clip",
    "train.precision": "bf16 fp16 dtype torch_dtype mixed_precision pure_bf16 tf32 amp",
    "train.router_loss": "router_aux_loss_coef moe_aux_loss_coef output_router_logits",
    "train.gradient_checkpointing": "grad_checkpointing activation_checkpointing grad_checkpoint recompute",
    "train.tokens": "max_tokens_per_batch tokens_per_batch max_tokens token_budget",
    "train.trackers": "report_to logger loggers wandb tensorboard use_wandb tracker wandb_project",
    "train.lora": "adapter peft use_peft qlora use_lora finetuning_type train_type lora_config peft_config",
    "train.lora.rank": "lora_r lora_rank r",
    "train.lora.alpha": "lora_alpha",
    "train.lora.dropout": "lora_dropout",
    "train.lora.targets": "lora_target lora_target_modules target_modules lora_target_linear",
    "train.lora.quantize": "load_in_4bit load_in_8bit quantization quantization_bit bnb_4bit quantize",
    "train.sync_reference": "sync_ref_model ref_model_sync_steps ref_model_mixup_alpha tr_dpo ref_update",
    "train.sync_reference.alpha": "mixup_alpha",
    "reference": "ref_model_path reference_model_path",
    "train.side_by_side": "parallel multi_lora",
    "data.max_length": "max_len max_seq_len max_seq_length sequence_len seq_len cutoff_len context_length "
    "model_max_length max_prompt_length max_completion_length block_size",
    "data.too_long": "truncation truncation_mode truncate excess_length_strategy",
    "data.train": "train_file train_data dataset datasets dataset_name data_path train_dataset data_files prompt_data",
    "data.eval": "eval_file eval_data eval_dataset val val_data validation validation_file test valid eval_path",
    "data.format": "schema dataset_format type ds_type",
    "data.columns": "column_mapping rename_columns column_names field_map",
    "model": "model_name model_name_or_path base_model pretrain model_path checkpoint pretrained model_id backbone",
    "trust_remote_code": "remote_code trust",
    "price_per_hour": "hourly_price cost_per_hour gpu_price dollars_per_hour hourly_rate",
    "name": "run_name experiment exp_name project experiment_name",
    "seeds": "n_seeds random_seeds num_seeds",
    "seed": "random_seed random_state data_seed",
    "variants": "losses methods loss_types algorithms runs variant",
    "evals": "eval evaluation evaluate metrics",
    "evals.prompts": "eval_prompts prompt_set",
    "evals.judge": "judges judge_model annotator",
    "evals.benchmarks": "benchmark tasks lm_eval suites suite",
    "evals.max_new_tokens": "max_tokens generate_max_len max_gen_toks max_generation_length generation_length",
    "sweep": "search tune tuning hpo hyperparameter_search grid",
    "sweep.trials": "n_trials num_trials budget",
    "beta": "kl_coef dpo_beta rl_beta pref_beta cpo_beta init_kl_coef kl_penalty kl_weight",
    "flip_rate": "label_smoothing epsilon dpo_label_smoothing eps noise",
    "gamma": "simpo_gamma gamma_beta_ratio target_margin",
    "alpha": "cpo_alpha rpo_alpha ld_alpha orpo_alpha nll_coef nll_loss_coef",
    "weight": "beta sft_weight pref_ftx dpop_lambda lambda_ lambda",
    "tau": "ipo_tau discopop_tau beta kl_coef",
    "desirable": "desirable_weight kto_desirable_weight kto_chosen_weight",
    "undesirable": "undesirable_weight kto_undesirable_weight kto_rejected_weight",
    "loss": "loss_type pref_loss rl objective method algorithm trainer",
}
_UNNEEDED = {
    "gradient_accumulation_steps grad_accum gradient_accumulation accumulation_steps accumulate_grad_batches":
        "set train.batch, the pairs per step; the number of passes per step follows from memory",
    "adam_beta1 adam_beta2 adam_epsilon betas": "the optimiser has torch's defaults; train.optimizer names another",
    "output_dir save_dir output_path out": "results are written below --results, in a folder of the run's name",
    "save_steps save_strategy save_total_limit save_every":
        "checkpoints follow the clock: `prefzoo run --save-every SECONDS`",
    "eval_steps eval_strategy evaluation_strategy":
        "variants are evaluated after training; evals.frontier measures during it",
    "logging_steps log_every": "every step is logged",
    "chat_template template prompt_template": "the tokenizer's own chat template is used",
    "packing sample_packing padding_free flash_attention attn_implementation flash_attn":
        "pairs are packed wherever that is exact",
    "precompute_ref_log_probs precompute_ref_logps": "the reference is always scored once, and cached",
    "val_set_size test_size eval_split": "name a file of held-out pairs by data.eval",
    "label_smoothing dpo_label_smoothing": "use the loss cdpo with its knob flip_rate",
    "deepspeed fsdp num_processes zero_stage": "start with `accelerate launch --config_file PROFILE -m prefzoo run`",
    "stage do_train task": "a recipe trains only preference losses, so remove it",
}  # fmt: skip
_KNOBS = ("beta", "flip_rate", "gamma", "alpha", "weight", "tau", "desirable", "undesirable", "loss")
_BY_NAME = [(name, field) for field, names in _FIELDS.items() for name in names.split()]
_REMARKS = {name: remark for names, remark in _UNNEEDED.items() for name in names.split()}
# Values of train.optimizer in transformers' Trainer.
ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused", "adamw_anyprecision", "adamw")
EIGHT_BIT = {
    "adamw_bnb_8bit": "adamw_8bit", "adamw_8bit": "adamw_8bit", "paged_adamw_8bit": "paged_adamw_8bit",
    "adamw_torch_8bit": "adamw_8bit", "paged_adamw_32bit": "adamw", "paged_adamw": "adamw",
}  # fmt: skip
_VALUES = {**dict.fromkeys(ADAMW, "adamw"), **EIGHT_BIT, "adam": "adamw"}


def suggested_value(value: str, known: list[str]) -> str:
    """Return the name here of another tool's value, as the end of a message; empty if it is not known.

    Args:
        value: The unknown value.
        known: The values that are allowed in its field.
    """
    near = _VALUES.get(value.lower().replace("-", "_"))
    return f"; did you mean {near!r}?" if near in known else ""


def suggestion(word: str, known: list[str], *, in_variant: bool = False) -> str:
    """Return the name here of another tool's field, as the end of a message.

    Args:
        word: The unknown name.
        known: The names that are allowed in its section, or the knobs of a variant's loss.
        in_variant: Whether it stands in a variant, beside the knobs.

    Returns:
        Like `; did you mean 'learning_rate'?`, or where another section has the field, `; here that is
        train.learning_rate`. Empty if the name is not known.
    """
    plain = word.lower().replace("-", "_")
    fields = [field for name, field in _BY_NAME if name == plain]
    fields += [field for field in _FIELDS if "." in field and _leaf(field) == plain]
    here = next((field for field in fields if _leaf(field) in known), None)
    if here is not None:
        return f"; did you mean {_leaf(here)!r}?"
    elsewhere = next((field for field in fields if field not in _KNOBS), None)
    if elsewhere is None:
        return f"; {_REMARKS[plain]}" if plain in _REMARKS else ""
    section, _, inner = elsewhere.partition(".")
    if in_variant and section == "train":
        return f"; here that is {elsewhere}, which a variant sets by `train: {{{inner}: ...}}`"
    return f"; here that is {elsewhere}"


def _leaf(field: str) -> str:
    return field.rpartition(".")[2]
