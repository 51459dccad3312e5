"""Tiny random models of many families of transformers, for the tests and for the table in docs/families.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

VOCABULARY = 340
SIZE = dict(
    vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    max_position_embeddings=256, initializer_range=0.1, pad_token_id=0, bos_token_id=1, eos_token_id=3,
)  # fmt: skip
GROUPED = SIZE | dict(num_key_value_heads=2)
HEADS = GROUPED | dict(head_dim=8)
HYBRID = dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=4, mamba_chunk_size=16)
GPT2 = dict(n_embd=32, n_layer=2, n_head=4, n_positions=256, n_inner=64)
EXPERTS = dict(moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2)
MAMBA = dict(state_size=4, conv_kernel=4, expand=2)


@dataclass(frozen=True)
class Family:
    """One architecture of transformers.

    Attributes:
        title: Usual name.
        kind: transformers' `model_type`.
        settings: Settings of its tiny configuration.
        layout: The layout in which prefzoo trains it.
        note: Parts of the architecture that training does not use, if any.
        packed_since: First transformers version with that layout; earlier versions use padded rows.
        gap: Nats by which log-probs with and without gradients may differ, because its kernels differ.
    """

    title: str
    kind: str
    settings: dict[str, Any] = field(default_factory=lambda: GROUPED)
    layout: str = "shared"
    note: str = ""
    gap: float = 0.0
    packed_since: str = "5.17"


ROUTER = "without the router's balancing loss"
STATES = "recurrent layers cannot be packed, and store no states"
BLOCKS = "its attention does not support packed blocks"

FAMILIES = [
    Family("GPT-2", "gpt2", SIZE | GPT2),
    Family("Pythia (GPT-NeoX)", "gpt_neox", SIZE),
    Family("GPT-J", "gptj", SIZE | GPT2 | dict(rotary_dim=4), packed_since="5.24"),
    Family("OPT", "opt", SIZE | dict(ffn_dim=64, word_embed_proj_dim=32)),
    Family("BLOOM", "bloom", SIZE | dict(n_layer=2, n_head=4), "rows", BLOCKS),
    Family("Falcon", "falcon", SIZE, "rows", BLOCKS),
    Family("Phi-1 and 2", "phi", GROUPED),
    Family("Phi-3 and 4", "phi3", GROUPED),
    Family("Gemma", "gemma", GROUPED | dict(head_dim=8)),
    Family("Gemma 2", "gemma2", GROUPED | dict(head_dim=8, sliding_window=8)),
    Family("Gemma 3", "gemma3_text", GROUPED | dict(head_dim=8, sliding_window=8)),
    Family("Qwen2", "qwen2"),
    Family("Qwen2-MoE", "qwen2_moe", GROUPED | EXPERTS | dict(shared_expert_intermediate_size=32), note=ROUTER),
    Family("Qwen3", "qwen3", GROUPED | dict(head_dim=8)),
    Family("Qwen3-MoE", "qwen3_moe", GROUPED | EXPERTS | dict(head_dim=8), note=ROUTER),
    Family("Llama 1 to 3, SmolLM2", "llama"),
    Family(
        "Llama 4 (text)", "llama4_text",
        GROUPED | dict(intermediate_size_mlp=64, num_local_experts=2, head_dim=8, attention_chunk_size=128),
        note=ROUTER,
    ),
    Family("Mistral", "mistral", GROUPED | dict(sliding_window=8)),
    Family("Mixtral", "mixtral", GROUPED | dict(num_local_experts=4), note=ROUTER),
    Family("OLMo", "olmo"),
    Family("OLMo 2", "olmo2"),
    Family("OLMo 3", "olmo3", GROUPED | dict(sliding_window=8)),
    Family("Granite", "granite", GROUPED | dict(logits_scaling=4.0)),
    Family("SmolLM3", "smollm3"),
    Family(
        "DeepSeek-V3", "deepseek_v3",
        SIZE | dict(
            num_key_value_heads=4, moe_intermediate_size=32, n_routed_experts=4, num_experts_per_tok=2, n_group=2,
            topk_group=1, first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8,
            qk_nope_head_dim=8, v_head_dim=8, head_dim=8,
        ),
        note=ROUTER,
    ),
    Family("Cohere", "cohere", GROUPED | dict(logit_scale=0.3)),
    Family("StableLM", "stablelm", GROUPED | dict(partial_rotary_factor=0.5), "rows", BLOCKS),
    Family("Mamba", "mamba", SIZE | MAMBA, "rows", STATES),
    Family(
        "Mamba 2", "mamba2", SIZE | MAMBA | dict(num_heads=8, head_dim=8, n_groups=1, chunk_size=16), "rows", STATES
    ),
    Family("RWKV", "rwkv", SIZE | dict(attention_hidden_size=32, context_length=256), "rows", STATES),
    Family(
        "Jamba", "jamba",
        GROUPED | dict(
            num_experts=2, num_experts_per_tok=1, mamba_d_state=4, mamba_d_conv=4, mamba_expand=2, mamba_dt_rank=4,
            attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1,
            use_mamba_kernels=False,
        ),
        "rows", f"{STATES}; {ROUTER}", 1e-5,  # an adapted time step is the layer less its bias, else a plain product
    ),
    Family("Gemma 3n (text)", "gemma3n_text", HEADS | dict(
        sliding_window=8, vocab_size_per_layer_input=VOCABULARY, hidden_size_per_layer_input=8, num_kv_shared_layers=0,
        laurel_rank=4, altup_num_inputs=2, intermediate_size=[64, 64], activation_sparsity_pattern=[0.0, 0.0],
        layer_types=["sliding_attention", "full_attention"],
    )),
    Family("GLM-4", "glm4", HEADS),
    Family("GLM-4-MoE", "glm4_moe", HEADS | EXPERTS | dict(n_routed_experts=4, n_group=1, topk_group=1), note=ROUTER),
    Family("Cohere 2", "cohere2", GROUPED | dict(logit_scale=0.3, sliding_window=8)),
    Family("ERNIE 4.5", "ernie4_5", HEADS),
    Family("HunYuan", "hunyuan_v1_dense", HEADS),
    Family("EXAONE 4", "exaone4", HEADS | dict(sliding_window=8, sliding_window_pattern=2)),
    Family("Helium", "helium", HEADS),
    Family("Arcee", "arcee"),
    Family("Seed-OSS", "seed_oss", HEADS),
    Family("StarCoder", "gpt_bigcode", SIZE | GPT2),
    Family("StarCoder 2", "starcoder2"),
    Family("OLMoE", "olmoe", GROUPED | dict(num_experts=4, num_experts_per_tok=2), note=ROUTER),
    Family("MPT", "mpt", SIZE | dict(d_model=32, n_heads=4, n_layers=2, max_seq_len=256), "rows", BLOCKS),
    Family("Nemotron", "nemotron", GROUPED, "rows", BLOCKS),
    Family(
        "GPT-OSS", "gpt_oss", HEADS | dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=8), "rows",
        f"{BLOCKS}; {ROUTER}",
    ),
    Family("LFM2", "lfm2", GROUPED | dict(layer_types=["conv", "full_attention"]), "rows", STATES),
    Family(
        "MiniMax", "minimax",
        HEADS | dict(num_local_experts=4, block_size=8, layer_types=["full_attention", "linear_attention"]),
        "rows", f"{STATES}; {ROUTER}",
    ),
    Family(
        "Qwen3-Next", "qwen3_next",
        HEADS | EXPERTS | dict(
            shared_expert_intermediate_size=32, linear_num_value_heads=4, linear_num_key_heads=2,
            linear_key_head_dim=8, linear_value_head_dim=8, layer_types=["linear_attention", "full_attention"],
        ),
        "rows", f"{STATES}; {ROUTER}",
    ),
    Family("Bamba", "bamba", GROUPED | HYBRID | dict(attn_layer_indices=[1]), "rows", STATES),
    Family("Falcon-H1", "falcon_h1", HEADS | HYBRID | dict(mamba_d_ssm=64), "rows", STATES),
    Family(
        "Zamba 2", "zamba2",
        SIZE | dict(
            num_key_value_heads=4, mamba_d_state=4, n_mamba_heads=8, mamba_ngroups=1, chunk_size=16, num_mem_blocks=1,
            adapter_rank=4, layers_block_type=["mamba", "hybrid"], hybrid_layer_ids=[1], attention_head_dim=16,
            attention_hidden_size=64,
        ),
        "rows", STATES,
    ),
]  # fmt: skip


def tiny(family: Family) -> Any:
    """Return a random model of a family, with transformers' own attention, or None where transformers lacks it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.for_model(family.kind, **family.settings)
    except ValueError:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
