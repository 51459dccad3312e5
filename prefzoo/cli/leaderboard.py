"""`prefzoo leaderboard`: show all runs of a folder, and generate a README from them."""

from __future__ import annotations

from pathlib import Path

import click

from prefzoo.cli.options import FILE, JSON
from prefzoo.errors import UserError


@click.command("leaderboard")
@click.argument("results", type=FILE, default=Path("results"))
@click.option("--write", is_flag=True, help="Write the board into RESULTS/README.md; your own text there stays.")
@click.option("--check", is_flag=True, help="Fail (exit code 2) if RESULTS/README.md is out of date.")
@JSON
def command(results: Path, write: bool, check: bool, as_json: bool) -> None:
    """Collect all runs under RESULTS in one board.

    It also shows the history of recipes that were run several times. Folders beside the runs with logs of Inspect or
    result files of lm-eval get separate boards.
    """
    import json

    from rich.console import Console

    from prefzoo.evals.boards import history, result_files
    from prefzoo.runtime import run_folders

    others = result_files.boards_below(results) if results.is_dir() else {}
    alone = others and not any(results.rglob(run_folders.RESOLVED))
    sections = [] if alone else history.gather(results)
    path = results / "README.md"
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = history.page(sections, before, result_files.markdown(others))
    if check:
        if text != before:
            raise UserError(f"{path}: is out of date; `prefzoo leaderboard {results} --write` updates it")
        click.echo(f"{path}: up to date")
    elif write:
        run_folders.write_text(path, text)
        click.echo(f"{path}: {'unchanged' if text == before else 'written'}")
    elif as_json:
        boards = [{"folder": k, "base": v.baseline, **json.loads(result_files.text(v.board(), "json"))}
                  for k, v in others.items()]  # fmt: skip
        click.echo(json.dumps(json.loads(history.as_json(sections)) + boards, indent=1, ensure_ascii=False))
    else:
        console = Console()
        history.render(sections, console)
        for name, one in others.items():
            console.print(f"\nMeasured by other tools: {name} (base: {one.baseline})", style="bold", markup=False)
            one.board().render(console)
