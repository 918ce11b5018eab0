"""Bases and what is trained on them."""

from __future__ import annotations

from math import inf
from typing import Any, Literal

from pydantic import Field, model_validator

from marft.config.base import Strict


class Tiny(Strict):
    """Shape and warm-up of `model: tiny`, the small Qwen3 model built on the spot."""

    layers: int = Field(2, ge=1, le=32)
    hidden: int = Field(64, ge=16, description="width; a multiple of 2 * heads")
    heads: int = Field(4, ge=1)
    kv_heads: int = Field(4, ge=1)
    intermediate: int = Field(192, ge=16)
    vocabulary: int = Field(512, ge=300, description="tokens, 256 bytes and the control tokens included")
    context: int = Field(2048, ge=64, description="longest sequence in tokens")
    seed: int = Field(0, ge=0)
    warmup_episodes: int = Field(512, ge=8, description="scripted episodes to learn the game's format from")
    players: dict[str, float] = Field(
        default_factory=dict,
        description="weights of the scripted players who are drawn for them, by name or path.py:function; default: "
        "all of the game's alike",
    )
    warmup_steps: int = Field(300, ge=0)
    warmup_batch: int = Field(64, ge=1, description="rows per warm-up step")
    warmup_learning_rate: float = Field(3e-3, gt=0)

    @model_validator(mode="after")
    def _divides(self) -> Tiny:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden {self.hidden} must be a multiple of 2 * heads = {2 * self.heads}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.players and not (min(self.players.values()) >= 0 and 0 < sum(self.players.values()) < inf):
            raise ValueError(f"players must have weights of 0 or more, not all 0, got {self.players}")
        return self


class Model(Strict):
    """A base that agents share. A bare string is its name: `tiny`, a local folder, or a hub name."""

    name: str = "tiny"
    revision: str | None = Field(None, description="hub revision; ignored for tiny and folders")
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    device: str = Field("auto", description="auto: the accelerator if there is one, else cpu")
    quantization: Literal["8bit", "4bit"] | None = Field(
        None, description="keep the frozen base's linear layers in 8 or 4 bits (bitsandbytes); engine hf only"
    )
    tiny: Tiny = Tiny()

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data


class Adapter(Strict):
    """LoRA settings of one agent, PEFT's words."""

    rank: int = Field(8, ge=1)
    alpha: float = Field(16, gt=0, description="the adapter's product is scaled by alpha / rank")
    targets: tuple[str, ...] | Literal["all-linear"] = Field("all-linear", description="module names or all-linear")
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank) instead (rsLoRA, 2312.03732)")
    dora: bool = Field(
        False, description="learn the weights' magnitudes apart from their directions (DoRA, 2402.09353)"
    )


class Optimizer(Strict):
    """AdamW settings of one agent."""

    learning_rate: float = Field(1e-5, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0, description="the agent's gradient is clipped to this norm")
    warmup_updates: int = Field(0, ge=0, description="linear rise of the learning rate over the first updates")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="how the learning rate falls, to zero after train.updates"
    )
