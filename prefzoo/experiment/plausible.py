"""Plausible values of settings: a value far outside published ones gets a warning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from prefzoo.data.audit import Audit
from prefzoo.data.tokens import TokenExample
from prefzoo.engine.precision import native_bf16
from prefzoo.evals.judges.server import ServerSettings
from prefzoo.experiment.context import Experiment
from prefzoo.experiment.search import Trial
from prefzoo.experiment.standing_types import shortened
from prefzoo.experiment.without_effect import without_effect
from prefzoo.losses import AnyLoss, Loss, Modified, Modifier, Sum
from prefzoo.recipe.load import Recipe, Variant
from prefzoo.recipe.sections import Evals, Train
from prefzoo.runtime.counts import counted
from prefzoo.training.job import steps_of


@dataclass(frozen=True)
class Range:
    """The plausible values of a setting, and why others are not plausible."""

    low: float
    high: float
    why: str

    def fault(self, place: str, value: float, shown: str = "") -> str:
        """Judge a value.

        Args:
            place: where the recipe has it.
            value: the number.
            shown: what the warning shows in its place; the number itself if empty.

        Returns:
            A warning for a value outside the range; an empty string for one inside.
        """
        if self.low <= value <= self.high:
            return ""
        span = f"{_written(self.low)} to {_written(self.high)}"
        return f"{place}: {shown or _written(value)} is outside of {span}: {self.why}"


def _written(value: float) -> str:
    """Return a number as people write it: 1,000,000, and 1e-09 only for what is small."""
    return (
        f"{int(value):,}" if math.isfinite(value) and value == int(value) and abs(value) < WRITTEN_OUT else f"{value:g}"
    )


PASSES = Range(0, 10, "one to three passes over the pairs are published, and many more memorise them")
FULL_RATE = Range(1e-9, 2e-4, "2e-7 to 2e-5 is published for whole weights, and a far higher rate destroys the model")
LORA_RATE = Range(1e-8, 2e-3, "5e-6 to 3e-4 is published for adapters, and a far higher rate destroys the model")
TRAIN = {
    "batch": Range(2, 2048, "16 to 512 pairs are published"),
    "warmup": Range(0, 0.5, "it is the share of warm-up steps, and 0.03 to 0.15 is published"),
    "weight_decay": Range(0, 0.3, "0 to 0.1 is published"),
    "max_grad_norm": Range(0.01, 100, "0.3 to 10 is published; a far larger one clips nothing"),
    "lora.rank": Range(1, 512, "4 to 256 is published"),
    "lora.alpha": Range(1, 1024, "one to four times the rank is published"),
    "lora.dropout": Range(0, 0.5, "0 to 0.1 is published"),
}
EVALS = {
    "max_new_tokens": Range(16, 16384, "answers are cut at this number of tokens, and a cut answer is judged as it is"),
    "kl": Range(0, 2000, "each of these prompts costs an answer and two passes per variant"),
}
TEMPERATURE = Range(0, 2, "0 asks for the likeliest, 1 draws as the model predicts, and above 2 texts are noise")
TYPICAL_LENGTH = Range(32, 131072, "most prompts with an answer have more tokens, and a longer row is dropped or cut")
FACTOR = 5  # times beyond the published values of a loss's knob that are still plausible
WRITTEN_OUT = 1e15  # larger whole numbers are written with a power of ten
UNPUBLISHED = 100  # times beyond its default, where no values were read
LOOKED_AT = 1000  # rows whose scores are looked at
LOST = 0.2  # share of rows dropped or cut that is worth a warning


def implausible(experiment: Experiment) -> list[str]:
    """Return a warning for each setting of a recipe that is far from plausible."""
    recipe, pairs = experiment.recipe, len(experiment.pairs)
    lines: list[str] = []
    told = set[str]()  # rounds of a chain mostly have the same settings
    for trial in experiment.trials.values():
        variant = trial.variant
        same = repr((variant.chain, variant.loss, variant.params, variant.train))
        if not variant.round or same not in told:
            lines += of_trial(trial, pairs)
        told.add(same)
    shared = _joined(dict.fromkeys(lines), sorted(recipe.variants, key=len, reverse=True))
    idle = without_effect(recipe, list(experiment.trials.values()), pairs, experiment.audits["train"])
    scores = _of_scores(experiment.pairs, [trial.variant.loss_obj for trial in experiment.trials.values()])
    return [line for line in [*shared, *_of_data(experiment), *scores, *_of_evals(recipe), *idle] if line]


def sampling_warning(temperature: float) -> str:
    """Return a warning for a temperature at which answers are noise; else an empty string."""
    return TEMPERATURE.fault("--temperature", temperature)


def unused(recipe: Recipe) -> list[str]:
    """Return a warning for settings that have no effect without another setting."""
    evals, lines = recipe.evals, list[str]()
    if not evals.prompts:
        default = Evals()
        idle = [
            name
            for name in ("judge", "judge_labels", "max_new_tokens", "engine", "frontier", "round_robin")
            if getattr(evals, name) != getattr(default, name)
        ]
        if idle:
            lines.append(f"evals.{', '.join(idle)}: has no effect without evals.prompts; add prompts to answer")
    if not recipe.data.eval and not evals.prompts and not evals.benchmarks:
        lines.append("data.eval, evals.prompts, evals.benchmarks: none is set, so nothing is measured; add one")
    if "leaks" in recipe.data.drop and not (recipe.data.eval or evals.prompts):
        lines.append("data.drop: leaks has no effect without data.eval or evals.prompts; name held-out data")
    return lines


def of_trial(trial: Trial, pairs: int) -> list[str]:
    """Return the warnings for a trial's training and knobs, `pairs` being the rows of its data."""
    variant, place = trial.variant, f"variants.{trial.arm}"
    knobs = variant.params.model_dump()
    lines = [*_of_training(variant, place, pairs), *_of_loss(variant.loss_obj, knobs, place)]
    return [line for line in lines if line]


def _of_training(variant: Variant, place: str, pairs: int) -> Iterator[str]:
    train = variant.train
    at = f"{place}.train"
    yield (LORA_RATE if train.lora else FULL_RATE).fault(f"{at}.learning_rate", train.learning_rate)
    passes = steps_of(train, pairs) * train.batch / pairs
    name, setting = "epochs", f"{train.epochs:g} epochs"
    if train.steps:
        name, setting = "steps", f"{train.steps} steps of {train.batch} rows"
    yield PASSES.fault(f"{at}.{name}", passes, f"{setting}, {passes:.3g} passes,")
    if train.steps and train.epochs != Train().epochs:
        yield f"{at}.epochs: {train.epochs:g} has no effect with steps: {train.steps}; remove one of them"
    if train.precision == "bf16" and not native_bf16():
        yield f"{at}.precision: bf16 is emulated on this machine, which is many times slower than fp32; use auto"
    if train.batch > pairs:
        yield f"{at}.batch: {train.batch} is more than the {pairs} rows there are; a step sees some of them twice"
    for name, plausible in TRAIN.items():
        value = _value(train, name)
        if value is not None:
            yield plausible.fault(f"{at}.{name}", value)


def _value(train: Train, name: str) -> float | None:
    at: Any = train
    for part in name.split("."):
        at = getattr(at, part, None)
    return None if at is None else float(at)


def are_plausible(variant: Variant) -> bool:
    """Return whether every knob of a variant's loss has its default, or a value within its plausible range."""
    return all(
        value == _default(loss, knob) or _is_plausible(loss, knob, value)
        for loss, values, _ in _losses_of(variant.loss_obj, variant.params.model_dump(), "")
        for knob, value in values.items()
    )


def _default(loss: Loss | Modifier, knob: str) -> Any:
    return loss.Params.model_fields[knob].get_default(call_default_factory=True, validated_data={})


def _is_plausible(loss: Loss | Modifier, knob: str, value: Any) -> bool:
    plausible = _knob_range(loss, knob)
    return plausible is not None and isinstance(value, float) and plausible.low <= value <= plausible.high


def _losses_of(
    loss: AnyLoss, values: Mapping[str, Any], place: str
) -> Iterator[tuple[Loss | Modifier, Mapping[str, Any], str]]:  # fmt: skip
    """Yield the losses and modifiers that a loss is made of, each with its knobs and its place in the recipe."""
    if isinstance(loss, Modified):
        own = dict(values)
        entries = own.pop("modifiers")
        yield from _losses_of(loss.loss, own, place)
        for i, ((spec, one), entry) in enumerate(zip(loss.steps, entries, strict=True)):
            yield one, entry[spec], f"{place}.modifiers.{i}.{spec}"
    elif isinstance(loss, Sum):
        for _, term in loss.terms:
            yield term, values[term.name], f"{place}.{term.name}"
    elif isinstance(loss, Loss):
        yield loss, values, place


def _of_loss(loss: AnyLoss, values: Mapping[str, Any], place: str) -> Iterator[str]:
    for one, knobs, at in _losses_of(loss, values, place):
        yield from _of_knobs(one, knobs, at)


def _of_knobs(loss: Loss | Modifier, values: Mapping[str, Any], place: str) -> Iterator[str]:
    for knob, value in values.items():
        plausible = _knob_range(loss, knob)
        if plausible is not None and isinstance(value, float):
            yield plausible.fault(f"{place}.{knob}", value)


def _knob_range(loss: Loss | Modifier, knob: str) -> Range | None:
    """Return plausible values of a knob: near published values, or very roughly near its default."""
    default = loss.Params.model_fields[knob].default
    values = [v for v in (*loss.grid.get(knob, ()), default) if isinstance(v, int | float)]
    if not isinstance(default, float) or not all(math.isfinite(v) for v in values) or min(values) < 0 or default == 0:
        return None
    if knob in loss.grid:
        low, high = min(v for v in values if v) / FACTOR, max(values) * FACTOR
        shown = ", ".join(f"{v:g}" for v in sorted(loss.grid[knob]))
        return Range(low, high, f"{shown} is published for {loss.name}")
    return Range(default / UNPUBLISHED, default * UNPUBLISHED, f"the default of {loss.name} is {default:g}")


def _joined(lines: Iterable[str], variants: Sequence[str]) -> list[str]:
    """Merge the same line of several variants into one."""
    concerned: dict[str, list[str]] = {}
    for line in lines:
        owner = next(name for name in variants if line.startswith(f"variants.{name}."))
        concerned.setdefault(line.removeprefix(f"variants.{owner}."), []).append(owner)
    return [_of_variants(names, line, len(variants)) for line, names in concerned.items()]


def _of_variants(names: Sequence[str], line: str, every: int) -> str:
    """Return a line with the variants that it concerns: all, where they have a setting of `train` in common."""
    if len(names) == every and line.startswith("train."):
        return line
    return f"variants.{names[0]}.{line}" if len(names) == 1 else f"variants {shortened(names)}: {line}"


def _of_data(experiment: Experiment) -> Iterator[str]:
    data = experiment.recipe.data
    yield TYPICAL_LENGTH.fault("data.max_length", data.max_length)
    for name, values in experiment.audits.items():
        audit = Audit(**values)
        dropped, cut = audit.rows - audit.unwanted - audit.kept, audit.counts.get("cut", 0)
        if dropped + cut > LOST * audit.rows:
            yield (
                f"data.{name}: of the {audit.rows} rows of {audit.spec}, {dropped} are dropped and {cut} are cut "
                f"({counted(audit.counts)}); data.max_length is {data.max_length}, raise it if they are too long"
            )


def _of_scores(pairs: Sequence[TokenExample], losses: Sequence[AnyLoss]) -> Iterator[str]:
    expecting = {term.name: term.score_range for loss in losses for _, term in loss.terms if term.score_range}
    scored = (getattr(pair, "scores", None) for pair in islice(pairs, LOOKED_AT if expecting else 0))
    values = [value for both in scored if both for value in both]
    for name, (low, high) in expecting.items():
        if values and not low <= min(values) <= max(values) <= high:
            yield (
                f"data.train: scores lie between {min(values):g} and {max(values):g}, and {name} expects {low:g} to "
                f"{high:g}; rescale score_chosen and score_rejected"
            )


def _of_evals(recipe: Recipe) -> Iterator[str]:
    if recipe.evals.prompts:
        for name, plausible in EVALS.items():
            yield plausible.fault(f"evals.{name}", getattr(recipe.evals, name))
    judge = recipe.evals.judge
    if isinstance(judge, ServerSettings) and judge.temperature is not None:
        yield TEMPERATURE.fault("evals.judge.temperature", judge.temperature)
