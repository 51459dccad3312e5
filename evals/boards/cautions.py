"""What a reader must know about a run to believe its numbers: answers cut short, few pairs seen, nothing held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from prefzoo.evals.boards.verdict import names
from prefzoo.evals.judges.protocol import plain_name
from prefzoo.evals.metrics.builtin.corrected import labels_of, refusal
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats.agreement import krippendorff_alpha

MANY = 0.5  # share of answers cut short that is called out


@dataclass(frozen=True)
class Setting:
    """What a run's numbers were made with.

    Attributes:
        max_new_tokens: the limit on an answer.
        seen: how many training pairs each variant saw; more than there are if it saw some again.
        pairs: how many training pairs there are; 0 if it is not known.
        held_out: whether the recipe has held-out pairs; None if there is no recipe.
        prompts: whether the recipe has prompts; None if there is no recipe.
        lost: seed of a ranked setting -> why it was not trained to its end.
        orphans: trainings in the run's folder that its recipe does not have.
        flipped: how many training labels were flipped on purpose.
    """

    max_new_tokens: int
    seen: Mapping[str, int] = field(default_factory=dict)
    pairs: int = 0
    held_out: bool | None = None
    prompts: bool | None = None
    lost: Mapping[str, str] = field(default_factory=dict)
    orphans: Sequence[str] = ()
    flipped: int = 0


def cautions(models: Mapping[str, Measured], setting: Setting) -> tuple[str, ...]:
    """Return what a reader must know, a sentence each.

    Args:
        models: what was measured, by the model's name, the base's under its own.
        setting: what it was measured with.
    """
    lost = [f"The seed {name} failed, and its variant's numbers are the others': {why}." for name, why in
            setting.lost.items()]  # fmt: skip
    several = [
        *_panel(models),
        *lost,
        *_missing_verdicts(models),
        _uncorrected(models),
        _tied_labels(models),
        *_unused_labels(models),
        _cut(models, setting.max_new_tokens),
        _seen(setting),
        _flips(setting),
    ]
    if setting.held_out is False:
        several.append("No held-out pairs (data.eval): accuracy and displacement were not measured.")
    if setting.prompts is False:
        several.append("No prompts (evals.prompts): no answers were compared.")
    if setting.orphans:
        several.append(
            f"Not in the recipe, left over in the folder and not ranked: {names(list(setting.orphans))}; add to the "
            "recipe what is to be ranked, or remove the folder."
        )
    return tuple(filter(None, several))


def _missing_verdicts(models: Mapping[str, Measured]) -> list[str]:
    """Return whose verdicts are missing, and why: a sentence for each reason."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for name, m in models.items():
        if m.missing:
            by_reason.setdefault((m.judge, m.why_missing), []).append(name)
    return [f"The judge {plain_name(judge)} on {names(of)}: {why}." for (judge, why), of in by_reason.items()]


def _panel(models: Mapping[str, Measured]) -> list[str]:
    """Return how far the judges of a panel agree, and whose verdicts are missing."""
    together: dict[str, list[float | None]] = {}
    for m in models.values():
        for judge, preferences in m.panel.items():
            together.setdefault(judge, []).extend(preferences)
    if not together:
        return []
    alpha = krippendorff_alpha(together)
    scale = "(1: always; 0: as by chance)"
    told = f"The {len(together)} judges agree on who wins by a Krippendorff's alpha of {alpha:.2f} {scale}."
    if not isfinite(alpha):
        both = any(len(row) - row.count(None) > 1 for row in zip(*together.values(), strict=True))
        why = "all verdicts are the same" if both else "no two of them gave a verdict on the same answers"
        told = f"How far the {len(together)} judges agree on who wins is unknown: {why}."
    lost = [
        f"{p.count(None)} of {len(p)} verdicts of {plain_name(judge)} are missing."
        for judge, p in together.items()
        if None in p
    ]
    return [told, *lost]


def _uncorrected(models: Mapping[str, Measured]) -> str:
    """Return why labelled pairs correct no win rate."""
    why = next((reason for m in models.values() if (reason := refusal(m))), "")
    return f"No win rate is corrected by the labels (evals.judge_labels): {why}." if why else ""


def _tied_labels(models: Mapping[str, Measured]) -> str:
    """Return how many labelled pairs are ties, and how they enter the corrected rates."""
    labels = next((known for m in models.values() if (known := labels_of(m)) is not None), None)
    if labels is None or not labels.ties:
        return ""
    return (
        f"{labels.ties} of {len(labels.human)} labelled pairs (evals.judge_labels) are ties: among a model's own "
        "answers each is half a win; among other answers they are left out, since no verdict on a tie is an error."
    )


def _unused_labels(models: Mapping[str, Measured]) -> list[str]:
    """Return how many rows of the labels' file are not used: a sentence for each reason."""
    left_out = next((m.labels_left_out for m in models.values() if m.labels_left_out), {})
    return [
        f"{n} {'row' if n == 1 else 'rows'} of the labels (evals.judge_labels) not used: {reason}."
        for reason, n in left_out.items()
    ]


def _cut(models: Mapping[str, Measured], tokens: int) -> str:
    """Return how many answers ended at the limit instead of by themselves."""
    ended = {name: m.finished for name, m in models.items() if m.finished}
    if not ended:
        return ""
    whole = [name for name, finished in ended.items() if not any(finished)]
    limit = f"{tokens} tokens (evals.max_new_tokens)"
    if len(whole) == len(ended):
        return f"All answers were cut at {limit}."
    cut = sum(not done for finished in ended.values() for done in finished)
    total = sum(map(len, ended.values()))
    if cut >= MANY * total:
        return f"{cut} of {total} answers were cut at {limit}."
    return f"All answers of {names(whole)} were cut at {limit}." if whole else ""


def _flips(setting: Setting) -> str:
    """Return a line on the training labels that are wrong on purpose."""
    if not setting.flipped:
        return ""
    return f"{setting.flipped} training labels were flipped on purpose (data.flip_labels)."


def _seen(setting: Setting) -> str:
    """Return which variants did not see all pairs."""
    few = {name: n for name, n in setting.seen.items() if n < setting.pairs}
    if not few:
        return ""
    if len(set(few.values())) == 1:
        who = "each variant" if len(few) == len(setting.seen) else names(list(few))
        return f"{next(iter(few.values()))} of {setting.pairs} training pairs were seen by {who}."
    parts = [f"{n} by {name}" for name, n in few.items()]
    return f"Not all of the {setting.pairs} training pairs were seen: {names(parts)}."
