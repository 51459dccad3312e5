"""The group of all commands: its help shows whole summaries, and a mistyped or foreign name gets a hint."""

from __future__ import annotations

import click

from prefzoo.errors import UserError, did_you_mean

# Names of our commands in other tools.
_MEANS = {
    "init": "new create template",
    "ls": "runs status ps",
    "run": "train start resume sweep tune fit",
    "check": "validate plan dry-run lint verify estimate",
    "eval": "evaluate evals benchmark bench score",
    "losses": "list loss zoo catalogue catalog explain",
    "losses --guide": "guide which recommend",
    "losses --traps": "traps peers differences",
    "leaderboard": "board rank history",
    "compare": "diff",
    "report": "show html page",
    "report --plots": "plot plots figures",
    "push": "upload publish",
    "pairs": "generate sample",
    "data": "dataset audit inspect",
    "data --formats": "formats schemas",
    "doctor": "env info diagnose",
    "translate": "convert import from-trl migrate",
    "footprint": "memory sizes",
    "completion": "complete completions",
    "--version": "version",
    "--help": "help",
}
OTHER_NAMES = {name: command for command, names in _MEANS.items() for name in names.split()}
UNCUT = 10_000  # characters, which no summary has


class Commands(click.Group):
    """A group whose help shows every summary in full, on several lines if the terminal is narrow."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands; click would cut summaries that do not fit on one line."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            rows = [(name, c.get_short_help_str(UNCUT)) for name, c in commands.items() if c and not c.hidden]
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first word names.

        Raises:
            UserError: There is none; the message names a similar one.
        """
        word = args[0]
        if self.get_command(ctx, word) is None and not word.startswith("-") and not ctx.resilient_parsing:
            other = OTHER_NAMES.get(word.lower().replace("_", "-"))
            hint = f"; did you mean 'prefzoo {other}'?" if other else did_you_mean(word, self.list_commands(ctx))
            if not hint and word.endswith((".yaml", ".yml")):
                hint = f"; to run a recipe: prefzoo run {word}"
            known = ", ".join(self.list_commands(ctx))
            raise UserError(f"no such command: {word!r}{hint or f'; there are {known}'}")
        return super().resolve_command(ctx, args)
