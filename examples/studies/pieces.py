"""Run a study piece by piece: a few variants at a time into one folder, so that each piece is whole and kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import yaml

from prefzoo.errors import UserError
from prefzoo.runtime.run_folders import BASE

ROOT = Path(__file__).parents[2]
RECIPES, RESULTS, SCRATCH = (ROOT / at for at in ("recipes/studies", "results/studies", "runs"))
MINUTE = 60.0
# variants of a piece, which then takes less than half an hour on two cores; of most value first
PIECES = {
    "defaults": 2, "tuned": 1, "displacement": 10, "displacement_pairs": 3, "noise_0": 5, "noise_10": 5,
    "noise_20": 5, "noise_40": 5, "overoptimisation": 3,
}  # fmt: skip
PAIRS = "displacement_pairs"  # a run for each pair
BESIDE = {"tuned": "defaults"}  # what the order of the variants is compared with


@dataclass(frozen=True)
class Piece:
    """One call of `prefzoo run`.

    Attributes:
        name: what it is, for a line of progress.
        folder: where its run's folder is.
        variants: what it trains.
        seeds: how many trainings of each variant are measured.
        overrides: `a.b=value` on top of the recipe.
        last: the file that a training's folder has at the end.
    """

    name: str
    folder: Path
    variants: tuple[str, ...]
    seeds: int
    overrides: tuple[str, ...]
    last: str = "evals.json"

    @property
    def is_done(self) -> bool:
        """Whether all of it is trained, and measured where anything is."""
        return all(self._finished(variant) >= self.seeds for variant in self.variants)

    def _finished(self, variant: str) -> int:
        names = (path.parent.name for path in self.folder.glob(f"*/{self.last}"))
        return sum(name == variant or name.startswith(f"{variant}-") for name in names if name != BASE)


def pieces_of(study: str) -> list[Piece]:
    """Return the pieces of a study, in order.

    Raises:
        UserError: there is no such study.
    """
    if study not in PIECES:
        raise UserError(f"{study}: no such study; there are {', '.join(PIECES)}")
    recipe = yaml.safe_load((RECIPES / f"{study}.yaml").read_text(encoding="utf-8"))
    variants, seeds = dict(recipe["variants"]), len(recipe.get("seeds") or [0])
    if study == PAIRS:
        files = sorted((RECIPES / "data" / "displacement").glob("*.jsonl"))
        return [_of_pair(file, tuple(variants), seeds) for file in files]
    names, size = list(variants), PIECES[study]
    parts = [names[i : i + size] for i in range(0, len(names), size)]
    return [
        Piece(
            f"{study}: {', '.join(part)}", RESULTS / study, tuple(part), seeds,
            (f"variants={json.dumps({name: variants[name] for name in part})}",),
        )
        for part in parts
    ]  # fmt: skip


def run(study: str, minutes: float) -> bool:
    """Run the pieces of a study that are not done, then the board and the pictures of the whole.

    Args:
        study: its name.
        minutes: no further piece starts after so many; one always does.

    Returns:
        Whether the study is done.
    """
    start, pieces = monotonic(), pieces_of(study)
    todo = [(i, piece) for i, piece in enumerate(pieces, 1) if not piece.is_done]
    for i, piece in todo:
        if piece is not todo[0][1] and monotonic() - start > minutes * MINUTE:
            print(f"{study}: {minutes:g} minutes are over at piece {i} of {len(pieces)}; the same command goes on")
            return False
        print(f"== piece {i} of {len(pieces)}: {piece.name}", flush=True)
        _prefzoo(study, piece.folder.parent, piece.overrides)
    if study != PAIRS:
        _prefzoo(study, RESULTS, ())
        _call("report", str(RESULTS / study), "--plots", str(RESULTS / study))
    return True


def _of_pair(file: Path, variants: tuple[str, ...], seeds: int) -> Piece:
    tokens = json.loads(file.read_text(encoding="utf-8"))["prompt_tokens"]
    overrides = (
        f'name="{file.stem}"', f"data.train=data/displacement/{file.name}", f"data.max_length={tokens + 1}",
    )  # fmt: skip
    return Piece(f"{PAIRS}: {file.stem}", SCRATCH / PAIRS / file.stem, variants, seeds, overrides, "result.json")


def _prefzoo(study: str, results: Path, overrides: Sequence[str]) -> None:
    """Run a study's recipe; pieces share a folder, whose board of the last piece is not worth an archive."""
    sets = [word for one in overrides for word in ("--set", one)]
    _call("run", str(RECIPES / f"{study}.yaml"), "--results", str(results), "--replace", *sets)


def _call(*words: str) -> None:
    """Run `prefzoo WORDS` as a process of its own, whose memory ends with it."""
    done = subprocess.run([sys.executable, "-m", "prefzoo", *words], check=False, cwd=ROOT)
    if done.returncode:
        raise UserError(f"prefzoo {words[0]} {words[1]} ended with {done.returncode}; the same command goes on")
