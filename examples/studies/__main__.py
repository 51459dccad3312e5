"""Run the studies, and gather what they found into small files beside their runs; `make studies` calls this.

python -m examples.studies run defaults --minutes 110
python -m examples.studies numbers results/studies/defaults
python -m examples.studies fluency results/studies/defaults recipes/studies/defaults.yaml
python -m examples.studies agreement results/studies/defaults results/studies/tuned
python -m examples.studies trend results/studies/noise_*
python -m examples.studies displacement results/studies/displacement recipes/studies/displacement.yaml
python -m examples.studies predicted runs/displacement_pairs recipes/studies/displacement_pairs.yaml --out FOLDER
python -m examples.studies page results/studies --out docs/studies.md

`page` also writes the paragraphs of the README beside the page's folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from prefzoo.errors import UserError
from prefzoo.runtime.run_folders import write_text

NUMBERS = "numbers.json"
COMMANDS = ("numbers", "fluency", "agreement", "trend", "displacement", "predicted")  # what adds to that file
UNFINISHED = 4  # exit code: the time is over, and the same command goes on
TEMPLATES = Path(__file__).parents[2] / "recipes" / "studies"
TEMPLATE, SUMMARY, README = TEMPLATES / "page.md", TEMPLATES / "summary.md", "README.md"


def main(words: list[str] | None = None) -> int:
    """Run a command, and return its exit code: 2 for what the user can mend, 4 where the time is over."""
    parser = argparse.ArgumentParser(prog="python -m examples.studies", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["run", *COMMANDS, "page"])
    parser.add_argument("paths", nargs="+", type=Path, help="folders and recipes; for run, the name of a study")
    parser.add_argument("--minutes", type=float, default=110, help="run: no further piece starts after so many")
    parser.add_argument("--out", type=Path, help="folder of numbers.json, or the page; the last run's unless given")
    asked = parser.parse_args(words)
    try:
        if asked.command == "run":
            return _run(str(asked.paths[0]), asked.minutes)
        _do(asked.command, asked.paths, asked.out)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0


def _run(study: str, minutes: float) -> int:
    """Run a study, and write its numbers once it is done."""
    from examples.studies import pieces
    from examples.studies.agreement import ROWS
    from examples.studies.noise import is_noise

    if not pieces.run(study, minutes):
        return UNFINISHED
    folder, recipe = pieces.RESULTS / study, pieces.RECIPES / f"{study}.yaml"
    if study == pieces.PAIRS:
        _do("predicted", [pieces.SCRATCH / study, recipe], folder)
    elif study == "displacement":
        _do("displacement", [folder, recipe], None)
    else:
        _do("numbers", [folder], None)
        _do("fluency", [folder, recipe], folder)
    if study in pieces.BESIDE:
        _do("agreement", [pieces.RESULTS / pieces.BESIDE[study], folder], None)
    if is_noise(study):
        folders = [pieces.RESULTS / name for name in pieces.PIECES if is_noise(name)]
        if all((one / ROWS).is_file() for one in folders):
            _do("trend", folders, None)
    return 0


def _do(command: str, paths: list[Path], out: Path | None) -> None:
    if command == "page":
        from examples.studies.page import read_numbers, render, summary, with_summary
        from examples.studies.pictures import draw

        target = out or Path("docs/studies.md")
        numbers = read_numbers(paths[0])
        write_text(target, render(TEMPLATE.read_text(encoding="utf-8"), numbers))
        readme = target.parent.parent / README
        if readme.is_file():
            text = summary(SUMMARY.read_text(encoding="utf-8"), numbers)
            write_text(readme, with_summary(readme.read_text(encoding="utf-8"), text))
        print(target, *draw(numbers, target.parent / target.stem), sep="\n")
        return
    many = {"numbers": 1, "trend": len(paths)}.get(command, 2)
    if len(paths) != many:
        raise UserError(f"{command}: takes {many} path{'s' * (many > 1)} ({len(paths)} given)")
    folder = out or paths[-1 if command in {"agreement", "trend"} else 0]
    _add(folder / NUMBERS, _numbers(command, paths))
    if command == "numbers":
        _write_rows(folder, paths[0])


def _numbers(command: str, paths: list[Path]) -> dict[str, Any]:
    from examples.studies import agreement, fluency, mass, noise, numbers

    if command == "fluency":
        return {"fluency": fluency.fluency(*paths)}
    if command == "numbers":
        return numbers.numbers_of(paths[0])
    if command == "agreement":
        return {"agreement": agreement.agreement_of(*paths)}
    if command == "trend":
        return {"trend": noise.trend_of(paths)}
    if command == "displacement":
        return {"displacement": mass.displacement(*paths)}
    return {"predicted": mass.predicted(*paths)}


def _write_rows(folder: Path, run: Path) -> None:
    from examples.studies.agreement import ROWS, rows_of

    write_text(folder / ROWS, json.dumps(rows_of(run), separators=(",", ":")) + "\n")
    print(folder / ROWS)


def _add(file: Path, numbers: dict[str, Any]) -> None:
    """Write numbers into a file, and keep what other commands wrote there."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    write_text(file, json.dumps(known | numbers, indent=1, ensure_ascii=False) + "\n")
    print(file)


if __name__ == "__main__":
    sys.exit(main())
