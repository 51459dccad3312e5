"""`prefzoo translate`: turn another library's configuration into a recipe, and list what changes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefzoo.cli.options import FILE
from prefzoo.errors import UserError

if TYPE_CHECKING:
    from prefzoo.recipe.translate import Translation


@click.command("translate")
@click.argument("config", type=FILE)
@click.option(
    "--from",
    "peer",
    type=click.Choice(("trl", "llamafactory", "axolotl")),
    required=True,
    help="The library that CONFIG is for.",
)
@click.option("--out", type=FILE, help="Write the recipe to this file instead of printing it.")
@click.option("--method", default="", help="The kind of training, like kto or cpo for TRL, if CONFIG does not name it.")
@click.option(
    "--processes", type=click.IntRange(1), default=1, show_default=True, help="Number of devices that CONFIG trains on."
)
def command(config: Path, peer: str, out: Path | None, method: str, processes: int) -> None:
    """Turn a TRL, LLaMA-Factory or axolotl config into a recipe.

    It lists which keys mean the same here, which differ, and which are left out.
    """
    from rich.console import Console
    from rich.markup import escape

    from prefzoo.recipe.translate import translate
    from prefzoo.recipe.translate.translation import Place
    from prefzoo.runtime.run_folders import write_text

    place = Place(Path.cwd(), out.parent if out else Path.cwd(), processes, _can_quantize())
    translation = translate(peer, config, place, method)
    text = translation.text()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
    for line in _report(translation):
        console.print(line)
    for fault in _faults(text):
        console.print(f"[bold]to do[/] {escape(fault)}")
    if out is not None:
        console.print(f"{escape(str(out))} is written; next: prefzoo check {escape(str(out))}")


def _report(translation: Translation) -> Iterator[str]:
    from rich.markup import escape

    for key, target in translation.mapped.items():
        yield f"[green]same[/]     {escape(key)} -> {escape(target)}"
    for key, note in translation.differs.items():
        yield f"[yellow]differs[/]  {escape(key)}: {escape(note)}"
    for key, why in translation.left_out.items():
        yield f"[dim]left out[/] {escape(key)}: {escape(why)}"
    for entry in translation.unknown:
        yield f"[red]unknown[/]  {escape(entry)}: not translated; see the library's documentation"


def _faults(text: str) -> tuple[str, ...]:
    """Return the faults that reading the recipe would report."""
    from prefzoo.recipe.load import load

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            load(path)
        except UserError as e:
            return tuple(line.removeprefix(f"{path}:") for line in e.lines)
    return ()


def _can_quantize() -> bool:
    if find_spec("bitsandbytes") is None:
        return False
    import torch

    return torch.cuda.is_available()
