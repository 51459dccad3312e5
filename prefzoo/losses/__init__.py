"""Preference losses, one file per family. Importing this package registers all of them; it loads no model.

Symbols in the formulas: c and r are the policy's log-probs of the chosen and the rejected answer, summed over their
tokens, in nats; c_0 and r_0 are the reference's; |w| and |l| are the answers' token counts; a bar means divided by the
token count; p_w = c - c_0 and p_l = r - r_0 are log-ratios.

The families' docstrings explain which related losses are left out: triples and quadruples of answers (tpo, tpo_l,
iopo) and csft in `likelihood`, kto_pair and the weights of BCO in `unpaired`, RePO++ in `contrastive.repo`, other
losses under an f-divergence in `divergence`, WPO's weight on other losses in `tokens.wpo`. Changes of any loss are in
`modifiers`. TR-DPO moves the reference of any loss and is an option of the training loop (`train.sync_reference`).
Methods that generate their pairs during training (SPIN, online DPO, Nash-MD, XPO) or need a reward model (PPO, GRPO)
are not functions of a pair's log-probs.
"""

from prefzoo.losses import (
    balanced,
    batch,
    contrastive,
    decay,
    divergence,
    dpo,
    gamma_po,
    ipo,
    length,
    likelihood,
    margin,
    modifiers,
    pointwise,
    scored,
    ties,
    tokens,
    unlearning,
    unpaired,
)
from prefzoo.losses._bounds import (
    Finite,
    FlipRate,
    NonNegative,
    PartShare,
    Positive,
    PositiveFlipRate,
    PositiveShare,
    Seed,
    Share,
    Vocabulary,
)
from prefzoo.losses._grids import PaperGrid, paper_grid
from prefzoo.losses._guide import SITUATIONS, Situation
from prefzoo.losses._loss import GROUPS, AnyLoss, Loss
from prefzoo.losses._modified import Modified, as_listed, modify
from prefzoo.losses._modifier import MODIFIERS, Modifier
from prefzoo.losses._modifier_registry import MODIFIER_TEMPLATE, all_modifiers, get_modifier, modifier
from prefzoo.losses._params import Params
from prefzoo.losses._peers import PEERS, PEERS_READ, Peer
from prefzoo.losses._registry import all_losses, get, look_up, loss, names
from prefzoo.losses._signature import TEMPLATE
from prefzoo.losses._sum import Sum

__all__ = [
    "GROUPS",
    "PEERS",
    "PEERS_READ",
    "SITUATIONS",
    "AnyLoss",
    "Finite",
    "FlipRate",
    "Loss",
    "MODIFIERS",
    "MODIFIER_TEMPLATE",
    "Modified",
    "Modifier",
    "NonNegative",
    "PaperGrid",
    "Peer",
    "Params",
    "PartShare",
    "Positive",
    "PositiveFlipRate",
    "PositiveShare",
    "Seed",
    "Share",
    "Situation",
    "TEMPLATE",
    "Sum",
    "Vocabulary",
    "all_losses",
    "all_modifiers",
    "as_listed",
    "balanced",
    "batch",
    "contrastive",
    "decay",
    "divergence",
    "dpo",
    "get",
    "gamma_po",
    "get_modifier",
    "ipo",
    "length",
    "likelihood",
    "look_up",
    "loss",
    "margin",
    "modifier",
    "modifiers",
    "modify",
    "names",
    "paper_grid",
    "pointwise",
    "scored",
    "ties",
    "tokens",
    "unlearning",
    "unpaired",
]
