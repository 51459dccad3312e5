"""The commands that only show: losses, check, data."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from statistics import mean

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prefzoo import losses as zoo
from prefzoo.cli.catalogue import UNCITED, catalogue, knobs
from prefzoo.errors import UserError
from prefzoo.recipe import load as recipes


def show_losses(name: str | None, form: str | None = None) -> None:
    """A table of all losses by group, or one in full, or the catalogue in a format."""
    console = Console()
    if form is not None:
        one = None if name is None else zoo.get(name)
        if isinstance(one, zoo.Sum):
            raise UserError(f"--format lists single losses, and {one.name!r} is a sum; name one of its terms")
        click.echo(catalogue(list(zoo.all_losses()) if one is None else [one], form))
    elif name is None:
        _list_losses(console)
    else:
        _explain_loss(console, zoo.get(name))


def _list_losses(console: Console) -> None:
    every = list(zoo.all_losses())
    table = Table(title=f"{len(every)} losses")
    for column in ("name", "reference", "knobs", "paper"):
        table.add_column(column)
    for group in zoo.GROUPS:
        inside = [found for found in every if found.group == group]
        if inside:
            table.add_section()
            table.add_row(f"[bold]{group}[/bold]")
        for found in inside:
            told = ", ".join(f"{k}={f.default}" for k, f in found.Params.model_fields.items())
            shown = found.name + (" ?" if found.provisional else "")
            table.add_row(shown, "yes" if found.needs_reference else "no", told or "-", escape(found.paper))
    console.print(table)
    console.print("?: provisional, its formula is not yet read in the paper. `prefzoo losses NAME` explains one.")


def _explain_loss(console: Console, found: zoo.Loss | zoo.Sum) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"{found.name}\n\n{found.doc}\n")
    cited = "" if isinstance(found, zoo.Sum) else f", {found.equation or UNCITED}"
    say(f"paper: {found.paper}{cited}")
    say(f"needs a reference: {'yes' if found.needs_reference else 'no'}")
    others = [what for what in ("scores", "kl", "mismatched") if what in found.needs]
    if others or found.unpaired:
        say(f"needs also: {', '.join(others + (['single answers'] if found.unpaired else []))}")
    if isinstance(found, zoo.Sum):
        for _, term in found.terms:
            _say_knobs(say, term, f"{term.name}.")
    else:
        _say_knobs(say, found, "")
        if found.learning_rate:
            say(f"published learning rates: {', '.join(f'{rate:g}' for rate in found.learning_rate)}")
        for trap in found.traps:
            say(f"trap: {trap}")
    if found.couples:
        say(f"couples the rows of a batch: {found.couples}")
    if found.provisional:
        say(f"provisional: {found.provisional}")


def _say_knobs(say: Callable[[str], None], found: zoo.Loss, prefix: str) -> None:
    for knob in knobs(found):
        values = ", ".join(f"{v:g}" for v in knob["grid"])
        tuned = f", tuned over {values}" if values else ", no published values read"
        say(f"  {prefix}{knob['name']}: {knob['bounds']}, default {knob['default']}{tuned}")


def show_check(path: Path, overrides: Sequence[str], *, as_json: bool = False) -> None:
    """What would run: pairs, steps, tokens, and a time guessed from a matrix product on this machine."""
    from prefzoo.engine import models
    from prefzoo.engine.precision import use_bf16
    from prefzoo.experiment import search
    from prefzoo.experiment.data import check_variants, tokens_of, unit
    from prefzoo.training.job import steps_of
    from prefzoo.training.memory_estimate import memory_line

    console, recipe = Console(soft_wrap=True, quiet=as_json), recipes.load(path, overrides)
    model, tokenizer = models.load(recipe.model, recipe.folder, trust=recipe.trust_remote_code)
    done, schema = tokens_of(recipe, recipe.data.train, tokenizer)
    check_variants(recipe, done.examples)
    tokens = mean(p.total_tokens for p in done.examples)
    size = sum(p.numel() for p in model.parameters())
    rows = unit(done.examples)
    console.print(
        f"{recipe.name}: {recipe.model} ({size / 1e6:.0f}M parameters), {len(done.examples)} {rows} ({schema})"
    )
    for reason, count in done.counts.items():
        console.print(f"  {count} {rows} {reason}")
    trials, total, planned = search.expand(recipe), 0.0, {}
    seeds = len(recipe.seeds or [recipe.seed])
    for name, variant in recipe.variants.items():
        steps = steps_of(variant.train, len(done.examples))
        work = steps * variant.train.batch * tokens
        seconds, times = 6 * size * work / _speed(bf16=use_bf16(variant.train)), sum(t.arm == name for t in trials)
        total += seconds * times
        planned[name] = {
            "loss": variant.loss, "steps": steps, "batch": variant.train.batch, "tokens": work, "seconds": seconds,
            "trials": times,
        }  # fmt: skip
        plan = f"{variant.loss}, {steps} steps of {variant.train.batch} {rows}, {work:,.0f} tokens"
        often = f", {times // seeds} settings x {seeds} seeds" if times > 1 else ""
        console.print(f"  {name}: {plan}, about {seconds:.0f} s{often}")
        for source in dict.fromkeys(axis.source for axis in variant.axes if axis.source):
            console.print(f"    grid: {source}", markup=False)
        live = variant.loss_obj.needs_kl or variant.train.sync_reference is not None
        memory = memory_line(model, done.examples, variant.train, bf16=use_bf16(variant.train), live=live)
        if memory:
            console.print(f"    {memory}", markup=False)
    if search.is_sweep(recipe):
        early = ", less what early stopping saves" if search.settings_of(recipe).early_stopping else ""
        console.print(f"{len(trials)} trials in all{early}")
    console.print(f"training takes roughly {total / 60:.1f} minutes here; evaluation and loading come on top")
    if as_json:
        said = {
            "name": recipe.name, "model": recipe.model, "parameters": size, "rows": len(done.examples), "unit": rows,
            "schema": schema, "lost": dict(done.counts), "variants": planned, "seconds": total,
        }  # fmt: skip
        click.echo(json.dumps(said, indent=1))


@cache
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


def show_data(path: Path, overrides: Sequence[str], *, as_json: bool = False) -> None:
    """Every data set of the recipe: schema, one pair with its scored tokens, lengths, duplicates, ties, losses."""
    from prefzoo.data.audit import audit, render
    from prefzoo.engine import models

    console, recipe = Console(soft_wrap=True), recipes.load(path, overrides)
    _, tokenizer = models.load(recipe.model, recipe.folder, trust=recipe.trust_remote_code)
    columns = {str(k): v for k, v in recipe.data.columns.items()}
    how, specs = recipe.data, [spec for spec in (recipe.data.train, recipe.data.eval) if spec is not None]
    found = (audit(spec, recipe.folder, columns, tokenizer, how.max_length, how.too_long) for spec in specs)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False))
        return
    for one in found:
        render(one, console)
