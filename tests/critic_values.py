"""A game small enough that every critic's value function can be written down, and a policy that is known.

Two rounds of the prisoner's dilemma, payoffs divided by 5; either seat mostly does what the other did last. The value
of each decision follows by going through all histories backwards.
"""

from __future__ import annotations

import functools
import itertools
import random

from marft.seeds import derive

ROUNDS = 2
FIRST, AFTER = 0.5, (0.8, 0.1)
"""Probability of action 0 in the first round, and after the other's action 0 or 1."""
PAYS = {(0, 0): (0.6, 0.6), (1, 1): (0.2, 0.2), (0, 1): (0.0, 1.0), (1, 0): (1.0, 0.0)}
NAMES = ("<A>", "<B>")


def chance(last: tuple[int, int] | None, seat: int) -> float:
    """Probability that `seat` takes action 0 after the joint action `last`."""
    return FIRST if last is None else AFTER[last[1 - seat]]


def joint(last):
    """(probability, joint action) of all that may happen after `last`."""
    first, second = chance(last, 0), chance(last, 1)
    for a, b in itertools.product((0, 1), repeat=2):
        yield (first if a == 0 else 1 - first) * (second if b == 0 else 1 - second), (a, b)


@functools.cache
def to_go(step: int, last, seat: int | None, gamma: float) -> float:
    """V of a seat, or of the team (seat None: the sum of both), before round `step`."""
    if step == ROUNDS:
        return 0.0

    def earned(now):
        return sum(PAYS[now]) if seat is None else PAYS[now][seat]

    return sum(p * (earned(now) + gamma * to_go(step + 1, now, seat, gamma)) for p, now in joint(last))


@functools.cache
def in_chain(step: int, last, spoken: int | None, gamma: float, links: int) -> float:
    """V along the chain of agents: before the first seat (spoken None), or before the second, whose reward counts.

    links: how often a turn discounts: once, or once for each of its tokens; the reward stands on the last of them.
    """
    if step == ROUNDS:
        return 0.0
    total, later = 0.0, gamma**links
    for action in (0, 1):
        p = chance(last, 0 if spoken is None else 1)
        p = p if action == 0 else 1 - p
        if spoken is None:
            total += p * later * in_chain(step, last, action, gamma, links)
        else:
            now = (spoken, action)
            total += p * (PAYS[now][1] * gamma ** (links - 1) + later * in_chain(step + 1, now, None, gamma, links))
    return total


def debated(step: int, last, seat: int) -> float:
    """E of MAPoRL's shared score at γ = 1: the own payoff now and the team's mean later ones, over the rounds left."""
    mean_later = sum(p * later(step + 1, now) for p, now in joint(last))
    own_now = sum(p * PAYS[now][seat] for p, now in joint(last))
    return (own_now + mean_later) / (ROUNDS - step)


def later(step: int, last) -> float:
    """E of the sum of the team's mean payoffs from round `step` on."""
    if step == ROUNDS:
        return 0.0
    return sum(p * (sum(PAYS[now]) / 2 + later(step + 1, now)) for p, now in joint(last))


class Known:
    """An engine that plays the known policy: it remembers each session's prompts as the game's messages."""

    def __init__(self, chat) -> None:
        self.chat = chat

    async def generate(self, requests):
        from marft.engines.base import Completion

        answers = []
        for request in requests:
            text = self.chat.tokenizer.decode(request.prompt_ids)
            told = text.rpartition("The other chose ")[2][:3] if "The other chose " in text else None
            last = None if told is None else (NAMES.index(told),) * 2
            draw = random.Random(derive(request.seed, "known")).random()
            said = NAMES[0] if draw < chance(last, 0) else NAMES[1]
            ids = [*self.chat.plain(said), self.chat.end_id]
            answers.append(Completion(ids, [-0.5] * len(ids), "stop", 0))
        return answers

    def end_sessions(self, start=""):
        pass
