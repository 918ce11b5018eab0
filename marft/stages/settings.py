"""How an offline stage trains: plain data, checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from marft.errors import RecipeError

Kind = Literal["sft", "dpo"]


@dataclass(frozen=True)
class Settings:
    """epochs: passes over the rows or pairs. batch_size: of these, per optimizer step; micro_batch: per forward pass.

    beta, reference, sft_weight: of DPO alone. The reference is the adapter that training starts from, or the bare base;
    sft_weight times the chosen completions' mean negative log-prob is added to the loss (2404.19733).
    """

    kind: Kind
    epochs: float
    learning_rate: float
    batch_size: int = 16
    micro_batch: int | None = None
    seed: int = 0
    checkpointing: bool = False
    beta: float = 0.1
    reference: Literal["start", "base"] = "start"
    sft_weight: float = 0.0

    def __post_init__(self) -> None:
        for key in ("epochs", "learning_rate", "beta"):
            if not getattr(self, key) > 0:
                raise RecipeError(f"--{key.replace('_', '-')} must be above 0, got {getattr(self, key)}")
        if self.micro_batch is not None and self.batch_size % self.micro_batch:
            raise RecipeError(f"--batch-size {self.batch_size} must be a multiple of --micro-batch {self.micro_batch}")

    def as_dict(self) -> dict[str, Any]:
        """For stage.json; what the stage has no use for is left out."""
        unused = () if self.kind == "dpo" else ("beta", "reference", "sft_weight")
        return {key: value for key, value in asdict(self).items() if key not in unused}
