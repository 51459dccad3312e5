"""What `bench.py` measures: cases, by plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PEERS = ("trl", "prefzoo")
SHORT = 64  # pairs up to which a measurement is a matter of seconds, and is done three times
CARD = ("trl", "trl_liger", "prefzoo")
WAYS = ("prefzoo", "side")  # one variant after another; several in one pass


@dataclass(frozen=True)
class Case:
    """What is trained, by which tools, and how often it is measured.

    Attributes:
        axis: the size that grows along a curve, if the case is a point of one.
        rows: `real` (AlpacaEval's pairs where they are at hand, else the quickstart's), `quickstart`, or `filled`: real
            ones joined until both answers reach `length`; or `made up`: random words, as many rows as there are pairs;
            `conversations`: the same as messages, to which both tools apply the chat template.
        layers: how many of the model's layers are kept; 0 for all.
        tokens: of one pass; 0 for the default.
        prepare: whether only the data set is prepared: read, audited and tokenised, and nothing trained.
        kept: whether its files are kept until the plan is done, so that a killed measurement goes on.
        size: a model of random weights, of `SIZES`; empty for SmolLM2-135M.
        turns: how often it is done in one process; the last counts, and the first stands beside it.
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
    kept: bool = False
    size: str = ""
    device: str = "cpu"
    turns: int = 1

    def words(self, tool: str) -> list[str]:
        """The command line of `case.py`, less the rows and the model."""
        names = ("pairs", "length", "precision", "losses", "batch", "tokens", "device", "turns")
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


def _prepared(count: int, rows: str = "made up", *, kept: bool = False) -> Case:
    kind = "pairs" if rows == "made up" else rows
    return Case(f"{count:,} {kind} prepared", pairs=count, layers=1, rows=rows, rounds=1, prepare=True, kept=kept)


# Qwen2.5's sizes and vocabulary, whose head is a large part of the work and the memory of small models.
SIZES = {
    "tiny": dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128),
    "0.5B": dict(hidden_size=896, num_hidden_layers=24, num_attention_heads=14, intermediate_size=4864),
    "1.5B": dict(hidden_size=1536, num_hidden_layers=28, num_attention_heads=12, intermediate_size=8960),
}


def _card(name: str, size: str, *, tiny: bool, tools: tuple[str, ...] = CARD, **rest: Any) -> Case:
    """Return a case for a GPU; with `tiny` the same on a CPU, with a model and texts of no size."""
    if tiny:
        tools = tuple(tool for tool in tools if tool != "trl_liger")  # its kernels are for GPUs
        rest |= {"length": 128, "pairs": 4, "batch": 2}
    return Case(
        name, precision="bf16", rounds=1, size="tiny" if tiny else size, device="cpu" if tiny else "cuda",
        tools=tools, **rest,
    )  # fmt: skip


def _gpu(*, tiny: bool) -> list[Case]:
    short = {"pairs": 64, "batch": 8, "length": 1024}
    zoo = ("trl", "prefzoo", "side")
    return [
        _card("small: 0.5B", "0.5B", tiny=tiny, turns=2, **short),
        _card("lora: 1.5B", "1.5B", tiny=tiny, turns=2, lora=True, **short),
        _card("long: 1.5B, 2,048 tokens", "1.5B", tiny=tiny, turns=2, pairs=16, length=2048, rows="filled"),
        _card("zoo: 8 losses, LoRA, 0.5B", "0.5B", tiny=tiny, tools=zoo, lora=True, losses=8, **short),
        _card("long: 1.5B, 8,192 tokens", "1.5B", tiny=tiny, pairs=4, length=8192, rows="filled", batch=1),
    ]


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
    "data": [_prepared(2_000), _prepared(20_000), _prepared(20_000, "conversations")],
    "data-large": [_prepared(1_000_000, kept=True)],
    "gpu": _gpu(tiny=False),
    "gpu-tiny": _gpu(tiny=True),
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
PREPARED = (
    "Nothing is trained: rows are read and tokenised, by prefzoo audited and counted by role, too. To texts, prefzoo "
    "applies the model's chat template and TRL does not; to conversations both do."
)
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
    "data": PREPARED,
    "data-large": PREPARED,
    "gpu": (
        "Random weights of Qwen2.5's sizes, the demo's tokenizer. `first` is the first training in a process, `second` "
        "the same again, with everything compiled and warm; cases that are done once have no second. Eight losses: "
        "TRL and `prefzoo` one after another, `side by side` in one process with one reference. TRL's other row is "
        "with Liger's kernels, and with the reference or an adapter's frozen weights stored in bf16; its padding-free "
        "mode is switched off in this version. Memory: peak of tensors."
    ),
    "gpu-tiny": "The cases of the plan `gpu` with a model of no size on a CPU: no measurement.",
    "smoke": "One layer of the model: no measurement.",
}
