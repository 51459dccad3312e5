"""Names that mean another loss, mean or default in other libraries, each with its source."""

from __future__ import annotations

from dataclasses import dataclass

PEERS_READ = (
    "TRL 1.16.0, oxRL 1.8.0 and the other libraries' repositories as of August 2026; later versions may differ."
)


@dataclass(frozen=True)
class Peer:
    """A name or an option of another library that does not mean what its users expect.

    Attributes:
        tool: The library.
        name: The text in its configuration.
        ours: The loss of the registry that is trained there.
        difference: What differs from what the name promises, and what to do.
        source: A pull request, an issue or a file of its repository.
    """

    tool: str
    name: str
    ours: str
    difference: str
    source: str


TRL_029 = "huggingface/trl#3906"
TRL_DPO = "huggingface/trl: trl/trainer/dpo_trainer.py"
FACTORY = "hiyouga/LLaMA-Factory: src/llamafactory/train/dpo/trainer.py"

PEERS = (
    Peer("TRL", "sigmoid with label_smoothing", "dpo", "label_smoothing is ignored since 0.29; take cdpo", TRL_029),
    Peer("TRL", "bco_pair", "bco_pair", "without the paper's reward shift since 0.29; that is bco_pair_shift", TRL_029),
    Peer("TRL", "ipo", "ipo_mean", "means over tokens; the paper's sums are ipo", "huggingface/trl#1265"),
    Peer("TRL", "hinge", "hinge", "RSO's hinge with a reference; SLiC, which its docs cite, is slic_hf", TRL_DPO),
    Peer("TRL", "sigmoid_norm", "dpo_norm", "default beta 0.1; the recipe it implements has 5", "huggingface/trl#5406"),
    Peer("TRL", "sppo_hard", "sppo_hard", "default beta 0.1, so targets of 5 nats; the paper's 0.001 has 500", TRL_DPO),
    Peer("TRL", "aot_pair, up to 0.27", "aot_unpaired", "renamed in 0.28: it never was paired", "huggingface/trl#5038"),
    Peer("TRL", "ld_alpha, up to 0.28", "ld_dpo_policy", "weighed the policy only; since 0.29 it is ld_dpo", TRL_029),
    Peer("TRL", "use_weighting", "wpo", "since 0.29 weights above 1 stay as they are; here they become 1", TRL_029),
    Peer("TRL", "f_alpha_divergence_coef", "fdpo_alpha", "means 1 - alpha since 0.29, and alpha before", TRL_029),
    Peer(
        "TRL", "CPO's simpo", "cpo_simpo",
        "adds the likelihood unless cpo_alpha is 0; beta 0.1 with gamma 0.5 is a target of 5 nats per token",
        "huggingface/trl: trl/experimental/cpo/cpo_trainer.py",
    ),
    Peer("TRL", "orpo", "orpo", "its likelihood counts the prompt's tokens too; here those of the chosen answer alone",
         "huggingface/trl: trl/experimental/orpo/orpo_trainer.py"),
    Peer("LLaMA-Factory", "hinge", "dpo", "with TRL 0.20 and later it is the logistic loss", FACTORY),
    Peer("LLaMA-Factory", "ipo", "dpo_norm", "with TRL 0.20 and later it is the logistic loss of means", FACTORY),
    Peer("LLaMA-Factory", "kto_pair", "dpo", "an error before TRL 0.20, the logistic loss with later ones",
         "hiyouga/LLaMA-Factory#8725"),
    Peer("LLaMA-Factory", "simpo", "simpo", "beta 0.1 with gamma 0.5 is a target of 5 nats per token", FACTORY),
    Peer("LLaMA-Factory", "ld_alpha", "ld_dpo_policy", "weighs the policy's tokens only", FACTORY),
    Peer("axolotl", "dpo_label_smoothing", "dpo", "does nothing for rl: dpo; take cdpo",
         "axolotl-ai-cloud/axolotl: pins trl 1.8.0, see " + TRL_029),
    Peer("axolotl", "rl: ipo", "ipo_mean", "TRL's: means over tokens; the paper's sums are ipo",
         "axolotl-ai-cloud/axolotl: src/axolotl/core/trainers/dpo/__init__.py"),
    Peer("axolotl", "rl: simpo", "cpo_simpo", "adds the likelihood unless cpo_alpha is 0",
         "axolotl-ai-cloud/axolotl: src/axolotl/core/builders/rl.py"),
    Peer("OpenRLHF", "ipo_enable", "ipo", "sums, as in the paper; TRL's ipo takes means",
         "OpenRLHF/OpenRLHF: openrlhf/models/loss.py"),
    Peer("OpenRLHF", "nll_loss_coef", "rpo", "the likelihood is a mean over each answer, then over the batch",
         "OpenRLHF/OpenRLHF: openrlhf/models/loss.py"),
    Peer("NeMo-RL", "preference_average_log_probs", "dpo_norm", "the same loss, but beta is 0.05 by default, not 5",
         "NVIDIA-NeMo/RL: nemo_rl/algorithms/loss_functions.py"),
    Peer("NeMo-RL", "sft_loss_weight", "rpo", "the likelihood is a sum over each answer by default, so weights differ",
         "NVIDIA-NeMo/RL: nemo_rl/algorithms/loss_functions.py"),
    Peer("open-instruct", "the default loss", "dpo_norm", "beta 5; its documentation names dpo with beta 0.1",
         "allenai/open-instruct: open_instruct/dpo_utils.py"),
    Peer("open-instruct", "wpo", "wpo", "multiplies sums by a mask of tokens, so that the weight is nearly 0",
         "allenai/open-instruct#1144"),
    Peer("ms-swift", "simpo", "cpo_simpo", "adds the likelihood with weight 1 by default, with a warning",
         "modelscope/ms-swift: swift/arguments/rlhf_args.py"),
    Peer("ms-swift", "ipo", "ipo_mean", "divided tensors of different shapes until this fix",
         "modelscope/ms-swift#9925"),
    Peer("ms-swift", "loss_type with Megatron", "dpo", "ignored: the logistic loss is trained",
         "modelscope/ms-swift#10167"),
    Peer("oxRL", "kto", "kto",
         "its KL is a moving average over chosen answers; the paper's is of mismatched pairs, and never below 0",
         "warlockee/oxRL: oxrl/algs/kto.py"),
    Peer("oxRL", "simpo", "simpo", "beta 0.1 with gamma 0.5 is a target of 5 nats per token",
         "warlockee/oxRL: oxrl/configs/schema.py"),
    Peer("oxRL", "sppo", "sppo_hard", "default beta 0.1, so targets of 5 nats; the paper's 0.001 has 500",
         "warlockee/oxRL: oxrl/algs/sppo.py"),
)  # fmt: skip
