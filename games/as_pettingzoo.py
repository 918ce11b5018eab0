"""Any game as a PettingZoo AEC environment, for tools that speak PettingZoo (`pip install marft[pettingzoo]`).

    env = GameEnv(make_game("ultimatum", {"rounds": 3}))

Agents are the seats. An agent observes the messages that are new to it, joined, and acts by a text. Seats that act at
once are asked one after the other; the game moves, and pays, when the last of them has answered. At the end all agents
terminate together. `infos` hold what the game made of the agent's last answer.
"""

from __future__ import annotations

import random
import string
from typing import Any

import numpy as np
from gymnasium.spaces import Text
from pettingzoo import AECEnv

from marft.game import Game

LONGEST = 100_000
"""Characters of a text in either space."""


class Said(str):
    """A text that tells its NumPy type, for which PettingZoo's own test asks every observation."""

    dtype = np.dtype(str)


class AnyText(Text):
    """All texts up to a length. Samples are printable ASCII, short enough to be made quickly."""

    def __init__(self, longest: int = LONGEST) -> None:
        super().__init__(longest, min_length=0, charset=string.printable)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str) and len(x) <= self.max_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        length = int(self.np_random.integers(0, min(64, self.max_length) + 1))
        return super().sample(mask=(length, None))


class GameEnv(AECEnv):
    """See the module. `reset` without a seed goes on with instances drawn from the last seed given, or from any."""

    def __init__(self, game: Game) -> None:
        super().__init__()
        self.game = game
        self.metadata = {"name": f"marft_{game.name}_v0", "render_modes": [], "is_parallelizable": False}
        self.render_mode = None
        self.possible_agents = list(game.seats)
        self.observation_spaces = {seat: AnyText() for seat in game.seats}
        self.action_spaces = {seat: AnyText() for seat in game.seats}
        self._instances = random.Random()

    def observation_space(self, agent: str) -> AnyText:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> AnyText:
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        if seed is not None:
            self._instances = random.Random(seed)
        self.game.reset(self._instances.getrandbits(62) if seed is None else seed)
        self.agents = list(self.possible_agents)
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self._seen = dict.fromkeys(self.agents, Said(""))
        self._next_decision()

    def _next_decision(self) -> None:
        """Ask the seats that act now; where there are none, all are done."""
        self._answers: dict[str, str] = {}
        self._waiting = list(self.game.acting())
        for seat in self._waiting:
            self._seen[seat] = Said("\n\n".join(message.text for message in self.game.observe(seat))[:LONGEST])
        if self._waiting:
            self.agent_selection = self._waiting[0]
        else:
            self.terminations = dict.fromkeys(self.agents, True)
            self.agent_selection = self.agents[0]

    def observe(self, agent: str) -> Said:
        return self._seen[agent]

    def step(self, action: str | None) -> None:
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        if not isinstance(action, str):
            raise TypeError(f"{agent} acts by a text, not {action!r:.80}")
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self._answers[agent] = action
        self._waiting.remove(agent)
        if self._waiting:
            self.agent_selection = self._waiting[0]
            return
        result = self.game.act(self._answers)
        self.rewards |= {seat: float(value) for seat, value in result.rewards.items()}
        for seat in self._answers:
            self.infos[seat] = {"action": result.actions.get(seat), "invalid": seat in result.invalid}
        self._next_decision()
        self._accumulate_rewards()
