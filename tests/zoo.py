"""PettingZoo environments for the tests: one of each kind, small enough to know by heart."""

import random

import numpy as np
from gymnasium.spaces import Dict, Discrete, MultiBinary, Text
from pettingzoo import AECEnv, ParallelEnv

LETTERS = "abc"


class Echo(ParallelEnv):
    """Both say a word of a, b, c at once, for `rounds` rounds; each earns the letters it has in common with the other.

    The first observation is a word drawn, as some do, from the shared generators of Python and numpy.
    """

    metadata = {"name": "echo_v0"}

    def __init__(self, rounds=2):
        self.rounds = rounds
        self.possible_agents = ["ann", "ben"]

    def observation_space(self, agent):
        return Text(20, min_length=0, charset=LETTERS + " ")

    def action_space(self, agent):
        return Text(5, charset=LETTERS)

    def reset(self, seed=None, options=None):
        random.seed(seed)
        np.random.seed(seed)
        self.agents, self.round = list(self.possible_agents), 0
        word = random.choice(LETTERS) + LETTERS[np.random.randint(3)]
        return dict.fromkeys(self.agents, word), {agent: {} for agent in self.agents}

    def step(self, actions):
        self.round += 1
        common = float(len(set(actions["ann"]) & set(actions["ben"])))
        over = self.round == self.rounds
        seen = {"ann": actions["ben"], "ben": actions["ann"] + " " + random.choice(LETTERS)}
        agents = self.agents
        self.agents = [] if over else agents
        flags = dict.fromkeys(agents, over)
        return seen, dict.fromkeys(agents, common), flags, dict.fromkeys(agents, False), {agent: {} for agent in agents}


class Nim(AECEnv):
    """Two take 1 to 3 of `heap` matches in turn; the last one wins 1, the other loses 1. Masked Discrete actions."""

    metadata = {"name": "nim_v0"}

    def __init__(self, heap=5):
        super().__init__()
        self.heap = heap
        self.possible_agents = ["left", "right"]
        self._seen = Dict({"observation": Discrete(heap + 1), "action_mask": MultiBinary(3)})
        self._acts = Discrete(3, start=1)

    def observation_space(self, agent):
        return self._seen

    def action_space(self, agent):
        return self._acts

    def reset(self, seed=None, options=None):
        self.agents, self.left = list(self.possible_agents), self.heap
        self.rewards = dict.fromkeys(self.agents, 0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = "left"

    def observe(self, agent):
        return {"observation": self.left, "action_mask": np.array([self.left >= n for n in (1, 2, 3)], dtype=np.int8)}

    def step(self, action):
        agent = self.agent_selection
        if self.terminations[agent]:
            self._was_dead_step(action)
            return
        other = "right" if agent == "left" else "left"
        self._cumulative_rewards[agent] = 0
        self._clear_rewards()
        assert 1 <= action <= min(3, self.left), action
        self.left -= action
        if self.left == 0:
            self.rewards = {agent: 1, other: -1}
            self.terminations = dict.fromkeys(self.agents, True)
        self.agent_selection = other
        self._accumulate_rewards()


def nim_text(observation, seat):
    return f"{seat}: {observation['observation']} matches are left."


class Nameless(Nim):
    def __init__(self):
        super().__init__()
        self.possible_agents = [0, 1]


class Pictures(Echo):
    def action_space(self, agent):
        return MultiBinary(3)
