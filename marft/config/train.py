"""The trainer's loop and the critic."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from marft.config.base import Strict
from marft.config.model import Adapter, Optimizer


class Critic(Strict):
    """The value head, an adapter of its own on the shared base, where the algorithm asks for one."""

    adapter: Adapter | None = Field(None, description="default: the recipe's adapter")
    optimizer: Optimizer = Optimizer(learning_rate=1e-3)
    epochs: int = Field(2, ge=1, description="passes over an update's decisions")
    minibatches: int = Field(2, ge=1, description="optimizer steps per pass")
    warmup_updates: int = Field(0, ge=0, description="first updates in which only the critic learns")


class Train(Strict):
    """The trainer's loop."""

    updates: int = Field(100, ge=1)
    learn: bool = Field(True, description="false: episodes are played, paid and recorded, and no agent changes")
    epochs: int = Field(1, ge=1, description="passes over an update's rows")
    minibatches: int = Field(1, ge=1, description="optimizer steps per pass")
    token_budget: int = Field(16384, ge=16, description="most tokens (padding included) in one forward pass")
    packing: bool = Field(True, description="rows end to end without padding, where the model allows it")
    step: Literal["auto", "loop", "mixed"] = Field(
        "auto", description="rows of agents that learn at the same time: one agent after the other, or in one pass"
    )
    save_every: int = Field(10, ge=1, description="updates between checkpoints")
    keep_last: int = Field(3, ge=1, description="checkpoints to keep")
    token_episodes: int = Field(
        8, ge=0, description="episodes an update whose tokens' advantages and log-probs are kept for the report"
    )
    gap_limit: float | None = Field(
        None, gt=0, description="mean |log-prob gap| engine/trainer that stops the run; default by model.dtype"
    )
    activation_checkpointing: bool = Field(
        False, description="keep only the layers' inputs for the backward pass and compute the rest again"
    )
    offload_optimizer: bool = Field(False, description="keep optimizer states on the cpu but for their agent's step")
