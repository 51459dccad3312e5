"""The zoo: one file per family of losses. Importing this package registers all of them; it never loads a model.

Symbols of the formulas: c, r are the policy's log-probs of the chosen and the rejected answer, summed over their
tokens, c_0, r_0 the reference's; |w|, |l| the answers' token counts; a bar means divided by them; p = c - c_0 a
log-ratio.

What is not here stands where it is missed: triples and quadruples of answers (tpo, tpo_l, iopo) and csft in
`likelihood`, kto_pair and the weights of BCO in `unpaired`, RePO++ in `contrastive.repo`, other losses under an
f-divergence in `divergence`, WPO's weight on other losses in `tokens.wpo`. TR-DPO moves the reference of any loss and
is an option of the loop (`train.sync_reference`). What makes its pairs while it trains (SPIN, online DPO, Nash-MD, XPO)
or needs a reward on the way (PPO, GRPO) is no function of a pair's log-probs.
"""

from prefzoo.losses import (
    batch,
    contrastive,
    divergence,
    dpo,
    ipo,
    length,
    likelihood,
    margin,
    pointwise,
    scored,
    tokens,
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
from prefzoo.losses._loss import GROUPS, AnyLoss, Loss, Params
from prefzoo.losses._registry import all_losses, get, loss, names
from prefzoo.losses._sum import Sum

__all__ = [
    "GROUPS",
    "AnyLoss",
    "Finite",
    "FlipRate",
    "Loss",
    "NonNegative",
    "PaperGrid",
    "Params",
    "PartShare",
    "Positive",
    "PositiveFlipRate",
    "PositiveShare",
    "Seed",
    "Share",
    "Sum",
    "Vocabulary",
    "all_losses",
    "batch",
    "contrastive",
    "divergence",
    "dpo",
    "get",
    "ipo",
    "length",
    "likelihood",
    "loss",
    "margin",
    "names",
    "paper_grid",
    "pointwise",
    "scored",
    "tokens",
    "unpaired",
]
