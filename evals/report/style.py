"""The look of a series (colour, marker, dashes), the page's colours, and the format of numbers and names in charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any
from zlib import crc32

LONGEST = 24  # most characters of a name in a chart; hovering shows the whole name
THOUSAND, MILLION = 1e4, 1e6

# Okabe and Ito's colours, some darker for contrast on white. On the page each becomes a CSS variable (`VARIABLES`), so
# that it follows the light or dark theme. page.css has the same values for the light theme.
COLOURS = ("#0072b2", "#d55e00", "#00825f", "#b0568c", "#b37a00", "#3487b5", "#5b5b5b")
INK, SOFT, GRID, CARD = "#1c2127", "#596270", "#ecedeb", "#ffffff"
VARIABLES = {colour: f"var(--c{i})" for i, colour in enumerate(COLOURS)} | {
    INK: "var(--ink)", SOFT: "var(--soft)", GRID: "var(--grid)", CARD: "var(--card)",
}  # fmt: skip
MARKERS = (
    ("o", 9), ("s", 8.5), ("^", 10), ("D", 8), ("v", 10), ("P", 10), ("*", 13), ("X", 10), ("<", 10), (">", 10),
    ("h", 10.5), ("p", 10.5),
)  # fmt: skip  # shape and size in points
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-", (0, (3.5, 1.5)), (0, (1, 1.5)), (0, (4.5, 1.5, 1, 1.5)), (0, (2, 1)), (0, (6, 1.5)), (0, (0.5, 2)),
)  # fmt: skip
LOOKS = len(COLOURS) * len(MARKERS)  # series that can be told apart, by colour and marker together

# A loss has the same look in every report, so this order must not change: add new names at the end. The look of any
# other loss follows from a hash of its name.
LOSSES = (
    "dpo", "simpo", "ipo", "cdpo", "kto", "orpo", "cpo", "robust", "hinge", "sppo_hard", "bco_pair", "nca_pair",
    "aot", "exo_pair", "apo_zero", "apo_down", "rpo", "sft", "dpop", "r_dpo", "cal_dpo", "wpo", "tdpo1", "tdpo2",
    "slic_hf", "rrhf", "pro", "discopop", "chi_po", "alpha_dpo", "beta_dpo", "odpo", "repo", "sampo", "simper",
    "mpo", "ipo_mean", "dpo_norm", "dpo_ref_free", "cpo_simpo", "alphapo", "aot_unpaired", "apo_zero_unpaired",
    "asft", "bco", "bco_pair_shift", "fdpo_alpha", "fdpo_forward_kl", "fdpo_js", "gpo_exp", "gpo_quadratic",
    "gpo_savage", "ld_dpo", "ld_dpo_policy", "mallows_dpo", "mallows_ipo", "margin_dpo", "orpo_align", "rpo_bwd_kl",
    "rpo_fwd_kl", "rpo_sq", "squared_po", "unlikelihood",
    "npo", "simnpo", "dpo_shift", "bpo", "minor_dpo", "c2_dpo", "focal_po", "h_dpo", "d2po",
    "d2_simpo", "dpo_rk", "dpo_davidson", "dr", "kl", "gamma_dpo", "gamma_simpo", "qrpo", "ddro", "humanline",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """The look of one series. Sizes are in points."""

    colour: str
    marker: str = "o"
    size: float = 6
    dashes: str | tuple[int, tuple[float, ...]] = "-"
    width: float = 1
    opacity: float = 0.5

    def line(self) -> dict[str, Any]:
        """Return matplotlib's keywords for a line of this series."""
        return {"color": self.colour, "linestyle": self.dashes, "linewidth": self.width, "alpha": self.opacity}

    def mark(self, *, hollow: bool = False) -> dict[str, Any]:
        """Return matplotlib's keywords for a marker. Hollow ones are larger, so that both kinds show at one point."""
        drawn = {"marker": self.marker, "linestyle": "none", "markersize": self.size * (1.5 if hollow else 1)}
        if hollow:
            return drawn | {"markerfacecolor": "none", "markeredgecolor": self.colour, "markeredgewidth": 1.8}
        return drawn | {"markerfacecolor": self.colour, "markeredgecolor": CARD, "markeredgewidth": 1}


def series_numbers(losses: Mapping[str, str]) -> dict[str, int]:
    """Choose the look of each variant by its loss.

    Args:
        losses: the loss of each variant, in the recipe's order, which does not depend on the ranking.

    Returns:
        The number of each variant's look (see `look`). Variants of one loss share its colour, and differ in markers and
        dashes.
    """
    numbers: dict[str, int] = {}
    first: dict[str, int] = {}
    for loss in dict.fromkeys(losses.values()):
        first[loss] = _free(_own(loss), set(first.values()))
    for name, loss in losses.items():
        numbers[name] = first[loss] if first[loss] not in numbers.values() else -1
    for name, loss in losses.items():
        if numbers[name] < 0:
            numbers[name] = _free(first[loss], set(numbers.values()))
    return numbers


def _own(loss: str) -> int:
    """Return the number of a loss's preferred look."""
    if loss in LOSSES:
        return LOSSES.index(loss)
    return len(LOSSES) + crc32(loss.encode()) % (LOOKS - len(LOSSES))


def _free(number: int, taken: set[int]) -> int:
    """Return the first free look from `number` on, of the same colour if possible; return `number` if all are taken."""
    colour = [(number + step * len(COLOURS)) % LOOKS for step in range(len(MARKERS))]
    others = [(number + step) % LOOKS for step in range(LOOKS)]
    return next((n for n in (*colour, *others) if n not in taken), number)


def look(series: int | None) -> Look:
    """Return the look of a series by its number (see `series_numbers`); None is the base."""
    if series is None:
        return Look(SOFT)
    turn, colour = divmod(series % LOOKS, len(COLOURS))
    marker, size = MARKERS[(colour + turn) % len(MARKERS)]
    return Look(COLOURS[colour], marker, size, DASHES[(colour + turn) % len(DASHES)], width=2, opacity=1)


def short(value: float, *, percent: bool = False) -> str:
    """Format a number for an axis."""
    if percent:
        return f"{100 * value:.4g}%"
    size = abs(value)
    if size >= MILLION:
        return f"{value / MILLION:.3g}M"
    if size >= THOUSAND:
        return f"{value / 1000:.3g}k"
    if isfinite(value) and 1000 <= size < THOUSAND:  # noqa: PLR2004  # .3g would write 4e+03
        return f"{value:.0f}".replace("-", "\N{MINUS SIGN}")
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def clipped(name: str) -> str:
    """Shorten a name to fit next to a chart, and replace unprintable characters, such as line breaks, by spaces."""
    name = "".join(c if c.isprintable() else " " for c in name)
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
