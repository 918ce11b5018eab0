"""Every preset learns: on a two-seat coordination game and a three-step bandit, on a tiny model, from several seeds.

`python tests/preset_runs.py` runs the whole table and writes docs/learning.md; `test_learning.py` runs it in the
slow tests. A run stops at the first update whose episodes reach 90 % of the best return there is, or at its budget.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from marft.credit import PRESETS

GAMES = {
    "coordination": {"name": "coordination", "rounds": 3},
    "bandit": {"name": "bandit", "best": [0, 1, 0], "seats": 1},
}
BEST = {"coordination": 3.0, "bandit": 3.0}
"""The best mean return of a seat in an episode."""
SHARE, SEEDS = 0.9, (0, 1, 2)
BUDGET, ALTERNATING = 80, 120
"""Updates a run may make; where one agent is updated at a time it may make more."""
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
    "train": {"updates": ALTERNATING, "gap_limit": 0.2},
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


def budget_of(preset: str) -> int:
    return ALTERNATING if PRESETS[preset].settings.update.kind == "round_robin" else BUDGET


def run(preset: str, game: str, seed: int) -> Result:
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
    from marft.train.rewarding import score_all
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
    for update in range(budget_of(preset)):
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


def page(results: list[Result]) -> str:
    """docs/learning.md."""
    lines = [
        "# What each preset needs to learn",
        "",
        "<!-- Written by python tests/preset_runs.py. -->",
        "",
        "Two games on the tiny model (1 layer, width 32, adapters of rank 4, 64 episodes an update, learning rate",
        "5e-3): three rounds of `coordination`, in which two agents have to settle on the same action, and a `bandit`",
        "of three steps with another best arm at each. The number of updates until an update's episodes reach",
        f"{100 * SHARE:.0f} % of the best return, the median of {len(SEEDS)} seeds and its range, and the seconds that "
        "took on one core.",
        "The slow tests repeat it.",
        "",
        "| preset | coordination: updates | seconds | bandit: updates | seconds |",
        "|---|---|---|---|---|",
    ]
    found = grouped(results)
    for preset in dict.fromkeys(one.preset for one in results):
        cells = [f"`{preset}`"]
        for game in GAMES:
            runs = found[preset, game]
            counts = sorted(float("inf") if one.updates is None else one.updates for one in runs)
            seconds = statistics.median(one.seconds for one in runs)
            cells += [f"{statistics.median(counts):g} ({counts[0]:g} to {counts[-1]:g})", f"{seconds:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"The budget is {BUDGET} updates, {ALTERNATING} where agents take turns; `inf` is a seed that did "
        "not arrive in time.",
        "`magrpo` and `at_grpo` play trees of 3 and 6 samples a state; `hacpo` makes two optimizer steps an update; a",
        "preset that aligns advantages has a bandit for each of two agents. Nothing is tuned for any preset, so the",
        "numbers say that each works, not which is best.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    everything = run_all(tuple(sys.argv[1:]) or tuple(PRESETS))
    for key, results in grouped(everything).items():
        print(*key, [(one.updates, round(one.share, 2), round(one.seconds, 1)) for one in results])
    if len(sys.argv) == 1:
        (Path(__file__).parents[1] / "docs" / "learning.md").write_text(page(everything), encoding="utf-8")
