"""What the three libraries have in common: the arguments of transformers' Trainer, and TRL's losses of pairs."""

from __future__ import annotations

from typing import Any

from prefzoo.recipe.other_names import ADAMW, EIGHT_BIT
from prefzoo.recipe.translate.translation import Translation, slug

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}
NO_GPU = "needs an NVIDIA GPU and bitsandbytes, which are not here"


def trainer_arguments(t: Translation, *, learning_rate: float, schedule: str, epochs: float, name: str) -> None:
    """Translate what the libraries take from transformers' Trainer under the same names.

    Args:
        t: the translation.
        learning_rate, schedule, epochs: the library's defaults.
        name: the run's, if the configuration names none.
    """
    run_name, output = t.take("run_name"), t.take("output_dir")
    t.set("name", slug(str(run_name or (str(output).rstrip("/").split("/")[-1] if output else name))),
          "run_name" if run_name else "output_dir" if output else "")  # fmt: skip
    if output:
        t.left_out["output_dir"] = "results are written below --results"
    t.set("seed", int(t.number("seed", 42)), "seed")
    t.leave("data_seed", "seed decides the order too")
    steps = int(t.number("max_steps", -1))
    if steps > 0:
        t.set("train.steps", steps, "max_steps")
    t.set("train.epochs", t.number("num_train_epochs", epochs), "num_train_epochs")
    t.set("train.learning_rate", t.number("learning_rate", learning_rate), "learning_rate")
    _warmup(t, steps)
    wanted = str(t.take("lr_scheduler_type", schedule)).rpartition(".")[2].lower()
    near = SCHEDULES.get(wanted)
    t.set(
        "train.schedule", near or "cosine", "lr_scheduler_type", "" if near else f"{wanted} is not among the schedules"
    )
    t.leave("lr_scheduler_kwargs", "schedules have no options")
    t.set("train.weight_decay", t.number("weight_decay", 0.0), "weight_decay")
    t.set("train.max_grad_norm", t.number("max_grad_norm", 1.0) or 1e9, "max_grad_norm")
    _optimizer(t)
    _precision(t)
    report = t.take("report_to", [])
    trackers = [
        r for r in ([report] if isinstance(report, str) else report) if r in ("tensorboard", "wandb", "trackio")
    ]
    if trackers:
        t.left_out["report_to"] = f"set train.trackers: [{', '.join(trackers)}] where the package is installed"


def batch(t: Translation, per_device: str, default: int, accumulation: int = 1) -> None:
    """Translate the sizes of batches: pairs per device, passes per step and devices make a step here.

    Args:
        t: the translation.
        per_device: the library's name of the pairs per device.
        default: its default.
        accumulation: the default of the passes per step.
    """
    each, passes = t.number(per_device, default), t.number("gradient_accumulation_steps", accumulation)
    total = int(each * passes) * t.place.processes
    t.set("train.batch", total, per_device)
    if "gradient_accumulation_steps" in t.given:
        t.mapped["gradient_accumulation_steps"] = "train.batch; prefzoo chooses the passes of a step by memory"
    devices = f"{t.place.processes} device{'s' * (t.place.processes > 1)} (--processes)"
    t.comments["train.batch"] = f"{each:g} per device x {passes:g} passes x {devices}"


def _warmup(t: Translation, steps: int) -> None:
    ratio, count = t.number("warmup_ratio", 0.0), t.number("warmup_steps", 0.0)
    if count >= 1 and steps > 0:
        t.set("train.warmup", min(1.0, count / steps), "warmup_steps")
    elif count >= 1:
        t.set("train.warmup", 0.1, "warmup_steps", f"{count:g} steps; here it is the share of all steps, so set it")
    else:
        t.set("train.warmup", count or ratio, "warmup_steps" if count else "warmup_ratio")


def _optimizer(t: Translation) -> None:
    wanted = str(t.take("optim", "adamw_torch")).lower()
    if wanted in ADAMW:
        t.set("train.optimizer", "adamw", "optim")
    elif wanted in ("adafactor", "muon"):
        t.set("train.optimizer", wanted, "optim", "torch's, with its own defaults")
    elif wanted in EIGHT_BIT and (t.place.can_quantize or EIGHT_BIT[wanted] == "adamw"):
        t.set("train.optimizer", EIGHT_BIT[wanted], "optim")
    elif wanted in EIGHT_BIT:
        t.set(
            "train.optimizer",
            "adamw",
            "optim",
            f"{EIGHT_BIT[wanted]} needs bitsandbytes, which is not installed; it only saves memory",
        )
    else:
        t.set("train.optimizer", "adamw", "optim", f"{wanted} is not among the optimisers")


def _precision(t: Translation) -> None:
    bf16, fp16 = t.take("bf16"), t.take("fp16")
    t.set("train.precision", "auto", "bf16" if bf16 is not None else "fp16" if fp16 is not None else "",
          "fp16 is not used: bf16 where the hardware has it, else fp32" if fp16 is True else "")  # fmt: skip
    t.leave("dtype torch_dtype pure_bf16", "trained weights are in fp32, products in bf16")


def lora(
    t: Translation, keys: tuple[str, str], *, rank: float, alpha: float, dropout: float, targets: Any, four_bit: bool
) -> None:  # fmt: skip
    """Write an adapter.

    Args:
        t: the translation.
        keys: the library's names of its rank and of its targets.
        rank, alpha, dropout: its shape.
        targets: `all-linear` or names of modules.
        four_bit: whether its frozen weights are to be quantised.
    """
    t.set("train.lora.rank", int(rank), keys[0])
    t.set("train.lora.alpha", float(alpha), "lora_alpha")
    t.set("train.lora.dropout", float(dropout), "lora_dropout")
    t.set("train.lora.targets", targets, keys[1])
    if four_bit and t.place.can_quantize:
        t.set("train.lora.quantize", "4bit", "load_in_4bit")
    elif four_bit:
        t.differ("load_in_4bit", f"train.lora.quantize: 4bit {NO_GPU}; add it there")


SIMPO_TARGET = (
    "as it is: beta {beta:g} with gamma {gamma:g} is a target of {target:g} nats per token; the paper has 0.3 to 1.6"
)
MERGED = "the adapter is merged into its model, in policy and reference, and a new one is trained on top"
FOUR = 4  # bits
