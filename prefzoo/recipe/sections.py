"""The sections of a recipe that all variants share: data, training loop, and evaluations."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from prefzoo.data.audits.kinds import Drop
from prefzoo.losses import NonNegative, PartShare, Positive
from prefzoo.recipe.columns import Column, Format
from prefzoo.recipe.data_paths import shown
from prefzoo.recipe.judge import AnyJudge
from prefzoo.recipe.sources import DataSets, unweighted

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(gt=0)]
Whole = Annotated[int, Field(ge=0)]
ALPHA = 0.6  # of TR-DPO
LATER = {"engine": "hf"}  # settings of an evaluation that older numbers do not have
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # the range that every generator accepts


def _check_targets(value: Any) -> Any:
    if value == "all-linear" or (value and isinstance(value, list) and all(v and isinstance(v, str) for v in value)):
        return value
    raise PydanticCustomError(
        "targets",
        "must be all-linear or a list of module names (is {shown}); like [q_proj, v_proj]",
        {"shown": repr(value)},
    )


class RecipeSection(BaseModel):
    """A section of a recipe: frozen, without unknown fields or silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Data(RecipeSection):
    """The preference data: files or hub data sets for training and evaluation, each one or a list of them."""

    train: DataSets
    eval: Annotated[DataSets, AfterValidator(unweighted)] | None = None
    format: Format | None = None
    columns: dict[Column, Text] = {}
    on_bad_row: Literal["error", "drop"] = "error"
    drop: list[Drop] = []
    flip_labels: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_length: Annotated[int, Field(ge=8)] = 1024
    too_long: Literal["drop", "cut"] = "drop"
    score: Literal["all", "last"] = "all"
    pairs: Literal["best_worst", "ranked"] = "best_worst"
    chat_template_kwargs: dict[Text, Any] = {}

    @property
    def train_spec(self) -> str:
        """The training data, for messages."""
        return shown(self.train)

    @property
    def eval_spec(self) -> str:
        """The held-out data, for messages; empty without any."""
        return shown(self.eval)


class Lora(RecipeSection):
    """A low-rank adapter (Hu 2021, arXiv:2106.09685) instead of full fine-tuning.

    `quantize: 4bit` stores the frozen weights in NF4 (QLoRA, Dettmers 2023, arXiv:2305.14314), on a GPU.
    """

    rank: Count = 16
    alpha: Positive = 32.0
    dropout: PartShare = 0.0
    targets: Annotated[list[str] | Literal["all-linear"], BeforeValidator(_check_targets)] = "all-linear"
    quantize: Literal["4bit"] | None = None


class Bema(RecipeSection):
    """A bias-corrected exponential average of the policy's weights (BEMA, Block 2025, arXiv:2508.00180)."""

    ema_power: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.5
    bias_power: NonNegative = 0.2
    lag: Count = 10


class Sync(RecipeSection):
    """A reference that follows the policy during training: in steps (TR-DPO, arXiv:2404.09656) or by `bema`.

    With `when: before` it follows the weights from before the update of a step, so that it is one step older
    (humanline's authors, arXiv:2509.24207).
    """

    alpha: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = ALPHA
    every: Count = 512
    when: Literal["after", "before"] = "after"
    bema: Bema | None = None

    @field_validator("bema")
    @classmethod
    def _has_weights_of_its_own(cls, value: Bema | None, info: ValidationInfo) -> Bema | None:
        if value is not None and info.data.get("alpha", ALPHA) != ALPHA:
            raise PydanticCustomError(
                "bema", "does not use alpha (is {alpha}); leave out alpha or bema", dict(alpha=info.data["alpha"])
            )
        if value is not None and info.data.get("when") == "before":
            raise PydanticCustomError("bema", "averages the weights after a step; leave out when or bema")
        return value


class Train(RecipeSection):
    """The training loop.

    A step's pairs are scored in passes of at most `tokens` tokens and `micro_batch` pairs, which changes the memory
    that is needed but not the result. `gradient_checkpointing` takes less memory and a third more time. `side_by_side`
    trains LoRA variants that share batch and steps in one pass, which changes no number by more than rounding.
    `dropout` is that of the model's own configuration; the reference has none.
    """

    batch: Count = 8
    micro_batch: Count | None = None
    tokens: Count | None = None
    epochs: Positive = 1.0
    steps: Count | None = None
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "muon"] = "adamw"
    learning_rate: Positive = 1e-6
    warmup: PartShare = 0.1
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    lora: Lora | None = None
    sync_reference: Sync | None = None
    pair_weights: Text | None = None
    router_loss: Literal["refuse", "off"] = "refuse"
    gradient_checkpointing: bool = False
    dropout: Literal["off", "model"] = "off"
    side_by_side: Literal["auto", "on", "off"] = "auto"
    trackers: list[Text] = []

    @field_validator("micro_batch")
    @classmethod
    def _divides_batch(cls, value: int | None, info: ValidationInfo) -> int | None:
        batch = info.data.get("batch")
        if value is not None and batch is not None and batch % value:
            fits = math.gcd(batch, value)
            raise PydanticCustomError(
                "micro_batch",
                "must divide batch {batch} (is {value}); try {fits}",
                dict(batch=batch, value=value, fits=fits),
            )
        return value


class Evals(RecipeSection):
    """The measurements of every checkpoint."""

    prompts: Text | None = None
    judge: AnyJudge = "verifier"
    judge_labels: Text | None = None
    max_new_tokens: Count = 64
    engine: Literal["hf", "vllm"] = "hf"
    benchmarks: list[Text] = []
    kl: Whole = 32
    frontier: Whole = 0
    round_robin: bool = False
    equivalence: Annotated[float, Field(gt=0, le=50, allow_inf_nan=False)] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that numbers depend on; newer ones are left out at their defaults, so older ones hold."""
        plain = self.model_dump()
        return {name: value for name, value in plain.items() if name not in LATER or value != LATER[name]}
