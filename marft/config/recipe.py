"""A recipe, whole."""

from __future__ import annotations

from pydantic import Field

from marft.blocks import Algorithm
from marft.config.base import Strict
from marft.config.engine import Engine
from marft.config.model import Adapter, Model, Optimizer
from marft.config.play import Game, Reward, Rollout, Sampling
from marft.config.team import Agent, Past, Policy, Remote, Seat
from marft.config.train import Critic, Train


class Recipe(Strict):
    """One training run, whole."""

    name: str = Field(min_length=1)
    seed: int = Field(0, ge=0)
    model: Model = Model()
    models: dict[str, Model] = Field(
        default_factory=dict, description="further bases by name, for agents.NAME.model and frozen policies"
    )
    game: Game
    agents: dict[str, Agent] = Field(min_length=1)
    team: dict[str, Seat] = Field(default_factory=dict, description="seat -> policy; default: agents in order")
    past: Past = Past()
    remotes: dict[str, Remote] = Field(default_factory=dict, description="chat endpoints by name")
    adapter: Adapter = Adapter()
    optimizer: Optimizer = Optimizer()
    sampling: Sampling = Sampling()
    rollout: Rollout = Rollout()
    rewards: tuple[Reward, ...] = (Reward(use="payoff"),)
    algorithm: Algorithm
    critic: Critic = Critic()
    train: Train = Train()
    engine: Engine = Engine()
    trackers: tuple[str, ...] = Field(("tensorboard",), description="accelerate trackers")

    @property
    def policies(self) -> dict[str, Policy]:
        """Every policy that may sit somewhere, by the key it has in the recipe."""
        return {
            f"team.{seat}" + (f".pool[{number}]" if chosen.pool else ""): policy
            for seat, chosen in self.team.items()
            for number, policy in enumerate(chosen.choices)
        }

    @property
    def terms(self) -> list[str]:
        """What the reward terms are called, in order."""
        return [
            one.name or (one.use if number == 0 else f"{one.use}#{number}") for number, one in enumerate(self.rewards)
        ]

    def adapter_of(self, agent: str) -> Adapter:
        return self.agents[agent].adapter or self.adapter

    def optimizer_of(self, agent: str) -> Optimizer:
        return self.agents[agent].optimizer or self.optimizer
