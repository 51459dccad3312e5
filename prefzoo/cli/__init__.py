"""The command line. `--help` is instant: torch and friends are imported inside the commands that need them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from prefzoo import __version__, memory
from prefzoo.errors import UserError
from prefzoo.stopping import STOPPED, Interrupted, obey

SIGNALLED = 128  # what shells add to the number of the signal that ended a program
RECIPE = click.argument("recipe", type=click.Path(path_type=Path))
SET = click.option("--set", "overrides", multiple=True, metavar="A.B=C", help="Override a field; repeatable.")
RESULTS = click.option(
    "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder for results."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="prefzoo")
def cli() -> None:
    """Which preference loss should I use for my model and my data, how sure is that, and what does it cost?"""


@cli.command()
@RECIPE
@SET
@RESULTS
@click.option("--fresh", is_flag=True, help="Train everything again, even what is finished or begun.")
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Time between two checkpoints of a training; 0: after every step.",
)
def run(recipe: Path, overrides: tuple[str, ...], results: Path, fresh: bool, save_every: float) -> None:
    """Train every variant of RECIPE, evaluate all of them and the base, and rank them.

    However a run ended, the same command goes on: what is finished is kept, a training goes on from its last
    checkpoint. SIGTERM and Ctrl-C write one first.
    """
    from prefzoo.cli.run import run_recipe

    run_recipe(recipe, overrides, results, fresh=fresh, save_every=save_every)


@cli.command()
@RECIPE
@SET
def check(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Say what RECIPE would do: pairs, steps, tokens and roughly how long. Trains nothing."""
    from prefzoo.cli.show import show_check

    show_check(recipe, overrides)


@cli.command()
@click.argument("name", required=False)
@click.option("--format", "form", type=click.Choice(["md", "json", "html"]), help="The catalogue, as text to keep.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FOLDER", help="Draw value and slope beside DPO's.")
def losses(name: str | None, form: str | None, plot: Path | None) -> None:
    """List the losses by group, or explain one: formula, paper, knobs with bounds, defaults and grids, traps."""
    if plot is not None:
        from prefzoo.cli.plots import show

        show(name, plot)
        return
    from prefzoo.cli.show import show_losses

    show_losses(name, form)


@cli.command()
@RECIPE
@SET
def data(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Show how RECIPE's data is read: schema, a pair with its scored tokens, lengths, ties, what is dropped and why."""
    from prefzoo.cli.show import show_data

    show_data(recipe, overrides)


FILE = click.Path(path_type=Path)


@cli.command("eval")
@click.argument("targets", nargs=-1, type=FILE)
@click.option("--suite", help="instruct:eval[:N], a file with a prompt column, or a benchmark's name.")
@click.option("--judge", default="verifier", show_default=True, help="As evals.judge in a recipe; a mapping in YAML.")
@click.option("--base", metavar="MODEL", help="The baseline; else the first run's model, or the first checkpoint.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=64, show_default=True)
@click.option("--round-robin", is_flag=True, help="Also judge every model against every other.")
@click.option("--annotations", multiple=True, type=FILE, help="AlpacaEval annotation files, or folders of them.")
@click.option("--difficulties", type=FILE, help="Table of the instructions' difficulties; else from the pool.")
@click.option("--gamed", type=FILE, help="Table of gamed baselines, to regularise the length term.")
@click.option("--order", type=FILE, help="JSON of the instructions in the order in which these tables number them.")
@click.option("--out", type=FILE, help="Folder for results (a csv for --annotations).")
def evaluate(
    targets: tuple[Path, ...], suite: str | None, judge: str, base: str | None, max_new_tokens: int, round_robin: bool,
    annotations: tuple[Path, ...], difficulties: Path | None, gamed: Path | None, order: Path | None, out: Path | None,
) -> None:  # fmt: skip
    """Evaluate what is there: TARGETS are runs' folders or checkpoints, with --suite; or files, with --annotations."""
    if annotations:
        from prefzoo.cli.evaluate import show_annotations

        show_annotations([*annotations, *targets], difficulties, gamed, order, out)
    elif targets and suite:
        from prefzoo.cli.targets import Asked, show_targets

        asked = Asked(suite, judge, base, max_new_tokens, round_robin, out or Path("results") / "eval")
        show_targets(targets, asked)
    else:
        raise UserError("eval: nothing to evaluate; give runs or checkpoints and a --suite, or --annotations and files")


@cli.command()
@RECIPE
@SET
@click.option("--pairs", metavar="FILE", help="Labelled pairs; the recipe's data.eval unless given.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the numbers as JSON.")
def judge(recipe: Path, overrides: tuple[str, ...], pairs: str | None, out: Path | None) -> None:
    """Measure RECIPE's judge: agreement with labelled pairs, flips when seats swap, wins of the longer answer."""
    from prefzoo.cli.judge import show_judge

    show_judge(recipe, overrides, pairs, out)


@cli.command()
@click.option("--model", required=True, help="Hub id, folder, .gguf file or package://module/file.gguf.")
@click.option("--prompts", required=True, help="instruct:train[:N], instruct:eval[:N], or a file with a prompt column.")
@click.option("--judge", default="verifier", show_default=True, help="As evals.judge in a recipe; a mapping in YAML.")
@click.option("--n", type=click.IntRange(2), default=8, show_default=True, help="Answers sampled per prompt.")
@click.option("--temperature", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(1), default=64, show_default=True)
@click.option("--length-ratio", type=click.FloatRange(1), help="Words of the longer per word of the other, at most.")
@click.option("--least-score", type=float, help="What the better answer must score.")
@click.option("--limit", type=click.IntRange(1), help="Keep at most so many pairs.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A .jsonl or .parquet file.")
def pairs(
    model: str, prompts: str, judge: str, n: int, temperature: float, seed: int, max_new_tokens: int,
    length_ratio: float | None, least_score: float | None, limit: int | None, out: Path,
) -> None:  # fmt: skip
    """Make preference pairs: sample answers, judge them, keep the best against the worst.

    A judge that scores answers is asked once for each; any other compares every two of a prompt's answers. Answers
    that repeat another, are empty or did not end are left out, and so are prompts whose answers tie; the card beside
    the file counts them. Under the verifier, --length-ratio is 1.4 and --least-score 0.7 unless given.
    """
    from evals.pairs import Sampling
    from prefzoo.cli.pairs import Wanted, write

    how = Sampling(n, temperature, seed, max_new_tokens)
    write(Wanted(model, prompts, judge, how, length_ratio, least_score, limit, out))


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and exit code 2; Ctrl-C is 130, SIGTERM 143."""
    memory.prepare()
    before = signal.signal(signal.SIGTERM, obey)
    os.environ.setdefault("TQDM_DISABLE", "1")  # the stages say what is being done, in one voice
    try:
        cli.main(standalone_mode=False)
    except UserError as e:
        for line in e.lines:
            click.echo(f"error: {line}", err=True)
        sys.exit(2)
    except click.ClickException as e:
        e.show()
        sys.exit(2)
    except Interrupted as e:
        click.echo(e.line, err=True)
        sys.exit(SIGNALLED + e.signum)
    except (click.Abort, KeyboardInterrupt):
        click.echo(STOPPED, err=True)
        sys.exit(SIGNALLED + signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
