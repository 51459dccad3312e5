"""Cautions for the reader of a run: answers cut at the limit, training pairs not seen, no held-out pairs, and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from prefzoo.evals.boards.verdict import names
from prefzoo.evals.judges.protocol import plain_name
from prefzoo.evals.metrics.builtin.corrected import labels_of, refusal
from prefzoo.evals.metrics.measure import Measured
from prefzoo.evals.stats.agreement import krippendorff_alpha

MANY = 0.5  # share of answers cut at the limit from which on a caution is given


@dataclass(frozen=True)
class Setting:
    """The settings and facts of a run that its cautions depend on.

    Attributes:
        max_new_tokens: limit on the tokens of an answer.
        seen: number of training pairs that each variant saw, repeats included.
        pairs: number of training pairs; 0 if it is unknown.
        held_out: whether the recipe has held-out pairs; None without a recipe.
        prompts: whether the recipe has prompts; None without a recipe.
        lost: why training failed, by the name of each failed seed of a ranked setting.
        orphans: names of folders with a training that the recipe does not have.
        flipped: number of training labels that were flipped on purpose.
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
    """Return what a reader must know about a run, a sentence each.

    Args:
        models: measurements by the model's name, those of the base included.
        setting: settings and facts of the run.
    """
    lost = [f"Seed {name} failed ({why}); the numbers of its variant are over the other seeds." for name, why in
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
    """Return for which models verdicts are missing, and why: a sentence for each reason."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for name, m in models.items():
        if m.missing:
            by_reason.setdefault((m.judge, m.why_missing), []).append(name)
    return [f"The judge {plain_name(judge)} on {names(of)}: {why}." for (judge, why), of in by_reason.items()]


def _panel(models: Mapping[str, Measured]) -> list[str]:
    """Return how far the judges of a panel agree, and how many verdicts of each judge are missing."""
    together: dict[str, list[float | None]] = {}
    for m in models.values():
        for judge, preferences in m.panel.items():
            together.setdefault(judge, []).extend(preferences)
    if not together:
        return []
    alpha = krippendorff_alpha(together)
    scale = "(1: they always agree; 0: as by chance)"
    told = f"Agreement of the {len(together)} judges on who wins: Krippendorff's alpha {alpha:.2f} {scale}."
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
    """Return why the labelled pairs cannot correct any win rate; empty if they can."""
    why = next((reason for m in models.values() if (reason := refusal(m))), "")
    return f"No win rate is corrected by the labels (evals.judge_labels): {why}." if why else ""


def _tied_labels(models: Mapping[str, Measured]) -> str:
    """Return how many labelled pairs are ties, and how they count in the corrected win rates."""
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
    """Return how many answers were cut at the limit on tokens; empty if they are few."""
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
    """Return how many training labels were flipped on purpose; empty if none were."""
    if not setting.flipped:
        return ""
    return f"{setting.flipped} training labels were flipped on purpose (data.flip_labels)."


def _seen(setting: Setting) -> str:
    """Return which variants did not see all training pairs; empty if all did."""
    few = {name: n for name, n in setting.seen.items() if n < setting.pairs}
    if not few:
        return ""
    if len(set(few.values())) == 1:
        who = "each variant" if len(few) == len(setting.seen) else names(list(few))
        return f"{next(iter(few.values()))} of {setting.pairs} training pairs were seen by {who}."
    parts = [f"{n} by {name}" for name, n in few.items()]
    return f"Not all of the {setting.pairs} training pairs were seen: {names(parts)}."
