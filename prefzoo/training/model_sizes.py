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
MARK = "*"
ALONE = """\
{mark} The training alone. The reference is scored beforehand by a whole model in every process ({whole:.0f} GiB of
a 70B model in bf16), which no such card holds, so this cannot be run yet.
"""


def table() -> str:
    """Return the table in Markdown, followed by its assumptions."""
    head = "| model | training | devices | GiB per device | hours, all devices together |\n|---|---|---|---|---|\n"
    rows = [_row(name, shape, rank) for name, shape in SIZES.items() for rank in (RANK, None)]
    alone = ALONE.format(mark=MARK, whole=model_bytes(SIZES["70B"], frozen_bf16=True) / GIB).replace(
        MARK, f"\\{MARK}", 1
    )
    return head + "".join(rows) + f"\n{ASSUMED}\n{alone}"


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
    reference = model_bytes(shape, frozen_bf16=True)  # scored before anything is sharded
    mark, peak = (MARK, need.peak) if reference > RESERVE * DEVICE else ("", max(need.peak, reference))
    return f"| {name} | {method} | {devices}{mark} | {peak / GIB:.0f} | {hours:.1f} |\n"
