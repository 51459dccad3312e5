"""Types of bounded numbers for the knobs of losses; a knob's annotation is its check, schema and documentation."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
FlipRate = Annotated[float, Field(ge=0, lt=0.5, allow_inf_nan=False)]
PositiveFlipRate = Annotated[float, Field(gt=0, lt=0.5, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
PartShare = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
PositiveShare = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
InnerShare = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Vocabulary = Annotated[int, Field(ge=2)]
