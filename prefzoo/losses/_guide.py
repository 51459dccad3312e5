"""The guide "which loss to try": situations, the losses made for each, and the sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prefzoo.losses._loss import Loss

BLUR = "Gorbatovski 2025, arXiv:2502.01237"


@dataclass(frozen=True)
class Situation:
    """A situation that users know from their data or their results, and the losses made for it.

    Attributes:
        title: The situation, in the user's words.
        advice: What to do, and what studies found.
        picks: Losses to try, best known first, each with what it offers here. A sum like `dpo + 0.2*sft` is allowed.
        source: Where the advice was read; empty if the papers of the picks are the source.
        fits: Tells by a loss's declarations whether it fits at all: it needs no reference, it reads scores and so on.
            True for every pick; finds other fitting losses, plug-ins included. None if declarations cannot tell.
    """

    title: str
    advice: str
    picks: tuple[tuple[str, str], ...]
    source: str = ""
    fits: Callable[[Loss], bool] | None = None

    def others(self, losses: list[Loss]) -> list[str]:
        """Return the names of the losses that fit too and are not among the picks."""
        picked = {name for name, _ in self.picks}
        return [one.name for one in losses if self.fits is not None and self.fits(one) and one.name not in picked]


SITUATIONS = (
    Situation(
        "Nothing special: pairs, and a model after SFT",
        "Begin with dpo, and tune beta and the learning rate of each loss before you compare. Equally tuned, losses "
        "tie at 3B parameters; at 7-8B, losses of a pair's margin beat losses that score each answer separately.",
        (
            ("dpo", "the baseline, with the most published settings"),
            ("simpo", "needs no reference and divides by the length"),
            ("ipo", "has a finite target, so the margin stops growing"),
        ),
        BLUR,
    ),
    Situation(
        "Noisy labels: annotators disagree, or a judge is often wrong",
        "Measure the share of wrong labels if you can, and set flip_rate to it; without an estimate use ipo or a "
        "bounded loss. The labels of a held-out set are as noisy, so its accuracy cannot reach 100%.",
        (
            ("cdpo", "its minimum lies at a finite margin, which the assumed share of flipped labels sets"),
            ("robust", "unbiased if flip_rate is right, but unbounded below"),
            ("ipo", "a wrong label pulls only towards a finite margin"),
            ("dr", "a modifier of any loss of pairs: lowers the weight of the pairs that fit worst"),
            ("apo_zero", "bounded, so a pair far on the wrong side has almost no gradient"),
        ),
    ),
    Situation(
        "Thumbs only: single answers marked good or bad, no pairs",
        "Balance the classes by kto's two weights, and use a higher learning rate than for DPO. If prompts have both "
        "a good and a bad answer, make pairs of them: pairs tell more.",
        (
            ("kto", "prospect theory; two weights balance good and bad answers"),
            ("bco", "a binary classifier whose threshold follows the rewards"),
            ("apo_zero_unpaired", "the simplest: no estimate over the batch, and it saturates"),
            ("rdro", "assumes no model of preferences; bounded; its knob is the share of good answers"),
            ("ddro", "the same idea; unbounded below, and provisional"),
        ),
        fits=lambda one: one.unpaired,
    ),
    Situation(
        "Length bias: answers grow longer, or chosen answers are the longer ones",
        "Compare length-controlled win rates and mean lengths, not raw win rates. Check first with `prefzoo data` how "
        "much longer the chosen answers are.",
        (
            ("r_dpo", "a penalty per token, so that length alone gains nothing"),
            ("dpo_norm", "DPO on means over tokens; Tulu 3 chose it"),
            ("simpo", "means over tokens, without a reference"),
            ("ld_dpo", "lowers the weight of tokens beyond the shorter answer's length"),
            ("sampo", "samples the longer answer's tokens down to the shorter one's length"),
        ),
        "Park 2024, arXiv:2403.19159 (DPO's answers grow longer than the data's); Lambert 2024, arXiv:2411.15124",
    ),
    Situation(
        "No reference: too little memory for one, or none that fits",
        "prefzoo scores the reference once and caches it, so a reference costs time rather than memory. Without one, "
        "nothing holds the model near its start: use a low learning rate and watch benchmarks.",
        (
            ("simpo", "the best known; tune beta and gamma together"),
            ("cpo", "a likelihood term takes the reference's place"),
            ("orpo", "a likelihood term, and an odds ratio that needs no scale"),
            ("repo", "SimPO's limit with a single knob"),
            ("simper", "no knobs at all"),
        ),
        fits=lambda one: not one.needs_reference,
    ),
    Situation(
        "Displacement: the chosen answers become less likely while the margin grows",
        "DPO's margin can grow while both answers become less likely, above all when they are alike. Watch the chosen "
        "answers' log-ratio, and add a term that raises it.",
        (
            ("dpop", "a penalty for each nat by which the chosen answer falls below the reference"),
            ("rpo", "DPO plus the likelihood of the chosen answer, as in iterative RPO and Llama 3.1"),
            ("dpo + 0.2*sft", "the same idea with a weight of your own, for any loss of pairs"),
            ("nca_pair", "its optimum has a finite log-ratio of the chosen answer"),
            ("cal_dpo", "pulls both log-ratios to targets, the chosen one above zero"),
            ("dpo_shift", "DPO with a smaller weight on the rejected answer"),
            ("bpo", "improves only if the chosen answer rises and the rejected one falls"),
        ),
        "Razin 2024, arXiv:2410.08847; Pal 2024, arXiv:2402.13228; Pang 2024, arXiv:2404.19733",
    ),
    Situation(
        "Off-policy answers: other models wrote them",
        "The model would hardly write such answers itself. Weight the pairs, or have the model answer the prompts and "
        "a judge compare (`prefzoo pairs`).",
        (
            ("wpo", "weights each pair by how likely the policy would have written its answers"),
            ("apo_zero", "for answers that are better than the model's own"),
            ("apo_down", "for answers that are worse than the model's own"),
        ),
    ),
    Situation(
        "On-policy answers: the model wrote them, and a judge or a reward model compared them",
        "`prefzoo pairs` makes such data. Answers of one model are alike, so watch for displacement; repeat with the "
        "trained model for further rounds.",
        (
            ("dpo", "the usual loss for the rounds of iterative training"),
            ("sppo_hard", "self-play: made for rounds of the model's own answers"),
            ("rpo", "the loss of iterative RPO: its likelihood term preserves reasoning"),
            ("simpo", "its authors' runs from instruct models use such answers"),
        ),
        "Wu 2024, arXiv:2405.00675; Pang 2024, arXiv:2404.19733; Meng 2024, arXiv:2405.14734",
    ),
    Situation(
        "Scores: the data says how much better the chosen answer is",
        "A clear win should count more than a near tie. Scores have the data's own unit: set the scale so that gaps "
        "are around 1.",
        (
            ("odpo", "requires a margin that grows with the logarithm of the gap"),
            ("margin_dpo", "requires a margin in proportion to the gap, as Llama 2's reward model does"),
            ("rpo_bwd_kl", "takes the scores as soft labels"),
            ("rpo_sq", "fits the margin to the gap itself, as REBEL does"),
            ("mappo", "lowers the rejected answer less where the scores, from 0 to 1, are close"),
            ("qrpo", "fits absolute rewards, by their rank among the model's own answers (column ref_rewards)"),
            ("dpo_rk", "for ties: equal scores pull the margin to zero instead of being left out"),
        ),
        fits=lambda one: one.needs_scores,
    ),
    Situation(
        "No SFT yet: a base model, and no budget for two stages",
        "A loss with a likelihood term can do both at once. In the one comparison that was read, SFT and then a "
        "preference loss was much better (LC win rate 24.1, not 14.8, for the odds ratio).",
        (
            ("orpo", "made for one stage"),
            ("cpo", "likelihood and a margin, both without a reference"),
            ("sft", "the baseline that every preference loss should beat"),
        ),
        BLUR,
    ),
    Situation(
        "Unlearning: the model knows or says what it should not",
        "Put what must go into the rejected answers, and what must stay (a refusal, or other data) into the chosen "
        "ones. Measure both: how much the model forgets, and what that costs on benchmarks.",
        (
            ("npo + sft", "forgets more slowly the further the answer has fallen, and trains the chosen one"),
            ("0.1375*simnpo + sft", "without a reference, on the mean over tokens; the weight is its authors'"),
        ),
    ),
    Situation(
        "Overfitting: few pairs, or one answer wins always",
        "DPO's margin grows without end on pairs that are never contradicted. Use a loss with a finite target, train "
        "less than an epoch, and choose the checkpoint on held-out pairs.",
        (
            ("ipo", "a squared distance from a finite target"),
            ("hinge", "no gradient once the margin is reached"),
            ("cdpo", "label smoothing bounds the margin"),
        ),
        "Azar 2023, arXiv:2310.12036; Rafailov 2024, arXiv:2406.02900",
    ),
)
