"""The command line. `--help` is instant: torch and friends are imported inside the commands that need them."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from prefzoo import __version__
from prefzoo.cli import complete
from prefzoo.cli.commands import Commands
from prefzoo.cli.errors import PARTLY_FAILED, reported_errors
from prefzoo.errors import UserError
from prefzoo.runtime import memory, threads
from prefzoo.runtime.paths import recipe_path
from prefzoo.runtime.signals import interrupt_now


class RecipeFile(click.Path):
    """The path of a recipe, or the name of one that the package carries."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the recipe's file."""
        return recipe_path(Path(os.fsdecode(super().convert(value, param, ctx))))


FILE = click.Path(path_type=Path)
RECIPE = click.argument("recipe", type=RecipeFile(path_type=Path), shell_complete=complete.recipes)


def _mapping(context: click.Context, option: click.Parameter, text: str | None) -> dict[str, Any] | None:
    """Read an option's YAML."""
    if text is None:
        return None
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f"{option.opts[0]} {text}: not a mapping; write it like '{{enable_thinking: false}}'")
    return value


SET = click.option(
    "--set", "overrides", multiple=True, metavar="A.B=C", help="Override a field; repeatable.",
    shell_complete=complete.fields,
)  # fmt: skip
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
RESULTS = click.option(
    "--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help="Folder for results."
)
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print results only, no progress.")
TEMPLATE = click.option(
    "--chat-template-kwargs", callback=_mapping, metavar="MAPPING",
    help="Variables of the chat template, like '{enable_thinking: false}'; eval takes a run's own unless given.",
)  # fmt: skip
EXIT_CODES = """\b
Exit codes:
  0    all is well
  1    an unexpected error; the message names the file with its traceback
  2    a mistake in a recipe, an option or the data, or a folder that cannot be written
  3    a variant failed, or the judge or a metric, and the rest is done; check: it would fail
  130  interrupted by Ctrl-C (143: SIGTERM); run the same command to resume
"""


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="prefzoo")
def cli() -> None:
    """Which preference loss should I use for my model and my data, how sure is that, and what does it cost?"""


@cli.command()
@click.argument("recipe", type=FILE, default=Path("recipe.yaml"))
@click.option("--model", help="A folder, a .gguf file or a hub id.")
@click.option("--data", metavar="FILE|HUB-ID", help="The preference data.")
@click.option("--eval", "held_out", metavar="FILE|HUB-ID", help="Pairs that the training never sees.")
def init(recipe: Path, model: str | None, data: str | None, held_out: str | None) -> None:
    """Write a first recipe, with a comment on each line.

    It reads the data, names losses that fit it, and asks for model and data if they are not given. `prefzoo check`
    accepts the result.
    """
    from prefzoo.cli.init import write

    write(recipe, model, data, held_out)


def _report_mistakes(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Raise UserError for mistakes in a recipe's text, before a command imports torch."""
    from prefzoo.recipe import load

    load.load(recipe, overrides)


@cli.command()
@RECIPE
@SET
@RESULTS
@click.option("--replace", is_flag=True, help="Overwrite earlier results of other settings instead of archiving them.")
@click.option("--fresh", is_flag=True, help="Train everything again, even what is finished or begun.")
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Time between two checkpoints of a training; 0: after every step.",
)
@click.option("--on", default="local", show_default=True, metavar="EXECUTOR", help="local, ray, or ray://host:port.")
@click.option("--gpus", type=click.FloatRange(0), help="GPUs of each stage on Ray or SLURM; 0.5: two stages share one.")
@click.option("--cpus", type=click.IntRange(1), default=1, show_default=True, help="CPUs of each such stage.")
@click.option("--launch", type=FILE, help="An Accelerate profile for trainings on Ray or SLURM, several GPUs each.")
@click.option("--emit", type=click.Choice(["slurm"]), help="Write the scripts of a job array; run nothing.")
@click.option("--stage", metavar="KIND:TRIAL", help="Run one stage alone, like train:3, as a task of a job array does.")
@click.option("--retry-failed", is_flag=True, help="Train again what failed before with the same settings.")
@QUIET
@click.pass_context
def run(
    context: click.Context, recipe: Path, overrides: tuple[str, ...], results: Path, replace: bool, fresh: bool,
    save_every: float, retry_failed: bool, quiet: bool, on: str, gpus: float | None, cpus: int, launch: Path | None,
    emit: str | None, stage: str | None,
) -> None:  # fmt: skip
    """Train, evaluate and rank the variants of RECIPE.

    All of them and the base are evaluated.

    However a run ended, the same command resumes it: finished results are reused, and a training resumes from its last
    checkpoint. SIGTERM and Ctrl-C write one first.

    Before anything is written, the run shows what is reused, resumed, trained again (with the settings that changed)
    and left over in its folder. If results of other settings would be lost, the folder is first archived beside itself
    as NAME@DATE, which `prefzoo leaderboard` shows.

    A variant whose loss becomes NaN or infinite is abandoned (failed.json gives the reason) while the others continue;
    the exit code is then 3.
    """
    from prefzoo.cli.begin import Words, begin

    words = Words(fresh, replace, save_every, retry_failed, quiet, on, gpus, cpus, launch, emit, stage)
    if begin(recipe, overrides, results, words):
        context.exit(PARTLY_FAILED)


@cli.command()
@RECIPE
@SET
@RESULTS
@click.option("--launch", type=FILE, help="An Accelerate profile that trainings would start under.")
@JSON
@click.pass_context
def check(
    context: click.Context, recipe: Path, overrides: tuple[str, ...], results: Path, launch: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Check all that RECIPE needs, and show what it would do.

    It shows pairs, steps, tokens and memory, and the time of each part of the run and its disk on this machine.

    Every input is opened and every plug-in is called on made-up pairs. Nothing is trained, and no server is asked.
    """
    _report_mistakes(recipe, overrides)
    from prefzoo.cli.show import show_check

    if show_check(recipe, overrides, results, launch, as_json=as_json):
        context.exit(PARTLY_FAILED)


@cli.command()
@click.argument("name", required=False, shell_complete=complete.losses)
@JSON
@click.option("--format", "form", type=click.Choice(["md", "json", "html"]), help="Print the catalogue in this format.")
@click.option("--guide", is_flag=True, help="Show which losses to try in which situation; with NAME, when to try it.")
@click.option("--traps", is_flag=True, help="Show where other libraries mean another loss by the same name.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FOLDER", help="Draw value and slope, with DPO's.")
def losses(name: str | None, as_json: bool, form: str | None, guide: bool, traps: bool, plot: Path | None) -> None:
    """List the losses, or explain one.

    The list has a line for each loss, by group. NAME shows the formula, the paper, the knobs with bounds, defaults and
    published values, and known traps; it may be a sum like "dpo + 0.2*sft" or a loss of your own, my_losses.py:mine.
    """
    if plot is not None:
        from prefzoo.cli.plots import show

        show(name, plot)
        return
    from prefzoo.cli.explain import show_guide, show_losses, show_peers

    if guide or traps:
        option, show_it = ("--guide", show_guide) if guide else ("--traps", show_peers)
        if form is not None:
            raise UserError(f"{option}: prints text, or JSON with --json; --format md and html have it on the page")
        if guide and traps:
            raise UserError("--guide and --traps: print one at a time; --format md and html have both on one page")
        show_it(name, as_json=as_json)
        return
    show_losses(name, "json" if as_json else form)


@cli.command()
@click.argument("recipe", type=RecipeFile(path_type=Path), required=False, shell_complete=complete.recipes)
@SET
@JSON
@click.option("--formats", is_flag=True, help="List every known format of data, with an example each.")
@click.option(
    "--html", type=FILE, is_flag=False, flag_value=Path("data.html"), metavar="[FILE]",
    help="Write it all as a page, with ten rows of each data set; by default to data.html.",
)  # fmt: skip
@click.option("--ches", is_flag=True, help="Score how alike the model sees the two answers of each pair; a pass each.")
def data(
    recipe: Path | None, overrides: tuple[str, ...], as_json: bool, formats: bool, html: Path | None, ches: bool
) -> None:  # fmt: skip
    """Show how RECIPE's data is read.

    It shows the schema, a pair with its scored tokens, lengths, ties, odd rows (contradictions, leaks into what is
    tested on, refusals, other languages), and what is dropped and why.
    """
    from prefzoo.cli.show import show_data, show_formats

    if ches and formats:
        raise click.UsageError("--ches scores a recipe's pairs; leave out --formats.")
    if html is not None and (as_json or formats):
        raise click.UsageError(f"--html writes a page; leave out {'--json' if as_json else '--formats'}.")
    if html is not None and html.suffix not in (".html", ".htm"):
        raise click.UsageError(f"--html: the page's file must end with .html (is {html}); write RECIPE before --html.")
    if recipe is not None and not formats:
        _report_mistakes(recipe, overrides)
    if formats:
        show_formats(as_json=as_json)
    elif recipe is None:
        raise click.UsageError("Missing argument 'RECIPE'; `prefzoo data --formats` needs none.")
    else:
        show_data(recipe, overrides, as_json=as_json, html=html, ches=ches)


@cli.command("eval")
@click.argument("targets", nargs=-1, type=FILE)
@click.option(
    "--suite", multiple=True, metavar="NAME|FILE",
    help="instruct:eval[:N] or a file with a prompt column; a benchmark: knowledge, arithmetic, instructions, "
    "perplexity, an lm-eval task's name, your own task file (.yaml) or folder. May be given several times.",
)  # fmt: skip
@click.option("--judge", default="verifier", show_default=True, help="As evals.judge in a recipe; a mapping in YAML.")
@click.option(
    "--base", metavar="MODEL|FILE",
    help="The baseline, or its published answers (AlpacaEval's model_outputs.json); else the first run's model, or the "
    "first of several checkpoints.",
)  # fmt: skip
@click.option("--max-new-tokens", type=click.IntRange(1), default=64, show_default=True)
@click.option("--round-robin", is_flag=True, help="Also judge every model against every other.")
@click.option(
    "--engine", type=click.Choice(["hf", "vllm"]), default="hf", show_default=True, help="Program that generates."
)
@click.option("--lm-eval-results", multiple=True, type=FILE, help="Results of lm-eval's own command: files or folders.")
@click.option("--inspect-logs", multiple=True, type=FILE, help="JSON logs of Inspect AI: files or folders.")
@click.option("--annotations", multiple=True, type=FILE, help="AlpacaEval annotation files, or folders of them.")
@click.option("--difficulties", type=FILE, help="Table of the instructions' difficulties; else from the pool.")
@click.option("--gamed", type=FILE, help="Table of gamed baselines, to regularise the length term.")
@click.option("--order", type=FILE, help="JSON of the instructions in the order in which these tables number them.")
@click.option("--out", type=FILE, help="Folder for results (a csv for --annotations).")
@TEMPLATE
@QUIET
@click.pass_context
def evaluate(
    context: click.Context, targets: tuple[Path, ...], suite: tuple[str, ...], judge: str, base: str | None,
    max_new_tokens: int, round_robin: bool, engine: str, lm_eval_results: tuple[Path, ...],
    inspect_logs: tuple[Path, ...], annotations: tuple[Path, ...], difficulties: Path | None, gamed: Path | None,
    order: Path | None, out: Path | None,
    chat_template_kwargs: dict[str, Any] | None, quiet: bool,
) -> None:  # fmt: skip
    """Evaluate models that exist already.

    TARGETS are runs' folders or checkpoints, with --suite, or annotation files, with --annotations. One checkpoint is
    measured alone; more are compared with a baseline.
    """
    folder = out or Path("results") / "eval"
    results = "--lm-eval-results" if lm_eval_results else "--inspect-logs" if inspect_logs else ""
    mode = "--annotations" if annotations else results or "--suite"
    _refuse_ignored(context, mode)
    if annotations:
        from prefzoo.cli.evaluate import show_annotations

        show_annotations([*annotations, *targets], difficulties, gamed, order, out)
    elif results:
        from prefzoo.cli.evaluate import show_results

        show_results([*lm_eval_results, *inspect_logs, *targets], base, folder, inspect=bool(inspect_logs))
    elif targets and suite:
        from prefzoo.cli.evaluate import show_evaluation
        from prefzoo.experiment.evaluate import Evaluation

        asked = Evaluation(
            targets, suite, judge, base, max_new_tokens, round_robin, folder, engine, chat_template_kwargs
        )
        if show_evaluation(asked, quiet=quiet):
            click.get_current_context().exit(PARTLY_FAILED)
    else:
        raise UserError("eval: nothing to evaluate; give runs or checkpoints and a --suite, or --annotations and files")


EVAL_OPTIONS = {  # what each way of evaluating reads, besides TARGETS, --out and --quiet
    "--annotations": {"annotations", "difficulties", "gamed", "order"},
    "--lm-eval-results": {"lm_eval_results", "base"},
    "--inspect-logs": {"inspect_logs", "base"},
    "--suite": {"suite", "judge", "base", "max_new_tokens", "round_robin", "engine", "chat_template_kwargs"},
}


def _refuse_ignored(context: click.Context, mode: str) -> None:
    """Raise UserError for options of `prefzoo eval` that have no meaning in the mode."""
    read = {*EVAL_OPTIONS[mode], "targets", "out", "quiet"}
    options = [p for p in context.command.params if p.name is not None and p.name not in read]
    given = [p.opts[0] for p in options if context.get_parameter_source(str(p.name)) is ParameterSource.COMMANDLINE]
    if given:
        raise UserError(f"eval: {', '.join(given)}: has no meaning beside {mode}; evaluate one after the other")


@cli.command()
@click.argument("targets", nargs=-1, type=FILE, required=True, metavar="RUN[/VARIANT]...")
@click.option("--baseline", metavar="VARIANT", help="Variant that differences are taken from; by default the base.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Show only this metric; repeatable.")
@click.option("--sort", metavar="METRIC", help="Metric to rank by, or a cost like seconds; by default win_rate.")
@click.option(
    "--format", "form", type=click.Choice(["table", "md", "csv", "json", "html", "parquet"]), default="table",
    show_default=True,
)  # fmt: skip
@click.option("--output", type=FILE, help="Write to this file; required for parquet.")
@click.option("--unranked", is_flag=True, help="Also show what cannot be ranked: other prompts, judge or base.")
@click.option("--equivalence", type=float, metavar="POINTS", help="Test which variants are equal within POINTS.")
def compare(
    targets: tuple[Path, ...], baseline: str | None, metrics: tuple[str, ...], sort: str | None, form: str,
    output: Path | None, unranked: bool, equivalence: float | None,
) -> None:  # fmt: skip
    """Put runs and variants side by side.

    It shows numbers with intervals, paired differences, recipes and costs.
    """
    from prefzoo.cli.compare import show_comparison

    show_comparison(targets, baseline, metrics, sort, form, output, unranked=unranked, equivalence=equivalence)


@cli.command("ls")
@click.argument("results", type=FILE, default=Path("results"))
@JSON
def list_runs(results: Path, as_json: bool) -> None:
    """List the runs under RESULTS: state, leader, time."""
    from prefzoo.cli.runs import show_runs

    show_runs(results, as_json=as_json)


@cli.command()
@click.argument("results", type=FILE, default=Path("results"))
@click.option("--write", is_flag=True, help="Write it into RESULTS/README.md; text written by hand stays.")
@click.option("--check", is_flag=True, help="Fail (exit code 2) if RESULTS/README.md is out of date.")
@click.option("--json", "plain", is_flag=True, help="Print JSON.")
def leaderboard(results: Path, write: bool, check: bool, plain: bool) -> None:
    """Gather all runs under RESULTS into one board.

    It has the history of recipes that were run several times.
    """
    from prefzoo.cli.board import show_board

    show_board(results, write=write, check=check, plain=plain)


@cli.command()
@click.argument("variant", type=FILE, metavar="RUN/VARIANT")
@click.option("--to", required=True, metavar="USER/NAME", help="The repository; created if it is missing.")
@click.option("--private", is_flag=True, help="Create it as a private one.")
@click.option("--base-model", metavar="USER/NAME", help="Hub id of an adapter's base that is a local folder here.")
@click.option("--dry-run", is_flag=True, help="Only list the files. Needs no network and no token.")
def push(variant: Path, to: str, private: bool, base_model: str | None, dry_run: bool) -> None:
    """Upload a variant to the Hugging Face hub.

    Its weights or adapter, tokenizer, chat template and model card are uploaded.
    """
    from prefzoo.cli.share import show_push

    show_push(variant, to, base_model, private=private, dry_run=dry_run)


@cli.command()
@click.argument("run", type=FILE)
@click.option("--out", type=FILE, help="The page's file; by default RUN/report.html.")
@click.option("--plots", type=FILE, metavar="FOLDER", help="Also draw every figure for papers, as SVG and PNG.")
@click.option("--serve", is_flag=True, help="Show the page in the browser instead, and follow a run that goes on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="For --serve; 0: any.")
@click.pass_context
def report(context: click.Context, run: Path, out: Path | None, plots: Path | None, serve: bool, port: int) -> None:
    """Write the folder of a run or of an evaluation as one page.

    RUN is what `prefzoo run` or `prefzoo eval` wrote. The page is one file that fetches nothing, for any browser.
    """
    from prefzoo.cli.report import serve_report, show_report

    if serve and (out or plots):
        raise UserError("report: --out and --plots have no meaning beside --serve; write the page without it")
    if not serve and context.get_parameter_source("port") is ParameterSource.COMMANDLINE:
        raise UserError("report: --port has no meaning without --serve; add --serve")
    if serve:
        serve_report(run, port)
        return
    show_report(run, out, plots)


@cli.command()
@RECIPE
@SET
@click.option("--pairs", metavar="FILE", help="Labelled pairs; by default the recipe's data.eval.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the numbers to this file, as JSON.")
@QUIET
def judge(recipe: Path, overrides: tuple[str, ...], pairs: str | None, out: Path | None, quiet: bool) -> None:
    """Measure how far RECIPE's judge can be trusted.

    It measures agreement with labelled pairs, flips when answers swap, and wins of the longer answer.
    """
    _report_mistakes(recipe, overrides)
    from prefzoo.cli.judge import show_judge

    if show_judge(recipe, overrides, pairs, out, quiet=quiet):
        click.get_current_context().exit(PARTLY_FAILED)


@cli.command()
@click.option("--model", required=True, help="Hub id, folder, .gguf file or package://module/file.gguf.")
@click.option("--prompts", required=True, help="instruct:train[:N], instruct:eval[:N], or a file with a prompt column.")
@click.option("--judge", default="verifier", show_default=True, help="As evals.judge in a recipe; a mapping in YAML.")
@click.option("--n", type=click.IntRange(2), default=8, show_default=True, help="Answers sampled per prompt.")
@click.option("--temperature", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(1), default=64, show_default=True)
@click.option(
    "--length-ratio", type=click.FloatRange(1), help="Most words of the longer per word of the shorter answer."
)
@click.option("--least-score", type=float, help="Least score of the better answer.")
@click.option("--limit", type=click.IntRange(1), help="Keep at most this many pairs.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A .jsonl or .parquet file.")
@TEMPLATE
@QUIET
def pairs(
    model: str, prompts: str, judge: str, n: int, temperature: float, seed: int, max_new_tokens: int,
    length_ratio: float | None, least_score: float | None, limit: int | None, out: Path,
    chat_template_kwargs: dict[str, Any] | None, quiet: bool,
) -> None:  # fmt: skip
    """Make preference pairs from a model's own answers.

    Answers are sampled and judged, and the best is kept against the worst.

    A judge that scores answers is asked once for each; any other compares every two of a prompt's answers. Answers
    that repeat another, are empty or did not end are left out, and so are prompts whose answers tie; the card beside
    the file counts them. Under the verifier, --length-ratio is 1.4 and --least-score 0.7 unless given.
    """
    from prefzoo.cli.pairs import Wanted, write
    from prefzoo.evals.generation.pairs import Sampling

    sampling = Sampling(n, temperature, seed, max_new_tokens)
    write(
        Wanted(model, prompts, judge, sampling, length_ratio, least_score, limit, out, chat_template_kwargs or {}),
        quiet=quiet,
    )


@cli.command()
@click.option("--out", type=FILE, help="Write to this file instead of printing.")
def schema(out: Path | None) -> None:
    """Print the recipe's JSON Schema, for editors.

    It is of draft 2020-12 and has every loss and knob.

    A recipe whose first line is `# yaml-language-server: $schema=FILE` is then checked and completed while it is
    written.
    """
    from prefzoo.recipe.json_schema import schema_text
    from prefzoo.runtime.paths import OUT_CURE, check_writable
    from prefzoo.runtime.run_folders import write_text

    if out is None:
        click.echo(schema_text(), nl=False)
    else:
        check_writable(out.parent, "--out", OUT_CURE)
        write_text(out, schema_text())


@cli.command()
@click.argument("config", type=FILE)
@click.option(
    "--from", "peer", type=click.Choice(("trl", "llamafactory", "axolotl")), required=True, help="Its library."
)
@click.option("--out", type=FILE, help="Write the recipe to this file instead of printing it.")
@click.option("--method", default="", help="The training it is for, where it does not say so, like kto or cpo for TRL.")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Devices that train there.")
def translate(config: Path, peer: str, out: Path | None, method: str, processes: int) -> None:
    """Turn a TRL, LLaMA-Factory or axolotl config into a recipe.

    It says which keys mean the same here, what differs, and what is left out.
    """
    from prefzoo.cli.translate import show_translation

    show_translation(peer, config, out, method, processes)


@cli.command()
@click.argument("shell", type=click.Choice(complete.SHELLS))
def completion(shell: str) -> None:
    """Print what makes SHELL complete what you type.

    It completes commands, options, recipes, fields and losses.

    \b
    bash: echo 'eval "$(prefzoo completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(prefzoo completion zsh)"' >> ~/.zshrc
    fish: prefzoo completion fish > ~/.config/fish/completions/prefzoo.fish
    """
    click.echo(complete.script(cli, shell))


@cli.command()
def footprint() -> None:
    """Show what training 1.5B, 8B and 70B models takes.

    It shows devices, memory and hours; `check` shows them for a recipe.
    """
    from prefzoo.training.model_sizes import table

    click.echo(table(), nl=False)


@cli.command()
@JSON
def doctor(as_json: bool) -> None:
    """Show what is installed, what is missing, and how to get it.

    It covers hardware, precision, memory, disks, settings and packages.
    """
    from prefzoo.cli.doctor import show_doctor

    show_doctor(as_json=as_json)


def main() -> None:
    """Entry point; see `EXIT_CODES`."""
    memory.configure_allocator()
    threads.limit_spinning()
    before = signal.signal(signal.SIGTERM, interrupt_now)
    os.environ.setdefault("TQDM_DISABLE", "1")  # the stages show their own progress
    # peft 0.21 asks transformers 5.23 for an attribute by its old name
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
    try:
        with reported_errors():
            code = cli.main(standalone_mode=False, complete_var=complete.VARIABLE)
            if isinstance(code, int) and code:
                sys.exit(code)
    finally:
        signal.signal(signal.SIGTERM, before)
