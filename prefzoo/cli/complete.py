"""Completion in shells, by click's mechanism. It must be instant: names are read without importing torch."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from prefzoo.recipe.descriptions import FIELDS
from prefzoo.runtime.maths import plain

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PREFZOO_COMPLETE"
JUDGE = "evals.judge."
LOSSES = Path(__file__).parents[1] / "losses"


def script(command: click.Command, shell: str) -> str:
    """Return the script that the shell runs once."""
    shell_class = get_completion_class(shell)
    assert shell_class is not None  # click knows all of SHELLS
    text = shell_class(command, {}, "prefzoo", VARIABLE).source()
    more = "[[ $value == *[=/] ]] && compopt -o nospace 2>/dev/null"  # no space follows an unfinished word
    return text.replace("COMPREPLY+=($value)", f"COMPREPLY+=($value)\n            {more}")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a script that completes commands in SHELL.

    It completes commands, options, recipes, fields and losses.

    \b
    bash: echo 'eval "$(prefzoo completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(prefzoo completion zsh)"' >> ~/.zshrc
    fish: prefzoo completion fish > ~/.config/fish/completions/prefzoo.fish
    """
    click.echo(script(context.find_root().command, shell))


def losses(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a built-in loss or modifier; the help is the first line of its docstring."""
    return [
        CompletionItem(name, help=summary) for name, summary in known_losses().items() if name.startswith(incomplete)
    ]


def known_losses() -> dict[str, str]:
    """Return name and first docstring line of every loss and modifier, read from the source."""
    summaries = {}
    for path in LOSSES.glob("[!_]*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and any(
                re.match(r"(loss|modifier)\(", ast.unparse(d)) for d in node.decorator_list
            ):
                summaries[node.name] = plain((ast.get_docstring(node) or "").split("\n", 1)[0])
    return dict(sorted(summaries.items()))


def recipes(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the path of a folder, or of a file that may be a recipe."""
    typed = Path(incomplete).expanduser()
    folder = typed if incomplete.endswith("/") else typed.parent
    start = incomplete[: len(incomplete) - len("" if incomplete.endswith("/") else typed.name)]
    word = incomplete[len(start) :]
    if not folder.is_dir():
        return []
    inside = sorted(p for p in folder.iterdir() if p.name.startswith(word) and (word or not p.name.startswith(".")))
    files = [CompletionItem(f"{start}{p.name}") for p in inside if p.suffix in (".yaml", ".yml") and p.is_file()]
    return files + [CompletionItem(f"{start}{p.name}/") for p in inside if p.is_dir()]


def fields(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a field in `--set`, variants aside, and the kinds of judges."""
    if incomplete.startswith(JUDGE):
        from prefzoo.recipe.judge import names

        settings = [f"{JUDGE}kind={name}" for name in names()]
        return [CompletionItem(setting) for setting in settings if setting.startswith(incomplete)]
    leaves = [f for f in FIELDS if not any(other.startswith(f"{f}.") for other in FIELDS) and f != "variants"]
    return [CompletionItem(f"{f}=", help=FIELDS[f]) for f in leaves if f.startswith(incomplete)]
