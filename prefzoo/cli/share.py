"""`prefzoo push`: a checkpoint to a hub."""

from __future__ import annotations

from pathlib import Path

import click

from prefzoo.evals.boards.tables import GIB
from prefzoo.experiment import hub

MIB = 2**20


def show_push(variant: Path, to: str, base_model: str | None, *, private: bool, dry_run: bool) -> None:
    """Say what goes up, and upload it unless `dry_run`."""
    found = hub.files(variant, to, base_model)
    for name, content in found.items():
        click.echo(f"  {name}  {_size(hub.size(content))}")
    total = _size(sum(hub.size(content) for content in found.values()))
    if dry_run:
        click.echo(f"{len(found)} files, {total}, would go to {to}; nothing was uploaded")
        return
    click.echo(f"uploading {len(found)} files, {total}, to {to}")
    click.echo(hub.upload(found, to, private=private))


def _size(count: int) -> str:
    if count >= GIB:
        return f"{count / GIB:.1f} GiB"
    return f"{count / MIB:.1f} MiB" if count >= MIB else f"{max(1, round(count / 1024))} KiB"
