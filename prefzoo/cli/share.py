"""`prefzoo push`: a checkpoint to a hub."""

from __future__ import annotations

from pathlib import Path

import click

from prefzoo.evals.boards.tables import GIB
from prefzoo.experiment import hub

MIB = 2**20


def show_push(variant: Path, to: str, base_model: str | None, *, private: bool, dry_run: bool) -> None:
    """Print which files go up, and upload them unless `dry_run`.

    Args:
        variant: folder of a run's variant.
        to: the repository, `user/name`.
        base_model: hub id of an adapter's base that is a local folder here.
        private: make a new repository a private one.
        dry_run: only print.

    Raises:
        UserError: there is no such checkpoint, or the hub refuses it.
    """
    files = hub.files(variant, to, base_model)
    for name, content in files.items():
        click.echo(f"  {name}  {_size(hub.size(content))}")
    total = _size(sum(hub.size(content) for content in files.values()))
    if dry_run:
        click.echo(f"{len(files)} files, {total}, would go to {to}; nothing was uploaded")
        return
    click.echo(f"uploading {len(files)} files, {total}, to {to}")
    click.echo(hub.upload(files, to, private=private))


def _size(count: int) -> str:
    if count >= GIB:
        return f"{count / GIB:.1f} GiB"
    return f"{count / MIB:.1f} MiB" if count >= MIB else f"{max(1, round(count / 1024))} KiB"
