"""What every engine takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from marft.config import Sampling

DEFAULT = Sampling()
PASS_TOKENS = 8192
"""Most new tokens, padding included, of one pass of the in-process engine: as many prompts at once take memory."""


@dataclass(slots=True)
class Request:
    """One completion to make.

    policy: an agent's name, "frozen:…", "scripted:…" or "remote:…".
    seed: all randomness of this completion; the same request gives the same completion whatever it is batched with.
    session: requests of one seat in one episode share it; a hint that the prompt extends an earlier one.
    view: what a scripted player sees instead of tokens.
    messages: what a remote policy sees instead: the seat's whole conversation as (role, text).
    """

    policy: str
    seed: int
    prompt_ids: list[int] = field(default_factory=list)
    sampling: Sampling = DEFAULT
    session: str = ""
    view: Any = None
    messages: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Completion:
    """One completion.

    logprobs: one per token id, under the distribution that was sampled from (temperature, top-k, top-p included).
    finish_reason: "stop" when a stop token ended it (that token is the last id), "length" when it was cut.
    text: set by engines without tokens; None where the ids say it all.
    """

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str
    version: int = -1
    text: str | None = None


class Engine(Protocol):
    """Turns requests into completions.

    shares_weights: whether it computes with the very weights that the trainer changes, so that nothing may be played
    while an update is made.
    """

    shares_weights: bool

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of the requests."""

    def end_sessions(self, start: str = "") -> None:
        """No request of the sessions whose names begin so will come any more: free what was kept for them."""


class Trained(Engine, Protocol):
    """An engine that answers for agents that are being trained, and so must be told of their new weights."""

    def start(self) -> None:
        """Ready to answer when this returns; EngineError where it cannot be."""

    def publish(self, agent: str, version: int) -> None:
        """The agent's adapter as it is now speaks from here on, as `version`; EngineError where it does not."""

    def prepare(self, policies: Sequence[str]) -> None:
        """These policies will be asked for: those that are not agents must be ready too."""

    def close(self) -> None:
        """Give everything back."""
