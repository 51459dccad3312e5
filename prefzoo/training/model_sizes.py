"""Compute the table of docs/scale.md: the devices, memory and hours that models of usual sizes need."""

from __future__ import annotations

from dataclasses import replace

from prefzoo.training.memory_model import GIB, Shape, TrainingPlan, devices_needed, flops, model_bytes

DEVICE = 80e9  # bytes of an 80 GB card
RESERVE = 0.9  # share of it that a training may use; allocator and driver take the rest
PEAK, UTILISATION = 989e12, 0.4  # H100's dense bf16 flops, and the share that such trainings reach
PAIRS, PROMPT, ANSWER = 60_000, 250, 300
PASS = 8192  # tokens
RANK = 16
SIZES = {
    "1.5B": Shape(28, 1536, 12, 2, 128, 8960, 151_936, True),  # as Qwen2.5-1.5B
    "8B": Shape(32, 4096, 32, 8, 128, 14_336, 128_256, False),  # as Llama 3.1 8B
    "70B": Shape(80, 8192, 64, 8, 128, 28_672, 128_256, False),  # as Llama 3.1 70B
}
ASSUMED = f"""\
Assumed: {PAIRS:,} pairs of {PROMPT} prompt and twice {ANSWER} answer tokens, passes of {PASS:,} tokens, bf16
products (frozen linear layers are kept in bf16, what is trained and its moments in fp32), gradient checkpointing,
80 GB cards of which {RESERVE:.0%} are used, at {UTILISATION:.0%} of {PEAK / 1e12:.0f} Tflop/s. Computed, not measured:
a test compares the formulas with a small model's peak on a CPU.
"""
MARK, MACHINE, LARGE = "*", 8, 1e12  # GPUs of a machine, and bytes of main memory that not every machine has
MAIN_MEMORY = """\
On more than one device all weights are sharded: of the policy, and of the reference while it is scored. Losses that
read a live reference (`tdpo1`, `tdpo2`, `train.sync_reference`) hold it whole on each device besides.

\\{mark} Before it is sharded, each process reads the policy into main memory in fp32: {together:,.0f} GiB on a machine
with {machine} GPUs. An adapter's frozen weights are views of the model's file, which a machine reads once.
"""


def table() -> str:
    """Return the table in Markdown, followed by its assumptions."""
    head = "| model | training | devices | GiB per device | hours, all devices together |\n|---|---|---|---|---|\n"
    rows = [_row(name, shape, rank) for name, shape in SIZES.items() for rank in (RANK, None)]
    together = MACHINE * model_bytes(SIZES["70B"], frozen_bf16=False) / GIB
    return head + "".join(rows) + f"\n{ASSUMED}\n{MAIN_MEMORY.format(mark=MARK, together=together, machine=MACHINE)}"


def _row(name: str, shape: Shape, rank: int | None) -> str:
    method = f"LoRA, rank {rank}" if rank else "full, FSDP2"
    each = PROMPT + 2 * ANSWER
    plan = TrainingPlan(
        PASS,
        PASS * 2 * ANSWER // each,
        float(PROMPT + ANSWER),
        2,
        rank,
        bf16=True,
        checkpointing=True,
        device_type="cuda",
    )
    needed = devices_needed(shape, plan, RESERVE * DEVICE)
    if needed is None:
        return f"| {name} | {method} | more than 1024 | - | - |\n"
    devices, need = needed
    hours = flops(shape, replace(plan, devices=devices), PAIRS * each) / (PEAK * UTILISATION) / 3600
    peak = max(need.peak, model_bytes(shape, frozen_bf16=True) / devices)  # the reference is sharded alike
    held = min(devices, MACHINE) * model_bytes(shape, frozen_bf16=False)  # in main memory
    mark = MARK if rank is None and held > LARGE else ""
    return f"| {name} | {method} | {devices}{mark} | {peak / GIB:.0f} | {hours:.1f} |\n"
