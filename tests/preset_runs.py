"""Every preset learns: on a two-seat coordination game and a three-step bandit, on a tiny model, from several seeds.

`python tests/preset_runs.py` runs the whole table and writes docs/learning.md; `test_learning.py` runs it in the
slow tests. A run stops at the first update whose episodes reach 90 % of the best return there is, or at its budget.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from marft.credit import PRESETS

GAMES = {
    "coordination": {"name": "coordination", "rounds": 3},
    "bandit": {"name": "bandit", "best": [0, 1, 0], "seats": 1},
}
BEST = {"coordination": 3.0, "bandit": 3.0}
"""The best mean return of a seat in an episode."""
SHARE, BUDGET, SEEDS = 0.9, 60, (0, 1, 2)
TINY = {"layers": 1, "hidden": 32, "heads": 2, "kv_heads": 2, "intermediate": 48, "vocabulary": 400}
TINY |= {"warmup_episodes": 256, "warmup_steps": 150, "warmup_batch": 32, "warmup_learning_rate": 0.01}
RECIPE = {
    "name": "learns",
    "model": {"name": "tiny", "device": "cpu", "tiny": TINY},
    "adapter": {"rank": 4, "alpha": 8},
    "optimizer": {"learning_rate": 5.0e-3},
    "critic": {"optimizer": {"learning_rate": 1.0e-2}},
    "sampling": {"max_new_tokens": 2},
    "rollout": {"groups": 4, "group_size": 16},
    "train": {"updates": BUDGET, "gap_limit": 0.2},
    "trackers": [],
}
SPECIAL = {
    "magrpo": ["rollout={groups: 8, group_size: 1, plan: {kind: tree, samples: 3}}"],
    "at_grpo": ["rollout={groups: 8, group_size: 1, plan: {kind: per_state, samples: 6}}"],
    "hacpo": ["train.minibatches=2"],
}
"""What a preset asks of the rollout or the trainer, beyond the recipe of all."""


@dataclass(frozen=True)
class Result:
    """updates: made until the goal was reached, None where it was not. share: of the best return, in the last one."""

    preset: str
    game: str
    seed: int
    updates: int | None
    seconds: float
    share: float


def recipe(preset: str, game: str, seed: int):
    from marft.recipe import apply_override, parse_recipe

    options = dict(GAMES[game])
    if game == "bandit" and PRESETS[preset].settings.alignment.kind != "none":
        options["seats"] = 2  # an alignment needs somebody to align with
    agents = {"alice": {}, "bob": {}} if options.get("seats", 2) == 2 else {"alice": {}}
    data = RECIPE | {"game": options, "agents": agents, "algorithm": preset, "seed": seed}
    data["rollout"] = dict(RECIPE["rollout"])
    for override in SPECIAL.get(preset, ()):
        apply_override(data, override)
    return parse_recipe(data)


def run(preset: str, game: str, seed: int, budget: int = BUDGET) -> Result:
    """One run, without run folder: play, score, learn, until the goal."""
    import torch

    torch.set_num_threads(1)
    from marft.bank import AdapterBank
    from marft.config import Branching
    from marft.engines.hf import HFEngine
    from marft.episode import finished, learnable
    from marft.model import load_base
    from marft.rewards import load_reward
    from marft.rollout import plan_update
    from marft.team import make_rollout
    from marft.train.learning import Learning
    from marft.train.optimizer import make_learner
    from marft.train.table import score_all
    from marft.train.workers import Workers

    settings = recipe(preset, game, seed)
    base = load_base(settings, "cpu")
    bank = AdapterBank(base.model)
    learners = {}
    for name in settings.agents:
        bank.add(name, settings.adapter_of(name), settings.seed)
        learners[name] = make_learner(bank, name, settings.optimizer_of(name))
    engine = HFEngine(bank, base.chat.stop_ids)
    rollout = make_rollout(settings, base.chat, bank, engine)
    learning, state, share = Learning(settings, bank, base.chat, learners, Workers()), {}, 0.0
    began = time.perf_counter()
    whole = replace(rollout, plan=Branching())  # what a tree leaves out is not left out of what is measured
    for update in range(budget):
        for name, learner in learners.items():
            engine.publish(name, learner.version)
        plans = plan_update(settings, update)
        episodes = learnable(asyncio.run(rollout.play(plans)))
        done = finished(asyncio.run(whole.play(plans * 8)) if settings.rollout.plan.branches else episodes)
        share = statistics.fmean(sum(one.returns().values()) / len(one.seats) for one in done) / BEST[game]
        if share >= SHARE:
            return Result(preset, game, seed, update, time.perf_counter() - began, share)
        score_all(episodes, {"payoff": (load_reward("payoff"), 1.0)})
        state = learning.learn(episodes, update, state).state
    return Result(preset, game, seed, None, time.perf_counter() - began, share)


def run_all(presets=tuple(PRESETS), games=tuple(GAMES), seeds=SEEDS, workers: int = 2) -> list[Result]:
    """All runs, `workers` at a time; each base model is built once beforehand."""
    from marft.model import base_source

    for game in games:
        base_source(recipe("rloo", game, 0))
    jobs = [(preset, game, seed) for preset in presets for game in games for seed in seeds]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(run, *zip(*jobs, strict=True)))


def median_updates(results: list[Result]) -> float:
    """The median over seeds; a run that did not arrive counts as infinitely long."""
    return statistics.median(float("inf") if one.updates is None else one.updates for one in results)


def grouped(results: list[Result]) -> dict[tuple[str, str], list[Result]]:
    found: dict[tuple[str, str], list[Result]] = {}
    for one in results:
        found.setdefault((one.preset, one.game), []).append(one)
    return found


if __name__ == "__main__":
    chosen = tuple(sys.argv[1:]) or tuple(PRESETS)
    everything = run_all(chosen)
    for key, results in grouped(everything).items():
        print(*key, [(one.updates, round(one.share, 2), round(one.seconds, 1)) for one in results], flush=True)
    Path("/tmp/preset_runs.json").write_text(json.dumps([asdict(one) for one in everything]))
