"""The state of a run's folder compared with its recipe, as values and in words. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefzoo.experiment import archive
from prefzoo.runtime import run_folders

ACTIONS = REUSED, RESUMED, NEW, AGAIN, FAILED = "reused", "resumed", "new", "trained again", "failed before"
MOST = 8  # names on a line


@dataclass(frozen=True)
class TrialStanding:
    """The state of one trial.

    Attributes:
        action: REUSED, RESUMED, NEW, AGAIN or FAILED.
        why: the settings that changed, old -> new; or where it resumes, or which folder it is taken from.
        source: a folder with a training of the same settings under another name; None if there is none.
        overwrites: whether its folder holds a training of other settings.
        step: the optimiser step after which it resumes.
    """

    action: str
    why: str = ""
    source: Path | None = None
    overwrites: bool = False
    step: int = 0


@dataclass(frozen=True)
class Standing:
    """The state of a run's folder compared with its recipe.

    Attributes:
        folder: the run's.
        trials: the state of each trial of the recipe, by name.
        orphans: trials in the folder that the recipe no longer has.
        measured_again: models whose training is reused and whose numbers are of other settings.
        evaluation: the settings of the evaluation that changed, old -> new.
        replace: whether results of other settings are overwritten rather than archived.
    """

    folder: Path
    trials: dict[str, TrialStanding]
    orphans: list[str] = field(default_factory=list)
    measured_again: list[str] = field(default_factory=list)
    evaluation: str = ""
    replace: bool = False

    @property
    def uses_nothing(self) -> bool:
        """Whether no training of an earlier start is used."""
        return all(one.action in (NEW, AGAIN) for one in self.trials.values())

    @property
    def superseded(self) -> list[str]:
        """Trials that the run would overwrite or leave off its board, and models with numbers of other settings."""
        changed = [name for name, one in self.trials.items() if one.overwrites]
        return [*changed, *self.orphans, *self.measured_again]

    def lines(self) -> list[str]:
        """Describe what is reused, trained, measured again and left over, a line for each kind; empty if all is new."""
        if not self.superseded and all(one.action == NEW for one in self.trials.values()):
            return []
        groups: dict[tuple[str, str], list[str]] = {}
        for name, one in self.trials.items():
            groups.setdefault((one.action, one.why), []).append(name)
        lines = [
            f"  {action}: {shortened(names)}{f' ({why})' if why else ''}"
            for kind in ACTIONS
            for (action, why), names in groups.items()
            if action == kind
        ]
        if self.measured_again:
            why = self.evaluation or "the content of prompts, pairs or tasks, or a version, changed"
            lines.append(f"  measured again: {shortened(self.measured_again)} ({why})")
        if self.orphans:
            orphaned = shortened(self.orphans)
            lines.append(f"  orphaned: {orphaned} (not in the recipe; left off the board, stays in the folder)")
        if self.is_to_be_archived:
            lines.append(
                f"  archived first: the earlier results, as {self.folder}{run_folders.ARCHIVE_MARK}DATE; see --replace"
            )
        elif self.replace and self.superseded:
            lines.append("  --replace: the earlier results are overwritten")
        return [f"{self.folder}:", *lines]

    @property
    def is_to_be_archived(self) -> bool:
        """Whether results would be lost that are in no archive yet."""
        return not self.replace and not archive.holds(self.folder, self.superseded)


def new_standing(folder: Path, trials: Iterable[str]) -> Standing | None:
    """Return the state of a run that has written nothing, neither to its folder nor to archives; else None.

    Args:
        folder: the run's.
        trials: names of all its trials.
    """
    if any(folder.glob("*")) or archive.archives_of(folder):
        return None
    return Standing(folder, {name: TrialStanding(NEW) for name in trials})


def shortened(names: Sequence[str]) -> str:
    """Return names separated by commas; of many, only the first ones, with the number of the others."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
