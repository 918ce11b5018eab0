"""Who plays: learners, and the policies in the seats."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from marft.config.base import Strict
from marft.config.model import Adapter, Optimizer


class Agent(Strict):
    """One learner; sections left out fall back to the recipe's `adapter` and `optimizer`."""

    adapter: Adapter | None = None
    optimizer: Optimizer | None = None
    start_from: str | None = Field(None, description="a PEFT adapter folder to start from")
    model: str | None = Field(None, description="the agent's base, a name of `models`; default: the recipe's `model`")


class Policy(Strict):
    """Who plays. A bare string names an agent."""

    agent: str | None = None
    scripted: str | None = Field(None, description="a player of the game, or path.py:function")
    frozen: str | None = Field(None, description="a PEFT adapter folder, or `base` for the bare model")
    past: str | None = Field(None, description="an earlier version of this agent, see `past`")
    remote: str | None = Field(None, description="a chat endpoint, see `remotes`")
    model: str | None = Field(None, description="the base of a frozen policy, a name of `models`")
    weight: float = Field(1.0, gt=0, description="chance to be drawn, relative to the others of a pool")

    @model_validator(mode="before")
    @classmethod
    def _bare_agent(cls, data: Any) -> Any:
        return {"agent": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_of(self) -> Policy:
        kinds = [kind for kind in KINDS if getattr(self, kind, None)]
        if len(kinds) != 1:
            raise ValueError(f"name exactly one of {', '.join(k for k in KINDS if k in type(self).model_fields)}")
        if self.model is not None and self.frozen is None:
            raise ValueError("model says which base a frozen policy is on; an agent's is agents.NAME.model")
        return self

    def __str__(self) -> str:
        """The policy as episodes record it: "alice", "scripted:TFT", "frozen:path", "frozen:base@wide" on another base
        than the recipe's `model`, "remote:judge"."""
        if self.agent is not None:
            return self.agent
        if self.remote is not None:
            return f"remote:{self.remote}"
        if self.scripted is not None:
            return f"scripted:{self.scripted}"
        return f"frozen:{self.frozen}" + (f"@{self.model}" if self.model is not None else "")

    @property
    def by_model(self) -> bool:
        """Whether one of the run's own bases answers: an adapter on it, or the bare base."""
        return self.scripted is None and self.remote is None


KINDS = ("agent", "scripted", "frozen", "past", "remote", "pool")


class Seat(Policy):
    """Who fills a seat: one policy, or a pool of which one is drawn for each group of episodes."""

    pool: tuple[Policy, ...] = Field((), description="policies with weights")
    role: str | None = Field(None, description="functional group, for baselines by role; default: the seat's name")

    @property
    def choices(self) -> tuple[Policy, ...]:
        return self.pool or (self,)

    @property
    def own(self) -> Policy:
        """Who is evaluated in this seat: the first agent that may sit here, as it is now, else the first policy."""
        agents = [policy.agent or policy.past for policy in self.choices if policy.agent or policy.past]
        return Policy(agent=agents[0]) if agents else self.choices[0]


class Past(Strict):
    """Which earlier versions of an agent may sit in a seat whose policy is `past`: every k-th, the newest ones."""

    every: int = Field(10, ge=1, description="versions between two that are kept")
    keep: int = Field(5, ge=1, description="how many of them may be drawn")

    def versions(self, version: int) -> list[int]:
        """Those of an agent that has come to `version`, oldest first; the untrained one is the first of all."""
        return list(range(0, version + 1, self.every))[-self.keep :]


class Remote(Strict):
    """An OpenAI-compatible chat endpoint that may sit in a seat, `team: {bob: {remote: NAME}}`. It is never trained.

    The key is read from the environment and stands nowhere else. Tokens are counted as the endpoint reports them.
    """

    url: str = Field(min_length=1, description="address up to the version, https://host/v1")
    model: str = Field(min_length=1, description="the endpoint's name of the model")
    key_env: str | None = Field(None, description="environment variable that holds the key; none: no key is sent")
    max_tokens: int = Field(64, ge=1, description="longest answer")
    temperature: float = Field(1.0, ge=0)
    fields: dict[str, Any] = Field(
        default_factory=dict, description="further fields of a request's body; null takes one out"
    )
    spend_limit: int = Field(100_000, ge=1, description="tokens, prompts included, after which the run stops")
    timeout: float = Field(60.0, gt=0, description="seconds one attempt may take")
    retries: int = Field(4, ge=0, description="further attempts after an error of the connection or server")
    concurrency: int = Field(16, ge=1, description="requests at once")
