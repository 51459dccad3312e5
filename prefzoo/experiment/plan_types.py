"""The plan of a run, as plain numbers and in words. Needs no torch, so that an earlier check shows at once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefzoo.runtime.durations import duration
from prefzoo.training.memory_need import MemoryNeed, free_memory

if TYPE_CHECKING:
    from prefzoo.data.mixtures import SourceCounts

ROWS = LOADING, REFERENCE, TRAINING, PAIRS, GENERATION, JUDGING, BENCHMARKS = (
    "loading, saving", "reference", "training", "held-out pairs", "generation", "judging", "benchmarks"
)  # fmt: skip
FEW = 5.0  # seconds in all, of which no part is worth a line
CROWDED = 1.25  # times longer, from which on other processes are worth a word
CALL = 1.0  # seconds that a verdict of a server or model is assumed to take
LARGE, SHARE = 1e9, 0.2  # bytes, and share of what is free, from which on `keep` is worth a line
LESS = 0.9  # of what stays: so much less is worth naming
TINY = 1e6
EXACT = 10  # GB, up to which a decimal is shown


SECONDS = JOULES_OF_WH = 3600  # of an hour


@dataclass(frozen=True)
class Disk:
    """Bytes that a run takes on disk.

    Attributes:
        stays: by each value of the recipe's `keep`, the weights that stay.
        keep: the recipe's.
        peak: at most, while it runs.
        free: free bytes on the disk of the run's folder.
    """

    stays: dict[str, float]
    keep: str
    peak: float
    free: float

    def lines(self) -> list[str]:
        """Return a line on the disk, with cheaper values of `keep` if much is needed, and a warning if too much."""
        stays = self.stays[self.keep]
        words = f"disk: {_gigabytes(stays)} of weights stay, {_gigabytes(self.peak)} at most while it runs"
        lines = [f"{words}; {_gigabytes(self.free)} are free"]
        cheaper = [f"keep: {k} leaves {_gigabytes(v)}" for k, v in self.stays.items() if 0 < v < LESS * stays]
        if stays > min(LARGE, SHARE * self.free):
            lines.append(f"  {', '.join([*cheaper, 'keep: none leaves nothing'])}")
        return lines

    def warnings(self) -> list[str]:
        """Return a warning if the disk is too small."""
        if self.peak <= self.free:
            return []
        return [
            f"disk: {_gigabytes(self.peak)} are needed at most and {_gigabytes(self.free)} are free; free some space, "
            "name another folder with --results, lower evals.frontier, or train adapters (train.lora)"
        ]


@dataclass(frozen=True)
class RunEstimate:
    """The time, disk and cost of a run.

    Attributes:
        seconds: by the part of the run; parts that it does not have are left out.
        details: in words, the content of each part.
        rough: parts partly computed from the size of the model, rather than measured or known from a run.
        unknown: parts partly assumed, since nothing is known.
        known_from: where the times come from.
        disk: what it writes.
        trainings: seconds of each trial's training, from its first step to its last.
        crowding: how many times longer the run takes while other processes are as busy as now.
        price: dollars an hour, by the recipe; None where it names no price.
        watts: mean power of earlier trainings on this machine; None where it is not known.
    """

    seconds: dict[str, float]
    details: dict[str, str]
    rough: list[str]
    unknown: list[str]
    known_from: list[str]
    disk: Disk
    trainings: dict[str, float]
    crowding: float = 1.0
    price: float | None = None
    watts: float | None = None

    @property
    def dollars(self) -> float | None:
        """Price of all parts, in dollars; None without a price."""
        return None if self.price is None else self.price * self.total / SECONDS

    @property
    def joules(self) -> float | None:
        """Energy of all parts, in joules; None if the machine's power is not known."""
        return None if self.watts is None else self.watts * self.total

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())

    def lines(self) -> list[str]:
        """Return the table, a line for each part, and a cure if disk is short."""
        if not self.seconds:
            return ["time: nothing is left to train or to measure", *self.disk.lines()]
        source = ", ".join(self.known_from) or "roughly, from the size of the model"
        rows = [*((row, duration(self.seconds[row]), self._note(row)) for row in ROWS if row in self.seconds)]
        crowd = f"about {duration(self.total * self.crowding)} while other processes are as busy as now"
        if self.total < FEW:
            return [f"time here: a few seconds ({source})", *self._costs(), *self.disk.lines()]
        rows.append(("total", f"about {duration(self.total)}", crowd if self.crowding > CROWDED else ""))
        wide = max(len(name) for name, _, _ in rows), max(len(text) for _, text, _ in rows)
        lines = [f"  {name:<{wide[0]}}  {text:<{wide[1]}}  {note}".rstrip() for name, text, note in rows]
        return [f"time here ({source}):", *lines, *self._costs(), *self.disk.lines()]

    def _costs(self) -> list[str]:
        """Return the cost of the time, if it is known."""
        price = [] if self.dollars is None else [f"about ${self.dollars:.2f}, at ${self.price:g} an hour"]
        power = [] if self.joules is None else [f"about {self.joules / JOULES_OF_WH:,.1f} Wh, at {self.watts:,.0f} W"]
        return [f"cost: {'; '.join(price + power)}"] if price or power else []

    def _note(self, row: str) -> str:
        assumed = f"assumed: {duration(CALL)} a verdict" if row in self.unknown and row == JUDGING else ""
        rough = "roughly" if row in self.rough or (row in self.unknown and not assumed) else ""
        return "; ".join(filter(None, [self.details.get(row, ""), assumed, rough if self.known_from else ""]))


@dataclass(frozen=True)
class VariantPlan:
    """The plan of training one variant.

    Attributes:
        tokens: of one training.
        seconds: of one training.
        trials: how many trainings: settings times seeds.
        grids: the sources of published grids.
        memory: what the training needs; None where the architecture is unknown.
    """

    loss: str
    steps: int
    batch: int
    tokens: float
    seconds: float
    trials: int
    grids: tuple[str, ...]
    memory: MemoryNeed | None


@dataclass(frozen=True)
class Plan:
    """The plan of a recipe.

    Attributes:
        parameters: of the model.
        rows, unit: how many training rows there are, and whether they are pairs or answers.
        schema: of the training data.
        lost: reason -> how many rows were dropped or cut for it.
        seconds: of all trainings, from the first to the last.
        trials: how many trainings there are.
        seeds: how many of them each setting has.
        early_stopping: whether some are stopped early.
        sweep: whether there is anything to tune, or more than one seed.
        notes: a line for each absurd setting.
        sources: what training sees of each source of the data; empty for a single source.
        rounds: lines on what each round samples, starts from and trains on; empty without rounds.
        failing: place in the recipe -> why a plug-in there fails, without which a run would go on.
        standing: lines on the contents of the run's folder and what happens to them; empty if there are none.
        estimate: time by part of the run, and disk, of what is left to do.
        base_stays: bytes of the untrained model that are in memory beside each training; 0 if it is loaded for each.
    """

    name: str
    model: str
    parameters: int
    rows: int
    unit: str
    schema: str
    lost: dict[str, int]
    variants: dict[str, VariantPlan]
    seconds: float
    trials: int
    seeds: int
    early_stopping: bool
    sweep: bool
    estimate: RunEstimate
    notes: tuple[str, ...] = ()
    failing: dict[str, str] = field(default_factory=dict)
    standing: tuple[str, ...] = ()
    sources: tuple[SourceCounts, ...] = ()
    rounds: tuple[str, ...] = ()
    base_stays: float = 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each absurd setting, and for a disk that is too small."""
        return (*self.notes, *self.estimate.disk.warnings())

    def plain(self) -> dict[str, Any]:
        """Return it as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], folder: Path) -> Plan:
        """Return an earlier plan with the memory and disk that are free now.

        Args:
            values: as `plain` returned them, perhaps by way of JSON.
            folder: of the run.

        Returns:
            The plan. How busy other processes are is not measured, and the free memory of a GPU is not looked up.
        """
        variants = {name: _variant(one) for name, one in values["variants"].items()}
        disk = replace(Disk(**values["estimate"]["disk"]), free=free_disk(folder))
        tuples = {key: tuple(values[key]) for key in ("notes", "standing", "rounds")}
        tuples["sources"] = _sources(values["sources"])
        estimate = RunEstimate(**{**values["estimate"], "disk": disk, "crowding": 1.0})
        return cls(**{**values, **tuples, "variants": variants, "estimate": estimate})


def free_disk(folder: Path) -> float:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return float(shutil.disk_usage(existing).free)


def _sources(values: Sequence[Mapping[str, Any]]) -> tuple[SourceCounts, ...]:
    if not values:
        return ()
    from prefzoo.data.mixtures import SourceCounts

    return tuple(SourceCounts(**one) for one in values)


def _variant(values: Mapping[str, Any]) -> VariantPlan:
    memory = MemoryNeed(**values["memory"]) if values["memory"] else None
    if memory is not None:
        memory = replace(memory, free=None if memory.on_gpu else free_memory())
    return VariantPlan(**{**values, "grids": tuple(values["grids"]), "memory": memory})


def _gigabytes(count: float) -> str:
    if count < LARGE / 10:
        return f"{count / 1e6:.0f} MB" if count == 0 or count >= TINY else "under 1 MB"
    return f"{count / 1e9:.1f} GB" if count < EXACT * 1e9 else f"{count / 1e9:,.0f} GB"
