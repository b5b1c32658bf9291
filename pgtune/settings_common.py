"""What the sections of a recipe share: the strict, frozen base class and the types of their keys."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Part = Literal["vision_tower", "projector", "language_model"]
PARTS: tuple[Part, ...] = get_args(Part)

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]


class Settings(BaseModel):
    """What all sections share: strict types, no unknown key, no NaN or infinity, frozen."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )
