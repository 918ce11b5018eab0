"""What playing while training is worth: wall time of a run whose rollout and update take equally long.

The engine is simulated: every decision of an episode takes a fixed time, as on a server with room for all, and an
update is a pause of fixed length; nothing is computed, so that a busy machine does not blur the figures. The parts that
order play and training are marft's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from statistics import median

from speed import RECIPE

from marft.chat import Chat
from marft.engines.base import Completion, Request
from marft.games import make_game
from marft.model import load_base
from marft.recipe import load_recipe
from marft.rollout import Rollout
from marft.team import game_maker
from marft.train.asynchronous import Asynchronous
from marft.train.source import Synchronous
from marft.train.workers import Workers

DECISION = 0.04
"""Seconds that one completion takes."""
ROUNDS = 10
UPDATES = 12
UPDATE = DECISION * ROUNDS
"""Seconds that an update takes: as long as its rollout."""


class Simulated:
    """An engine that says the same always, after a fixed time."""

    shares_weights = False

    def __init__(self, chat: Chat, seconds: Callable[[Request], float]) -> None:
        self.said, self.seconds, self.version = [*chat.plain("<A>"), chat.end_id], seconds, 0

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        await asyncio.sleep(max(map(self.seconds, requests)))
        return [Completion(self.said, [-0.5] * len(self.said), "stop", self.version) for _ in requests]

    def prepare(self, policies: Sequence[str]) -> None:
        return None

    def end_sessions(self, start: str = "") -> None:
        return None


def run(chat: Chat, staleness: int, seconds: Callable[[Request], float]) -> dict[str, float]:
    """Wall time of a run of UPDATES updates, and what its source reported, as seconds in all or as means."""
    settings = ["rollout={groups: 4, group_size: 2}", f"rollout.max_staleness={staleness}", f"game.rounds={ROUNDS}"]
    recipe = load_recipe(RECIPE, [*settings, f"train.updates={UPDATES}", "trackers=[]"])
    game, engine = make_game(recipe.game.name, recipe.game.options), Simulated(chat, seconds)
    rollout = Rollout(game_maker(game), chat, engine, engine, recipe.sampling, list(recipe.agents), recipe.seed)
    source = (Asynchronous if staleness else Synchronous)(recipe, rollout, Workers())
    gauges: list[dict[str, float]] = []
    began = time.perf_counter()
    for update in range(UPDATES):
        engine.version = update
        gauges.append(source.take(update, dict.fromkeys(recipe.agents, update)).gauges)
        time.sleep(UPDATE)
    wall = time.perf_counter() - began
    source.close()
    found = {key: sum(one[key] for one in gauges) for key in gauges[0]}
    return {"wall": wall} | found | {"async/staleness_max": max(one.get("async/staleness_max", 0.0) for one in gauges)}


def even(request: Request) -> float:
    """Every decision takes as long."""
    return DECISION


def uneven(request: Request) -> float:
    """One group of the four is three times as slow, the others fast, so that the update's rollout takes as long."""
    return DECISION if "-g0001-" in request.session else DECISION / 3


def table(rounds: int) -> list[tuple[str, str]]:
    """Rows of the benchmark's table; runs take turns."""
    chat = load_base(load_recipe(RECIPE, ["trackers=[]"])).chat
    rows = []
    for name, seconds in (("all episodes as long", even), ("one group of four three times as long", uneven)):
        runs = {staleness: [] for staleness in (0, 1, 2)}
        for _ in range(rounds):
            for staleness, found in runs.items():
                found.append(run(chat, staleness, seconds))
        walls = {staleness: median(one["wall"] for one in found) for staleness, found in runs.items()}
        rows.append((f"{name}: synchronous", f"{walls[0]:.2f} s for {UPDATES} updates"))
        for staleness in (1, 2):
            last = runs[staleness][-1]
            rows.append(
                (
                    f"{name}: max_staleness {staleness}",
                    f"{walls[staleness]:.2f} s, {walls[staleness] / walls[0]:.2f} × the synchronous run; waited for "
                    f"rollouts {last['async/wait']:.2f} s, rollouts stood still {last['async/back_pressure']:.2f} s, "
                    f"{last['episodes/dropped']:.0f} episodes dropped, at most "
                    f"{last['async/staleness_max']:.0f} versions old",
                )
            )
    return rows


if __name__ == "__main__":
    for what, figure in table(3):
        print(f"{what}: {figure}")
