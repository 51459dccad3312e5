"""The keys of the three libraries that no field of a recipe stands for, by the reason."""

from __future__ import annotations

from prefzoo.recipe.translate.translation import Translation

LAUNCH = "start with accelerate launch --config_file PROFILE -m prefzoo run"
SPEED = "prefzoo packs and tiles by itself; it changes speed and memory, not the result"
DATA = "data are read at once and packed by length"
TRACKER = "train.trackers names a tracker"
UPLOAD = "prefzoo push uploads a variant"
TEXT_ALONE = "models read and write text alone"
ANSWERS = "evals.prompts are answered at each variant's end, as evals says"
OTHER_TRAINING = "is of another training than that of pairs or of labelled answers"
OTHER_OPTIMIZER = "is not among the optimisers; see train.optimizer"
OTHER_ADAPTER = "adapters are plain LoRA"
NO_EFFECT = "it has no effect on a training"
QUANTIZED = "weights are frozen in full or half precision, or in 4 bits (train.lora.quantize)"
OWN_TOKENIZER = "configuration and tokenizer are those of the model's folder; change them there first"

EXACT = {
    "logging_steps logging_first_step logging_strategy logging_dir log_level logging_nan_inf_filter log_level_replica "
    "include_tokens_per_second plot_loss log_on_each_node disable_tqdm include_num_input_tokens_seen include_tkps "
    "include_effective_tokens_per_second print_param_status": "every step is logged in metrics.jsonl",
    "save_steps save_strategy save_total_limit save_only_model save_safetensors saves_per_epoch save_first_step "
    "overwrite_output_dir resume_from_checkpoint auto_resume_from_checkpoints save_on_each_node ignore_data_skip "
    "enable_jit_checkpoint restore_callback_states_from_checkpoint dynamic_checkpoint fsdp_final_state_dict_type":
        "checkpoints follow the clock (prefzoo run --save-every SECONDS), and a run always resumes",
    "eval_steps eval_strategy evaluation_strategy evals_per_epoch eval_on_start do_eval per_device_eval_batch_size "
    "eval_batch_size load_best_model_at_end metric_for_best_model greater_is_better early_stopping_patience "
    "early_stopping_steps eval_on_each_dataset eval_delay prediction_loss_only eval_do_concat_batches "
    "eval_use_gather_object do_predict eval_accumulation_steps include_for_metrics batch_eval_metrics bf16_full_eval "
    "fp16_full_eval compute_accuracy label_names do_causal_lm_eval eval_causal_lm_metrics do_bench_eval bench_dataset "
    "bench_split eval_sequence_len": "variants are evaluated after training; evals.frontier measures during it",
    "push_to_hub push_to_hub_model_id push_to_hub_organization push_to_hub_token push_dataset_to_hub": UPLOAD,
    "hf_use_auth_token hf_hub_token ms_hub_token om_hub_token": "the hub's own environment variables hold its token",
    "deepspeed ddp fsdp local_rank accelerator_config num_processes device device_map max_memory gpu_memory_limit "
    "world_size use_cpu no_cuda use_mps_device parallelism_config use_ray use_kt resources_per_worker master_addr "
    "master_port use_mca use_megatron_bridge megatron_bridge_args use_hyper_parallel deepcompile dp_shard_size "
    "dp_replicate_size tensor_parallel_size context_parallel_size sequence_parallel_degree sequence_parallel "
    "heads_k_stride ring_attn_func pipeline_model_parallel_size tensor_model_parallel_size expert_model_parallel_size "
    "experimental_skip_move_to_device lora_on_cpu qlora_sharded_model_loading": LAUNCH,
    "dataset_num_proc preprocessing_num_workers preprocessing_batch_size overwrite_cache dataset_prepared_path "
    "dataset_processes group_by_length remove_unused_columns num_proc length_column_name train_sampling_strategy "
    "data_shared_file_system tokenized_path dataset_keep_in_memory dataset_shard_num dataset_shard_idx "
    "skip_prepare_dataset num_dataset_shards_to_save is_preprocess preprocess_iterable total_num_tokens "
    "total_supervised_tokens sample_packing_eff_est axolotl_config_path cache_dir dataset_processing_backend": DATA,
    "disable_shuffling shuffle_before_merging_datasets full_determinism curriculum_sampling":
        "rows are shuffled by seed, and a run of the same seed is the same run",
    "min_sample_len max_prompt_len": "rows are dropped or cut by data.max_length alone",
    "packing sample_packing eval_sample_packing pad_to_sequence_len padding_free dpo_padding_free pad_to_multiple_of "
    "neat_packing block_diag_attn batch_flattening multipack_real_batches sdp_attention xformers_attention "
    "flex_attention sage_attention eager_attention sdpa_varlen flex_attn_compile_kwargs fused_attn_kernel "
    "large_head_attention gemma4_hybrid_attn_impl s2_attention shift_attn attn_implementation use_liger_kernel "
    "enable_liger_kernel dpo_use_liger_kernel liger_kernel_config use_unsloth use_unsloth_gc use_kernels "
    "use_v1_kernels use_scattermoe use_sonicmoe experts_implementation tf32 lora_mlp_kernel lora_qkv_kernel "
    "lora_o_kernel lora_embedding_kernel activation_offloading layer_offloading activation_checkpointing "
    "activation_checkpointing_kwargs selective_checkpointing gradient_checkpointing_kwargs use_reentrant_gc use_cache "
    "use_kv_cache lora_fan_in_fan_out torch_empty_cache_steps gc_steps gc_collect_steps padding_value "
    "auto_find_batch_size chunked_cross_entropy chunked_cross_entropy_num_chunks tiled_mlp tiled_mlp_num_shards "
    "tiled_mlp_use_original_mlp dpo_use_logits_to_keep optimize_cuda_cache ignore_pad_token_for_loss "
    "max_packed_sequence_len": SPEED,
    "precompute_ref_log_probs precompute_ref_batch_size dpo_precompute_ref_log_probs":
        "the reference is always scored once, and cached",
    "adam_beta1 adam_beta2 adam_epsilon optim_args adam_beta3 adam_epsilon2": "the optimiser has torch's defaults",
    "optim_target_modules lr_groups embedding_lr embedding_lr_scale loraplus_lr_ratio loraplus_lr_embedding":
        "all trained weights have one learning rate and one optimiser",
    "lr_div_factor cosine_min_lr_ratio cosine_constant_lr_ratio lr_quadratic_warmup": "schedules have no options",
    "model_type type_of_model tokenizer_type cls_model_config tokenizer_use_fast use_fast_tokenizer tokenizer_legacy "
    "tokenizer_use_mistral_common tokenizer_save_jinja_files split_special_tokens lora_task_type low_cpu_mem_usage "
    "is_llama_derived_model is_mistral_derived_model is_qwen_derived_model is_falcon_derived_model":
        "follows from the model",
    "do_train": "prefzoo run always trains",
    "chat_template chat_template_path": "the tokenizer's own chat template is used; save the tokenizer with another",
    "model_revision model_max_length overrides_of_model_config overrides_of_model_kwargs rope_scaling adapter_folder "
    "resize_token_embeddings_to_32x mean_resizing_embeddings shrink_embeddings embeddings_skip_upcast "
    "new_special_tokens_config init_special_tokens fix_untrained_tokens scaling_softmax scaling_softmax_factor "
    "scaling_softmax_bias bos_token eos_token pad_token": OWN_TOKENIZER,
    "train_from_scratch reinit_weights mixture_of_depths use_llama_pro llama4_linearized_experts unfrozen_parameters "
    "freeze_trainable_layers freeze_trainable_modules freeze_extra_modules":
        "all weights of a given model are trained, or adapters on them",
    "lora_modules_to_save additional_target modules_to_save": "adapters alone are trained; train all weights instead",
    "use_rslora peft_use_rslora": "the scale is alpha / rank; with rsLoRA it is alpha / sqrt(rank), so raise alpha",
    "use_dora peft_use_dora pissa_init pissa_iter pissa_convert peft peft_layers_to_transform peft_layers_pattern "
    "peft_layer_replication peft_init_lora_weights peft_trainable_token_indices peft_ensure_weight_tying "
    "peft_autocast_adapter_dtype lora_target_parameters lora_rank_pattern lora_alpha_pattern merge_lora merge_method "
    "loftq_config": OTHER_ADAPTER,
    "use_galore use_apollo use_badam use_adam_mini": OTHER_OPTIMIZER,
    "neftune_noise_alpha noisy_embedding_alpha": "no noise is added to embeddings",
    "load_in_8bit gptq bnb_config_kwargs quantization_device_map quantize_moe_experts model_quantization_config "
    "model_quantization_config_kwargs use_onebitllms qat quantization bnb_4bit_compute_dtype bnb_4bit_quant_storage":
        QUANTIZED,
    "fp8 fp8_backend fp8_enable_fsdp_float8_all_gather float16 float32 bfloat16 fp32_norms fp32_norm_classes "
    "upcast_layernorm upcast_lmhead_output compute_dtype infer_dtype":
        "trained weights are in fp32, products in bf16; see train.precision",
    "max_prompt_length max_completion_length max_target_length": "prompt and answer share data.max_length",
    "generate_during_eval dpo_generate_during_eval generate_samples eval_table_size eval_max_new_tokens "
    "predict_with_generate eval_num_beams num_generation_samples do_sample temperature top_p top_k num_beams "
    "max_new_tokens repetition_penalty length_penalty skip_special_tokens infer_backend offload_folder": ANSWERS,
    "is_encoder_decoder": "models are decoders",
    "router_aux_loss_coef moe_aux_loss_coef": "the balancing loss of a router is not computed; see train.router_loss",
    "freeze_vision_tower freeze_multi_modal_projector freeze_language_model freeze_mm_modules crop_to_patches "
    "media_dir use_audio_in_video processor_type processor_kwargs role_boundaries": TEXT_ALONE,
    "loss_watchdog_threshold loss_watchdog_patience": "a training whose loss is not a finite number stops by itself",
    "label_smoothing_factor": "is the Trainer's own, which trainers of pairs do not read; cdpo smooths labels",
    "use_dft_loss use_asft_loss asft_alpha use_eaft_loss use_eaft eaft_alpha eaft_k ebft reward_model "
    "process_reward_model center_rewards_coefficient num_labels pretraining_dataset vllm trainer_cls": OTHER_TRAINING,
    "plugins": "plug-ins of prefzoo are files and entry points; see its page on extending",
    "use_swanlab use_mlflow use_comet use_trackio use_wandb use_tensorboard use_otel_metrics project trackers": TRACKER,
    "tags ignore_bias_buffers label_pad_token_id average_tokens_across_devices strict capabilities env_capabilities "
    "debug skip_memory_metrics enable_torch_profiler profiler_output_dir profile_modules ray_run_name": NO_EFFECT,
}  # fmt: skip
BEGINNINGS = {
    "wandb_ swanlab_ mlflow_ hf_mlflow_ comet_ trackio_ otel_": TRACKER,
    "hub_ export_": UPLOAD,
    "ddp_ fsdp_ ray_ megatron_ hyper_parallel_ kt_": LAUNCH,
    "dataloader_ sample_packing_ pretrain_ pretraining_ streaming_": DATA,
    "flash_ torch_compile torchdistx": SPEED,
    "image_ video_ audio_": TEXT_ALONE,
    "gradio_ generation_ vllm_ sglang_": ANSWERS,
    "galore_ qgalore_ apollo_ badam_ dion_ lisa_ jagged_": OTHER_OPTIMIZER,
    "relora loftq_": OTHER_ADAPTER,
    "profiler_": NO_EFFECT,
    "ppo_ reward_model_ reward_ pose_ use_pose": OTHER_TRAINING,
}


def leave_common(t: Translation) -> None:
    """Take what has no counterpart and is the same everywhere."""
    for keys, why in EXACT.items():
        t.leave(keys, why)
    for beginnings, why in BEGINNINGS.items():
        t.leave(" ".join(key for key in t.left if key.startswith(tuple(beginnings.split()))), why)
