"""Trees to test on: a small game that has everything in it, play of it, and the tree read back from its episodes."""

import asyncio
import random
from dataclasses import dataclass, field

from helpers import Speaker

from marft.config import Branching, Sampling
from marft.engines.scripted import ScriptedEngine
from marft.game import Game, Message, StepResult
from marft.rewards import load_reward
from marft.rollout import Plan, Rollout
from marft.train.rewarding import score

SEATS = ("left", "right")
TEAM = {"left": "alice", "right": "bob"}
PHASES = ((0, SEATS, "bid"), (1, ("right",), "talk"), (1, ("right",), "bid"), (2, SEATS, "bid"))
"""Of each decision the clock, who acts, and what: a message and its move share step 1."""


class Mixed(Game):
    """Both bid; right says a number and bids; both bid again. It ends at once where the first bids sum to less than 2.

    A bid pays its seat that much times a die, less a part of the other's; at step 1 left earns a tenth of right's bid,
    so nothing where that is 0. The message is worth something at the last step.
    """

    name = "mixed"
    seats = SEATS

    def reset(self, seed):
        self.clock, self.at, self.said, self.rng, self.log = 0, 0, 0, random.Random(seed), {seat: [] for seat in SEATS}

    def acting(self):
        return PHASES[self.at][1] if self.at < len(PHASES) else ()

    def observe(self, seat):
        news, self.log[seat] = self.log[seat], []
        return [Message("user", " ".join([*news, "A number?"]))]

    def act(self, texts):
        kind = PHASES[self.at][2]
        numbers = {seat: int(text) if text in ("0", "1", "2", "3") else 0 for seat, text in texts.items()}
        rewards, die = {}, self.rng.randrange(1, 4)
        if kind == "talk":
            self.said = numbers["right"]
        elif len(numbers) == 1:
            rewards = {"right": numbers["right"] * die, "left": numbers["right"] / 10}
        else:
            late = self.said if self.at == 3 else 0
            for seat, other in (SEATS, SEATS[::-1]):
                rewards[seat] = numbers[seat] * die - 0.25 * numbers[other] * numbers[seat] + late * numbers[seat] / 8
        for seat in SEATS:
            self.log[seat].append(f"{kind} {numbers} die {die}.")
        self.at = 4 if self.at == 0 and sum(numbers.values()) < 2 else self.at + 1
        self.clock = PHASES[self.at][0] if self.at < 4 else 3
        return StepResult(rewards, dict(numbers), tuple(seat for seat in texts if texts[seat] not in "0123"))

    def facts(self):
        return {"said": self.said}


def by_seed(request):
    """An answer that the request's seed alone decides, as sampling would."""
    return random.Random(request.seed).choice(("0", "1", "2", "3", "x"))


def plan_of(kind="tree", **settings):
    return Branching(kind=kind, **settings)


def play(chat, branching, *, say=by_seed, game=Mixed, groups=1, size=1, engine=None, team=None, **settings):
    """All episodes, in order, paid with the game's own payoffs."""
    engine = Speaker(chat, say) if engine is None else engine
    plans = [Plan(group, index, 40 + group, team or TEAM) for group in range(groups) for index in range(size)]
    settings = {"seed": 5, "sampling": Sampling(max_new_tokens=2)} | settings
    sampling, seed = settings.pop("sampling"), settings.pop("seed")
    scripted = ScriptedEngine(settings.pop("players", {}))
    learners = ["alice", "bob"]
    rollout = Rollout(game, chat, engine, scripted, sampling, learners, seed, plan=branching, **settings)
    episodes = asyncio.run(rollout.play(plans))
    for episode in episodes:
        score(episode, {"payoff": (load_reward("payoff"), 1.0)})
    return episodes


def replayed(episode, game=Mixed):
    """(acting seats, rewards) of each decision, from a fresh game given the episode's texts; checks messages."""
    game = game()
    game.reset(episode.seed)
    turns, found = list(episode.turns), []
    while turns:
        seats, step = game.acting(), game.clock
        here, turns = turns[: len(seats)], turns[len(seats) :]
        assert [turn.seat for turn in here] == list(seats)
        assert {turn.step for turn in here} == {step}
        for order, turn in enumerate(here):
            assert turn.order == order
            assert [tuple(message) for message in game.observe(turn.seat)] == turn.messages
        result = game.act({turn.seat: turn.text for turn in here})
        assert [result.actions[turn.seat] for turn in here] == [turn.action for turn in here]
        found.append((seats, result.rewards))
    return found, game


@dataclass
class Node:
    """A joint action of a tree: what each seat said (its sample), what it paid by itself, what followed."""

    name: str
    parent: str
    group: int
    step: int
    samples: dict
    rewards: dict
    texts: dict
    prefix: tuple
    children: list = field(default_factory=list)
    paths: set = field(default_factory=set)

    @property
    def team(self):
        return sum(self.rewards.values())


def nodes_of(episodes, game=Mixed):
    """{(group, name): Node}; what is said of a node in several episodes must agree. Rewards come from replaying."""
    nodes = {}
    for number, episode in enumerate(episodes):
        steps, _ = replayed(episode, game)
        turns, prefix = list(episode.turns), ()
        contexts = {id(turn): tuple(ids) for seat in episode.seats for turn, ids in episode.contexts(seat)}
        for seats, rewards in steps:
            here, turns = turns[: len(seats)], turns[len(seats) :]
            (name,), (parent,) = {turn.marks["node"] for turn in here}, {turn.marks["parent"] for turn in here}
            said = {turn.seat: (turn.text, tuple(turn.completion_ids), tuple(turn.logprobs)) for turn in here}
            asked = tuple((turn.seat, tuple(turn.messages), contexts[id(turn)]) for turn in here)
            samples = {turn.seat: turn.marks["sample"] for turn in here}
            rewards = {seat: rewards.get(seat, 0.0) for seat in episode.seats}
            node = Node(name, parent, episode.group, here[0].step, samples, rewards, said, (prefix, asked))
            known = nodes.setdefault((episode.group, name), node)
            assert (known.parent, known.samples, known.rewards, known.texts, known.prefix) == (
                (node.parent, node.samples, node.rewards, node.texts, node.prefix)
            )
            known.paths.add(number)
            prefix = (*prefix, tuple(text for text, _, _ in said.values()))
    for (group, _), node in nodes.items():
        if node.parent != "root":
            nodes[group, node.parent].children.append(node)
    return nodes


def siblings(nodes):
    """{(group, parent): nodes}: the joint actions of each state."""
    found = {}
    for node in nodes.values():
        found.setdefault((node.group, node.parent), []).append(node)
    return found
