"""The timed parts of the benchmark: rollout, update, and what keeping keys and values is worth."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from accelerate import Accelerator
from job import Job, write_model
from timing import medians

from marft import scoring
from marft.config import Recipe
from marft.engines import hf
from marft.recipe import load_recipe, parse_recipe
from marft.rollout import plan_update
from marft.train.folder import RunFolder
from marft.train.loop import Trainer
from marft.train.workers import Workers

RECIPE = Path(__file__).parent.parent / "recipes" / "prisoners_dilemma" / "ad_align.yaml"


def trainer(*overrides: str) -> Trainer:
    """The demo's ad_align trainer, in a folder of its own."""
    return trainer_of(load_recipe(RECIPE, ["trackers=[]", *overrides]))


def trainer_of(recipe: Recipe) -> Trainer:
    folder = RunFolder(Path(tempfile.mkdtemp(prefix="marft-bench-")))
    made = Trainer(recipe, folder, Workers(Accelerator(cpu=True)))
    for name, learner in made.learners.items():
        made.engine.publish(name, learner.version)
    return made


class ModelClock:
    """Seconds in generate (`complete`), forward, backward and the optimizer's step, by wrapping them."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._depth = 0

    def wrap(self, owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            self._depth += 1
            try:
                return call(*arguments, **options)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self.seconds[name] += time.perf_counter() - began

        setattr(owner, name, timed)


@contextlib.contextmanager
def model_clock(made: Trainer) -> Iterator[ModelClock]:
    """Count what `made` and everything it uses spend in the model."""
    clock = ModelClock()
    kept = [(owner, name, getattr(owner, name)) for owner, name in _MODEL_CALLS]
    for owner, name in _MODEL_CALLS:
        clock.wrap(owner, name)
    clock.wrap(made.bank, "hidden")
    clock.wrap(made.bank, "head")
    for learner in made.learners.values():
        clock.wrap(learner.optimizer, "step")
    try:
        yield clock
    finally:
        for owner, name, call in kept:
            setattr(owner, name, call)


_MODEL_CALLS = [(torch.Tensor, "backward"), (hf.HFEngine, "complete"), (scoring, "token_scores")]


def training(rounds: int) -> list[tuple[str, str]]:
    """Whole updates, and their parts."""
    made = trainer()
    made.step()
    lines, sampled, fed = [], [], []
    for _ in range(rounds):
        made.engine.counters = hf.Counters()
        began = time.perf_counter()
        line = made.step()
        lines.append(line | {"whole": time.perf_counter() - began})
        sampled.append(made.engine.counters.sampled / line["seconds/rollout"])
        fed.append(made.engine.counters.fed / line["seconds/rollout"])

    def mid(key: str) -> float:
        return median(line[key] for line in lines)

    turns = made.recipe.rollout.groups * made.recipe.rollout.group_size * 20
    tokens = median(sum(line[f"agent/{name}/tokens"] for name in made.learners) for line in lines)
    return [
        ("one update, all of it", f"{mid('whole'):.2f} s"),
        ("rollout", f"{mid('seconds/rollout'):.2f} s: {turns / mid('seconds/rollout'):,.0f} decisions/s"),
        ("tokens through the model in rollout", f"{median(fed):,.0f} tokens/s fed, {median(sampled):,.0f} sampled"),
        (
            "update of both agents",
            f"{mid('seconds/update'):.2f} s: {tokens / mid('seconds/update'):,.0f} tokens/s trained",
        ),
        ("credit", f"{1000 * mid('seconds/credit'):.0f} ms"),
        ("episodes to disk and metrics", f"{1000 * mid('seconds/store'):.0f} ms"),
    ]


def outside(rounds: int) -> list[tuple[str, str]]:
    """What an update spends outside generate, forward, backward and optimizer, and on what, for a small job and for
    the peers'."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = {
            "the demo's update": trainer(),
            "two agents, 512 answers of 64 tokens": trainer_of(
                parse_recipe(Job().recipe(write_model(Path(folder), Job())))
            ),
        }
        return [(what, spent_outside(made, rounds)) for what, made in jobs.items()]


def spent_outside(made: Trainer, rounds: int) -> str:
    made.step()
    shares: dict[str, list[float]] = {}
    with model_clock(made) as clock:
        for _ in range(rounds):
            clock.seconds.clear()
            began = time.perf_counter()
            line = made.step()
            whole = time.perf_counter() - began
            phases = {key.removeprefix("seconds/"): value for key, value in line.items() if key.startswith("seconds/")}
            inside = {"rollout": clock.seconds["complete"]}
            inside["update"] = sum(clock.seconds.values()) - inside["rollout"]
            spent = {phase: seconds - inside.get(phase, 0.0) for phase, seconds in phases.items()}
            spent["all"] = whole - sum(inside.values())
            for name, seconds in spent.items():
                shares.setdefault(name, []).append(100 * seconds / whole)
    found = {name: median(values) for name, values in shares.items()}
    parts = sorted(found.keys() - {"all"}, key=found.get, reverse=True)
    return f"{found['all']:.1f} % of it: " + ", ".join(f"{name} {found[name]:.1f} %" for name in parts)


def cache_reuse(rounds: int) -> list[tuple[str, str]]:
    """The same rollout with and without the cache, for two lengths of the game."""
    rows = []
    for length in (10, 30):
        made = {keep: trainer(f"engine.reuse_cache={keep}", f"game.rounds={length}") for keep in ("true", "false")}
        counts = {}

        def play(keep: str, made: dict[str, Trainer] = made, counts: dict[str, int] = counts) -> None:
            made[keep].engine.counters = hf.Counters()
            asyncio.run(made[keep].source.rollout.play(plan_update(made[keep].recipe, 0)))
            counts[keep] = made[keep].engine.counters.fed

        seconds = medians({keep: lambda keep=keep: play(keep) for keep in made}, rounds)
        rows.append(
            (
                f"{length} rounds",
                f"{seconds['true']:.2f} s and {counts['true']:,} tokens with, {seconds['false']:.2f} s and "
                f"{counts['false']:,} tokens without: {seconds['false'] / seconds['true']:.1f} times as fast",
            )
        )
    return rows
