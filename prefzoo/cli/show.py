"""The commands that only show: losses, check, data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefzoo import losses as zoo
from prefzoo import recipe as recipes


def show_losses(name: str | None) -> None:
    """A table of all losses, or one in full."""
    console = Console()
    if name is None:
        table = Table(title=f"{len(zoo.names())} losses")
        for column in ("name", "reference", "knobs", "paper"):
            table.add_column(column)
        for found in zoo.all_losses():
            knobs = ", ".join(f"{k}={f.default}" for k, f in found.Params.model_fields.items())
            table.add_row(found.name, "yes" if found.needs_reference else "no", knobs or "-", escape(found.paper))
        console.print(table)
        console.print("prefzoo losses NAME explains one.")
        return
    found = zoo.get(name)
    console.print(f"{found.name}\n\n{found.doc}\n", markup=False, highlight=False, soft_wrap=True)
    console.print(f"paper: {found.paper} {found.equation}".rstrip(), markup=False, highlight=False, soft_wrap=True)
    console.print(f"needs a reference: {'yes' if found.needs_reference else 'no'}")
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    for knob, field in found.Params.model_json_schema().get("properties", {}).items():
        said = " and ".join(f"{sign} {field[key]}" for key, sign in signs.items() if key in field)
        console.print(f"  {knob}: {said or field.get('type', '')}, default {field['default']}", markup=False)


def show_check(path: Path, overrides: Sequence[str]) -> None:
    """What would run: pairs, steps, tokens, and a time guessed from a matrix product on this machine."""
    from prefzoo import models
    from prefzoo.cli.load import tokens_of
    from prefzoo.job import steps_of
    from prefzoo.train import use_bf16

    console, recipe = Console(soft_wrap=True), recipes.load(path, overrides)
    model, tokenizer = models.load(recipe.model, recipe.folder)
    done, schema = tokens_of(recipe, recipe.data.train, tokenizer)
    tokens = mean(len(p.prompt) + len(p.chosen) + len(p.rejected) for p in done.pairs)
    size = sum(p.numel() for p in model.parameters())
    console.print(f"{recipe.name}: {recipe.model} ({size / 1e6:.0f}M parameters), {len(done.pairs)} pairs ({schema})")
    for reason, count in done.counts.items():
        console.print(f"  {count} pairs {reason}")
    total = 0.0
    for name, variant in recipe.variants.items():
        steps = steps_of(variant.train, len(done.pairs))
        work = steps * variant.train.batch * tokens
        seconds = 6 * size * work / _speed(bf16=use_bf16(variant.train))
        total += seconds
        plan = f"{variant.loss}, {steps} steps of {variant.train.batch} pairs, {work:,.0f} tokens"
        console.print(f"  {name}: {plan}, about {seconds:.0f} s")
    console.print(f"training takes roughly {total / 60:.1f} minutes here; evaluation and loading come on top")


def _speed(*, bf16: bool) -> float:
    """Floating-point operations per second that training may get: half of a large matrix product's."""
    import torch

    dtype = torch.bfloat16 if bf16 else torch.float32
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = torch.randn(1024, 1024, device=device, dtype=dtype), torch.randn(1024, 1024, device=device, dtype=dtype)
    (a @ b).sum().item()
    start = time.perf_counter()
    for _ in range(10):
        c = a @ b
    c.sum().item()
    return 0.5 * 10 * 2 * 1024**3 / (time.perf_counter() - start)


def show_data(path: Path, overrides: Sequence[str]) -> None:
    """Every data set of the recipe: schema, one pair with its scored tokens, lengths, duplicates, ties, losses."""
    from prefzoo import models
    from prefzoo.data.audit import audit, render

    console, recipe = Console(soft_wrap=True), recipes.load(path, overrides)
    _, tokenizer = models.load(recipe.model, recipe.folder)
    columns = {str(k): v for k, v in recipe.data.columns.items()}
    for spec in (recipe.data.train, recipe.data.eval):
        if spec is not None:
            how = recipe.data
            render(audit(spec, recipe.folder, columns, tokenizer, how.max_length, how.too_long), console)
