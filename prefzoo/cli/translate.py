"""`prefzoo translate`: another library's configuration as a recipe, and what changes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from prefzoo.errors import UserError
from prefzoo.recipe.translate import Translation, translate
from prefzoo.recipe.translate.translation import Place
from prefzoo.runtime.run_folders import write_text


def show_translation(peer: str, config: Path, out: Path | None, method: str, processes: int) -> None:
    """Write or print the recipe, and print what changes on the standard error stream.

    Args:
        peer: the library.
        config: its configuration.
        out: the recipe's file; None to print the recipe.
        method: which training the configuration is for; empty if it says so itself.
        processes: how many devices train.

    Raises:
        UserError: the configuration cannot be translated.
    """
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
    for fault in _faults(text, place.target):
        console.print(f"[bold]to do[/] {escape(fault)}")
    if out is not None:
        console.print(f"{escape(str(out))} is written; next: prefzoo check {escape(str(out))}")


def _report(translation: Translation) -> Iterator[str]:
    for key, target in translation.mapped.items():
        yield f"[green]same[/]     {escape(key)} -> {escape(target)}"
    for key, note in translation.differs.items():
        yield f"[yellow]differs[/]  {escape(key)}: {escape(note)}"
    for key, why in translation.left_out.items():
        yield f"[dim]left out[/] {escape(key)}: {escape(why)}"
    for entry in translation.unknown:
        yield f"[red]unknown[/]  {escape(entry)}: not translated; see the library's documentation"


def _faults(text: str, folder: Path) -> tuple[str, ...]:
    """Return what the recipe's reader would refuse."""
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
