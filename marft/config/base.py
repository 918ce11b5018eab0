"""What every section of a recipe is like."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Base of all recipe sections: unknown keys are errors, values are read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
