"""`prefzoo push`: upload a checkpoint to the hub."""

from __future__ import annotations

from pathlib import Path

import click

from prefzoo.cli.options import FILE

MIB, GIB = 2**20, 2**30


@click.command("push")
@click.argument("variant", type=FILE, metavar="RUN/VARIANT")
@click.option("--to", required=True, metavar="USER/NAME", help="The repository; created if it is missing.")
@click.option("--private", is_flag=True, help="Create it as a private repository.")
@click.option("--base-model", metavar="USER/NAME", help="Hub id of an adapter's base that is a local folder here.")
@click.option("--dry-run", is_flag=True, help="Only list the files. Needs no network and no token.")
def command(variant: Path, to: str, private: bool, base_model: str | None, dry_run: bool) -> None:
    """Upload a variant to the Hugging Face hub.

    Its weights or adapter, tokenizer, chat template and model card are uploaded.
    """
    from prefzoo.experiment import hub

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
