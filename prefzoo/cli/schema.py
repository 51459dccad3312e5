"""`prefzoo schema`: print the recipe's JSON Schema, for editors."""

from __future__ import annotations

from pathlib import Path

import click

from prefzoo.cli.options import FILE


@click.command("schema")
@click.option("--out", type=FILE, help="Write to this file instead of printing.")
def command(out: Path | None) -> None:
    """Print the recipe's JSON Schema, for editors.

    It follows draft 2020-12 and contains every loss and knob.

    Editors then check and complete a recipe whose first line is `# yaml-language-server: $schema=FILE`.
    """
    from prefzoo.recipe.json_schema import schema_text
    from prefzoo.runtime.paths import OUT_CURE, check_writable
    from prefzoo.runtime.run_folders import write_text

    if out is None:
        click.echo(schema_text(), nl=False)
    else:
        check_writable(out.parent, "--out", OUT_CURE)
        write_text(out, schema_text())
