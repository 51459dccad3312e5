"""Print an audit: one example with its scored tokens in colour, tokens by role, lengths, odd and dropped rows."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text as Styled

from prefzoo.data.audit import UNSCORED, Audit
from prefzoo.data.audits.findings import example_words
from prefzoo.data.mixtures_view import sources_table
from prefzoo.data.roles import TEMPLATE
from prefzoo.data.roles import UNSCORED as NOT_SCORED

MOST_LANGUAGES = 6  # languages that are shown
STYLES = {"prompt": "dim", "chosen": "green", "rejected": "red", "desirable": "green", "undesirable": "red"}


def render(result: Audit, console: Console) -> None:
    """Print an audit. Text of the data that looks like rich markup is printed unchanged."""
    good, bad = ("desirable", "undesirable") if result.single else ("chosen", "rejected")
    labels = f" ({result.chosen.n} {good}, {result.rejected.n} {bad})" if result.single else ""
    used = f"{result.kept} used" if result.kept <= result.rows else f"{result.kept} pairs made of them"
    console.print(Styled(f"{result.spec}: {result.schema}, {result.rows} rows, {used}{labels}"))
    if result.sources:
        console.print(sources_table(result.sources))
    first = "first answer of each label: " if result.single else "first pair: "
    legend = Styled(first).append("prompt", "dim").append(", ").append(good, "green").append(", ").append(bad, "red")
    coloured = console.color_system is not None and not console.no_color
    console.print(legend.append(_meaning(result, coloured=coloured)))
    console.print(_example(result, coloured=coloured))
    if result.roles:
        console.print(Styled(f"tokens by role: {_roles(result.roles)}"))
    console.print(_table(result, good, bad))
    if result.single and not (result.chosen.n and result.rejected.n):
        console.print(f"every answer is {good if result.chosen.n else bad}: there is nothing to compare it with")
    console.print(
        Styled(f"duplicates: {result.duplicates} · rows with a prompt seen before: {result.repeated_prompts}")
    )
    if not result.single:
        ties = "no scores in the rows" if result.ties is None else str(result.ties)
        console.print(Styled(f"ties (equal scores): {ties}"))
    if result.differing:
        mean, median = result.differing.mean, result.differing.median
        console.print(f"the answers of a pair differ over {mean:.1f} tokens of the longer one (median {median:g})")
    console.print(Styled(f"language of {'the' if result.single else 'chosen'} answers: {_languages(result.languages)}"))
    _print_findings(result, console)
    for line in result.ches.lines if result.ches else ():
        console.print(Styled(line))
    console.print("dropped, cut or changed rows:" if result.counts else "nothing dropped, cut or changed")
    for reason, count in sorted(result.counts.items()):
        console.print(Styled(f"  {count:,} {reason}"))


def _print_findings(result: Audit, console: Console) -> None:
    """Print the number of odd rows of each kind with the first ones, and the setting that drops them."""
    if not result.findings:
        console.print("nothing odd in the rows")
        return
    console.print("odd rows:")
    for one in result.findings:
        console.print(Styled(f"  {one.count:,}: {one.words}, {example_words(one)}"))
    words = dict.fromkeys(one.drop for one in result.findings if one.drop)
    if words:
        console.print(Styled(f"to leave such rows out, set data.drop: [{', '.join(words)}]"))


def _languages(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{name} {n / total:.0%}" for name, n in list(counts.items())[:MOST_LANGUAGES])


def _meaning(result: Audit, *, coloured: bool) -> str:
    """Return the legend for the example's colours, or for the brackets that replace colours."""
    if coloured:
        return " (all tokens in colour are scored)"
    masked = any(part.endswith(UNSCORED) for part, _ in result.example)
    return f" (all tokens of the answers are scored{', but those in [- -]' if masked else ''})"


def _example(result: Audit, *, coloured: bool) -> Styled:
    example, before = Styled(), ""
    for part, token in result.example:
        unscored = part.endswith(UNSCORED)
        if not coloured and unscored != before.endswith(UNSCORED):
            example.append("[-" if unscored else "-]")
        example.append(token, style=STYLES[part.removesuffix(UNSCORED)] if not unscored else "dim")
        before = part
    return example


def _roles(counts: Mapping[str, int]) -> str:
    """Return a line with the number of tokens by role, the assistant's first."""
    first = ("assistant", NOT_SCORED)
    order = [*first, *sorted(name for name in counts if name not in (*first, TEMPLATE)), TEMPLATE]
    names = {"assistant": "assistant (scored)", NOT_SCORED: "assistant (not scored)", TEMPLATE: "chat template"}
    return " · ".join(f"{names.get(name, name)} {counts[name]:,}" for name in order if counts.get(name))


def _table(result: Audit, good: str, bad: str) -> Table:
    """Return a table of the lengths of both kinds of answers, with their number or how often each is the longer one."""
    table = Table(
        "scored tokens", "mean", "median", "p95", "longest", "answers" if result.single else "longer of the pair"
    )
    sides = ((good, result.chosen, result.chosen_longer), (bad, result.rejected, result.rejected_longer))
    for name, side, share in sides:
        last = str(side.n) if result.single else f"{share:.0%}"
        numbers = (f"{side.mean:.1f}", f"{side.median:g}", str(side.p95), str(side.longest)) if side.n else ("-",) * 4
        table.add_row(name, *numbers, last)
    return table
