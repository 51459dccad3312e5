"""What `bench.py` measures: cases, by plan."""

from __future__ import annotations

from dataclasses import dataclass

PEERS = ("trl", "prefzoo")
SHORT = 64  # pairs up to which a measurement is a matter of seconds, and is done three times
WAYS = ("prefzoo", "side")  # one variant after another; several in one pass


@dataclass(frozen=True)
class Case:
    """What is trained, by which tools, and how often it is measured.

    Attributes:
        axis: the size that grows along a curve, if the case is a point of one.
        rows: `real` (AlpacaEval's pairs where they are at hand, else the quickstart's), `quickstart`, or `filled`: real
            ones joined until both answers reach `length`; or `made up`: random words, as many rows as there are pairs.
        layers: how many of the model's layers are kept; 0 for all.
        tokens: of one pass; 0 for the default.
        prepare: whether only the data set is prepared: read, audited and tokenised, and nothing trained.
    """

    name: str
    pairs: int = 16
    length: int = 512
    precision: str = "fp32"
    lora: bool = False
    losses: int = 1
    checkpointing: bool = False
    rounds: int = 3
    batch: int = 4
    layers: int = 0
    tokens: int = 0
    rows: str = "real"
    axis: str = ""
    tools: tuple[str, ...] = PEERS
    prepare: bool = False

    def words(self, tool: str) -> list[str]:
        """The command line of `case.py`, less the rows and the model."""
        names = ("pairs", "length", "precision", "losses", "batch", "tokens")
        values = [word for name in names for word in (f"--{name}", str(getattr(self, name)))]
        flags = {"lora": self.lora, "checkpointing": self.checkpointing, "fill": self.rows == "filled"}
        flags["prepare"] = self.prepare
        return [tool, *values, *(f"--{flag}" for flag, on in flags.items() if on)]


def _pairs(count: int) -> Case:
    return Case(
        f"{count} pairs", pairs=count, precision="bf16", layers=6, rows="quickstart", batch=8, axis="pairs",
        rounds=3 if count <= SHORT else 1,
    )  # fmt: skip


def _tokens(length: int, pairs: int) -> Case:
    return Case(
        f"{length} tokens", pairs=pairs, length=length, precision="bf16", rows="filled", batch=1, axis="length",
        rounds=1,
    )  # fmt: skip


def _losses(count: int) -> Case:
    return Case(
        f"{count} losses", pairs=8, precision="bf16", lora=True, losses=count, layers=6, rows="quickstart",
        axis="losses", rounds=3 if count == 1 else 1,
    )  # fmt: skip


def _side(rows: str, losses: int, tokens: int, batch: int = 4) -> Case:
    name = f"{losses} variants, batch {batch}, {rows} rows, {tokens} tokens a pass"
    return Case(
        name, pairs=2 * batch, precision="bf16", lora=True, losses=losses, rows=rows, batch=batch, tokens=tokens,
        tools=WAYS, rounds=3,
    )  # fmt: skip


def _prepared(count: int) -> Case:
    return Case(f"{count:,} pairs prepared", pairs=count, layers=1, rows="made up", rounds=1, prepare=True)


PLANS: dict[str, list[Case]] = {
    "headline": [
        Case("dpo, full, fp32"),
        Case("dpo, full, bf16", precision="bf16"),
        Case("8 losses, LoRA, bf16", pairs=8, precision="bf16", lora=True, losses=8, rounds=1),
    ],
    "curves": [
        *(_pairs(n) for n in (16, 64, 256, 512)),
        *(_tokens(n, pairs) for n, pairs in ((256, 2), (512, 2), (1024, 2), (2048, 1), (4096, 1))),
        *(_losses(n) for n in (1, 2, 4, 8, 16)),
    ],
    "side": [
        _side("quickstart", 2, 2048),
        _side("quickstart", 4, 2048),
        _side("quickstart", 8, 2048, batch=2),
        _side("real", 4, 8192),
    ],
    "data": [_prepared(count) for count in (2_000, 20_000)],
    "data-large": [_prepared(1_000_000)],
    "smoke": [  # that every kind of case runs; its times mean nothing
        _prepared(4),
        *(Case(f"{n} pairs", pairs=n, layers=1, length=128, rows="quickstart", axis="pairs", rounds=1) for n in (4, 8)),
        Case("64 tokens", pairs=1, layers=1, length=64, rows="filled", batch=1, axis="length", rounds=1),
        *(
            Case(f"{n} losses", pairs=4, layers=1, rows="quickstart", lora=True, losses=n, axis="losses", rounds=1)
            for n in (1, 9)
        ),
    ],
}
NOTES = {
    "headline": "",
    "curves": (
        "Pairs and losses grow on the model's first 6 of 30 layers and the quickstart's short rows (batch 8 and 4), "
        "tokens on the whole model (batch 1, AlpacaEval's texts joined until both answers reach the length), so that "
        "all of it takes two cores about 20 minutes: seconds of different curves do not compare. In a model cut like "
        "this the vocabulary's share of the work is larger. 32 and 128 pairs were left out for time."
    ),
    "side": (
        "`prefzoo`: one variant after another; `side`: as many in one pass as `train.tokens` has room for. Both LoRA, "
        "bf16, two steps."
    ),
    "data": "Nothing is trained: rows are read and tokenised, by prefzoo audited and counted by role, too.",
    "data-large": "Nothing is trained: rows are read and tokenised, by prefzoo audited and counted by role, too.",
    "smoke": "One layer of the model: no measurement.",
}
