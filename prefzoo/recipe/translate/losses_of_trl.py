"""The losses of TRL's trainers, which axolotl passes its options on to: TRL 1.16.0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefzoo.errors import UserError
from prefzoo.recipe.translate.shared import SIMPO_TARGET
from prefzoo.recipe.translate.translation import Translation

Knobs = dict[str, Any]
REFERENCE_FREE = "sigmoid without a reference"  # no value there, but what an option makes of one
PAIRS = {  # loss_type -> the loss here, and which knob beta becomes
    "sigmoid": ("dpo", "beta"), "hinge": ("hinge", "beta"), "ipo": ("ipo_mean", "tau"),
    "exo_pair": ("exo_pair", "beta"), "nca_pair": ("nca_pair", "beta"), "robust": ("robust", "beta"),
    "bco_pair": ("bco_pair", "beta"), "sppo_hard": ("sppo_hard", "beta"), "aot": ("aot", "beta"),
    "aot_unpaired": ("aot_unpaired", "beta"), "aot_pair": ("aot_unpaired", "beta"), "apo_zero": ("apo_zero", "beta"),
    "apo_down": ("apo_down", "beta"), "discopop": ("discopop", "beta"), "sft": ("sft", ""),
    "sigmoid_norm": ("dpo_norm", "beta"), REFERENCE_FREE: ("dpo_ref_free", "beta"),
}  # fmt: skip
SMOOTHED = {"robust": "flip_rate", "exo_pair": "epsilon"}  # what label_smoothing is there
DIFFERENCES = {
    "ipo": "means over tokens; the paper's sums are ipo",
    "bco_pair": "without the paper's reward shift; that is bco_pair_shift",
    "hinge": "RSO's hinge with a reference; SLiC, which its docs cite, is slic_hf",
    "aot_pair": "renamed in TRL 0.28: it never was paired",
    "sppo_hard": "the default beta 0.1 makes targets of 5 nats; the paper's 0.001 has 500",
    "sigmoid_norm": "the default beta is 0.1; the recipe it implements has 5",
}
F_DIVERGENCES = {"forward_kl": "fdpo_forward_kl", "js_divergence": "fdpo_js", "alpha_divergence": "fdpo_alpha"}
DIVERGENCE = ("f_divergence_type", "f_alpha_divergence_coef")
REVERSE_KL = "reverse_kl"  # the default divergence, which every loss has
DEFAULTS: Knobs = {  # of the options of DPOTrainer's losses
    "beta": 0.1, "label_smoothing": 0, "use_weighting": False, "ld_alpha": None, "f_divergence_type": REVERSE_KL,
    "f_alpha_divergence_coef": 0.5, "discopop_tau": 0.05,
}  # fmt: skip
UNREAD = "the loss {loss} does not read it"
ONLY_DPO = "it changes the loss sigmoid alone here"


def pair_losses(t: Translation, kinds: Any, weights: Any, options: Knobs) -> None:
    """Write the variant of a DPOTrainer.

    Args:
        t: the translation.
        kinds: one or several values of `loss_type`.
        weights: one for each; None for 1.
        options: beta, label_smoothing, use_weighting, ld_alpha, f_divergence_type, f_alpha_divergence_coef and
            discopop_tau, as far as they are given.
    """
    names = [kinds] if isinstance(kinds, str) else list(kinds)
    shares = _shares(t, weights, len(names))
    terms = [_term(t, str(kind), options) for kind in names]
    for kind in names:
        if kind in DIFFERENCES:
            t.differ(f"loss_type: {kind}", DIFFERENCES[kind])
    t.name_unused(DEFAULTS, UNREAD.format(loss=" + ".join(loss for loss, _ in terms)))
    if len(terms) == 1 and shares == [1.0]:
        write_variant(t, *terms[0])
        return
    sum_of = " + ".join(
        f"{share:g}*{loss}" if share != 1 else loss for share, (loss, _) in zip(shares, terms, strict=True)
    )
    write_variant(t, sum_of, {loss: knobs for loss, knobs in terms if knobs}, name="sum")


def _shares(t: Translation, weights: Any, terms: int) -> list[float]:
    """Return the weights of a sum's terms, as many as there are.

    Raises:
        UserError: They are no numbers, or of another number.
    """
    if not weights:
        return [1.0] * terms
    try:
        shares = [float(w) for w in (weights if isinstance(weights, list) else [weights])]
    except (TypeError, ValueError):
        shares = []
    if len(shares) != terms:
        name = t.aliases.get("loss_weights", "loss_weights")
        raise UserError(f"{name}: must be a list of {terms} numbers, one for each loss (is {weights!r}); correct it")
    t.use("loss_weights", "the weights of the sum")
    return shares


def with_likelihood(t: Translation, kinds: Any, weights: Any, alpha: float) -> tuple[list[str], list[float]]:
    """Add `rpo_alpha` to the losses: a further sft, or more weight of the one that is there.

    Args:
        t: the translation.
        kinds: one or several values of `loss_type`.
        weights: one for each; None for 1.
        alpha: `rpo_alpha`.

    Returns:
        Losses and weights.

    Raises:
        UserError: as `pair_losses`.
    """
    names = list(kinds) if isinstance(kinds, list) else [kinds]
    shares = _shares(t, weights, len(names))
    if "sft" not in names:
        return [*names, "sft"], [*shares, alpha]
    shares[names.index("sft")] += alpha
    return names, shares


def without_reference(t: Translation, kinds: Any) -> Any:
    """Return the values of `loss_type` under `reference_free`, which is known here for the logistic loss alone."""
    names = [kinds] if isinstance(kinds, str) else list(kinds)
    others = [str(name) for name in names if name not in ("sigmoid", "sft")]
    if others:
        t.differ("reference_free", f"{', '.join(others)}: with its reference here; the logistic loss has dpo_ref_free")
    else:
        t.mapped["reference_free"] = "the loss dpo_ref_free"
    free = [REFERENCE_FREE if name == "sigmoid" else name for name in names]
    return free[0] if isinstance(kinds, str) else free


def _term(t: Translation, kind: str, options: Knobs) -> tuple[str, Knobs]:
    if kind not in PAIRS:
        t.differ(f"loss_type: {kind}", "no such loss is known here; dpo takes its place (prefzoo losses lists all)")
    loss, beta = PAIRS.get(kind, PAIRS["sigmoid"])
    knobs: Knobs = {beta: float(options.get("beta", 0.1))} if beta else {}
    smoothing = float(options.get("label_smoothing") or 0)
    if beta:
        t.use("beta", "the variant's beta")
    if loss in SMOOTHED and smoothing:
        knobs[SMOOTHED[loss]] = smoothing
        t.use("label_smoothing", f"the variant's {SMOOTHED[loss]}")
    elif smoothing and loss == "dpo":
        t.differ("label_smoothing", "ignored by the loss sigmoid since TRL 0.29, and here; the smoothed loss is cdpo")
    elif smoothing:
        name = t.aliases.get("label_smoothing", "label_smoothing")
        t.left_out[name] = f"TRL does not read it with loss_type {kind}"
    if loss == "discopop" and "discopop_tau" in options:
        knobs["tau"] = float(options["discopop_tau"])
        t.use("discopop_tau", "the variant's tau")
    if loss != "dpo":
        _leave(t, options, ("use_weighting", "ld_alpha"), ONLY_DPO)
        if loss != "sft":  # which reads no log-ratios there either
            _leave(t, options, DIVERGENCE, ONLY_DPO)
        return loss, knobs
    return _kind_of_dpo(t, knobs, options)


def _leave(t: Translation, options: Knobs, names: Sequence[str], why: str) -> None:
    """Name the options that are set, and that change nothing here."""
    for option in names:
        if options.get(option) not in (None, False, DEFAULTS[option]):
            t.left_out[t.aliases.get(option, option)] = why


def _kind_of_dpo(t: Translation, knobs: Knobs, options: Knobs) -> tuple[str, Knobs]:
    divergence = options.get(DIVERGENCE[0])
    if options.get("use_weighting"):
        t.differ("use_weighting", "weights above 1 are not clamped by TRL since 0.29; here they are")
        _leave(t, options, ("ld_alpha", *DIVERGENCE), "not combined with use_weighting here, which makes the loss wpo")
        return "wpo", knobs
    if options.get("ld_alpha") is not None:
        _leave(t, options, DIVERGENCE, "not combined with ld_alpha here, which makes the loss ld_dpo")
        t.use("ld_alpha", "the variant's alpha")
        return "ld_dpo", {**knobs, "alpha": float(options["ld_alpha"])}
    if divergence in F_DIVERGENCES:
        alpha = {"alpha": float(options.get("f_alpha_divergence_coef") or 0.5)} if "alpha" in str(divergence) else {}
        if alpha:
            t.differ("f_alpha_divergence_coef", "1 - alpha of versions before 0.29")
        t.use(DIVERGENCE[0], f"the loss {F_DIVERGENCES[str(divergence)]}")
        return F_DIVERGENCES[str(divergence)], {**knobs, **alpha}
    _leave(t, options, DIVERGENCE[:1], f"no such divergence is known here; there are {', '.join(F_DIVERGENCES)}")
    return "dpo", knobs


def kto(t: Translation, beta: float, desirable: float, undesirable: float, kind: str = "kto") -> None:
    """Write the variant of a KTOTrainer.

    Args:
        t: the translation.
        beta: of the rewards.
        desirable, undesirable: the weights of good and of bad answers.
        kind: its `loss_type`.
    """
    if kind == "apo_zero_unpaired":
        write_variant(t, kind, {"beta": beta})
    else:
        if kind != "kto":
            t.differ(f"loss_type: {kind}", "no such loss of single answers is known here; kto takes its place")
        write_variant(t, "kto", {"beta": beta, "desirable": desirable, "undesirable": undesirable})


def orpo(t: Translation, weight: float) -> None:
    """Write the variant of an ORPOTrainer."""
    t.differ("orpo", "TRL's likelihood term also counts the prompt's tokens; here it is the chosen answer's")
    write_variant(t, "orpo", {"weight": weight})


def cpo(t: Translation, kind: str, beta: float, alpha: float, gamma: float, shape: float) -> None:
    """Write the variant of a CPOTrainer.

    Args:
        t: the translation.
        kind: its `loss_type`.
        beta, gamma: of the margin.
        alpha: the weight of the likelihood, `cpo_alpha`.
        shape: AlphaPO's `alpha`.
    """
    if kind == "alphapo":  # TRL's own rewriting of it
        kind, alpha = "simpo", 0.0
    if kind == "simpo":
        t.differ("simpo_gamma", SIMPO_TARGET.format(beta=beta, gamma=gamma, target=gamma / beta))
        knobs = {"beta": beta, "gamma": gamma}
        if shape:
            write_variant(t, "alphapo", {**knobs, "alpha": shape})
            t.use("alpha", "the variant's alpha")
            if alpha:
                t.left_out["cpo_alpha"] = "alphapo has no likelihood term; write loss: alphapo + sft for one"
        elif alpha:
            t.differ("cpo_alpha", f"TRL's simpo adds the likelihood with weight {alpha:g}, which SimPO has not; "
                     "loss: simpo leaves it out")  # fmt: skip
            write_variant(t, "cpo_simpo", {**knobs, "alpha": alpha})
        else:
            if t.given.get("cpo_alpha") == 0:
                t.use("cpo_alpha", "the loss simpo, which has no likelihood term")
            write_variant(t, "simpo", knobs)
        return
    if kind != "sigmoid":
        t.differ(f"loss_type: {kind}", "cpo is trained by its logistic loss")
    write_variant(t, "cpo", {"beta": beta, "alpha": alpha})
    t.use("cpo_alpha", "the variant's alpha")


def write_variant(t: Translation, loss: str, knobs: Knobs, name: str = "") -> None:
    """Write the recipe's one variant.

    Args:
        t: the translation.
        loss: what it trains.
        knobs: of the loss.
        name: of the variant; the loss's if empty.
    """
    variant = name or loss
    own = {**({"loss": loss} if variant != loss else {}), **knobs}
    t.recipe["variants"] = {variant: own or None}
    if not any(key.startswith(t.loss_key) for key in t.differs):
        t.mapped[t.loss_key] = f"variants.{variant}, which trains {loss}"
