"""What is played, how much of it, and what it is worth."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from marft.config.base import Strict


class Game(BaseModel):
    """A game by name, or path.py:Class; all other keys are the game's own options. A bare string is its name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, data: Any) -> Any:
        return {"name": data} if isinstance(data, str) else data

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Reward(Strict):
    """One reward term: a function of marft.rewards, or path.py:function; terms are weighted and summed."""

    use: str
    name: str | None = Field(None, description="what the term is called; default: the function's name")
    weight: float = 1.0
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the function")
    on_error: Literal["stop", "skip"] = Field(
        "stop", description="what an episode that cannot be graded does: stop the run, or be left out of learning"
    )
    deadline: float = Field(600.0, gt=0, description="seconds that one call of a function of your own may take")
    process: bool = Field(False, description="call a function of your own in another process, killed at the deadline")

    @model_validator(mode="before")
    @classmethod
    def _bare_use(cls, data: Any) -> Any:
        return {"use": data} if isinstance(data, str) else data


class Sampling(Strict):
    """How an engine samples. Log-probs are those of the distribution after temperature, top-k and top-p."""

    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0: no limit")
    max_new_tokens: int = Field(64, ge=1)


class Branching(Strict):
    """How a rollout branches. A node is a decision of all seats that act at once; its samples start from one state.

    `flat`: no branches. `tree`: `samples` joint answers at each decision (MAGRPO). `two_level`: `samples` at the first
    decision and `second` for each of them at the second (AdvGame). `per_state`: as tree, going on from the best
    (AT-GRPO). advance: from which samples play goes on. pairing: the g-th answers of all seats together, or `cross`,
    every combination of them. depth: decisions that branch; later ones are sampled once.
    """

    kind: Literal["flat", "tree", "two_level", "per_state"] = "flat"
    samples: int = Field(4, ge=2, le=256)
    second: int = Field(4, ge=1, le=256)
    advance: Literal["all", "best", "random"] = "all"
    pairing: Literal["aligned", "cross"] = "aligned"
    depth: int | None = Field(None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _bare_kind(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _best_of_a_state(self) -> Branching:
        if self.kind == "per_state" and self.advance == "random":
            raise ValueError("per_state goes on from the best: set advance best, or kind tree")
        return self

    @property
    def branches(self) -> bool:
        return self.kind != "flat"

    @property
    def goes_on(self) -> str:
        return "best" if self.kind == "per_state" else self.advance

    def samples_at(self, decision: int) -> int:
        """Joint answers drawn at decision number `decision` of an episode, from 0."""
        if self.kind == "flat" or (self.depth is not None and decision >= self.depth):
            return 1
        if self.kind == "two_level":
            return (self.samples, self.second)[decision] if decision < 2 else 1
        return self.samples


class Rollout(Strict):
    """How many episodes an update plays, and when."""

    groups: int = Field(8, ge=1, description="instances per update")
    group_size: int = Field(8, ge=1, description="episodes (or trees) per instance")
    plan: Branching = Branching()
    swap_seats: bool = Field(False, description="rotate the team by one seat from group to group")
    swap_every: int | None = Field(
        None, ge=1, description="rotate the team by one seat after every so many updates, on top of swap_seats"
    )
    attempts: int = Field(3, ge=1, description="plays of one episode before its failure stops the run")
    deadline: float = Field(3600.0, gt=0, description="seconds one update's rollout may take")
    max_staleness: int = Field(
        0, ge=0, le=64, description="versions that what is trained on may lie behind; above 0, play goes on meanwhile"
    )
    pipeline: bool = Field(False, description="gradients of whole groups while others still play, one step at the end")
