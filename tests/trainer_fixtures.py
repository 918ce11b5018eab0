"""What the trainer's tests share: a small base model, recipes on it, and the parts of a run put together by hand."""

import asyncio
import atexit
import copy
import functools
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from marft.bank import AdapterBank
from marft.credit import advantages
from marft.engines.hf import HFEngine
from marft.episode import learnable
from marft.model import base_source, load_base
from marft.recipe import apply_override, parse_recipe
from marft.rewards import load_reward
from marft.rollout import plan_update
from marft.team import make_rollout
from marft.train.learning import Learning
from marft.train.offload import offload_state
from marft.train.optimizer import make_learner
from marft.train.rewarding import score
from marft.train.rows import Row, build_rows
from marft.train.table import turn_table
from marft.train.update import Updater
from marft.train.workers import Workers

torch.set_num_threads(1)  # other work on the machine makes several threads far slower than one

DATA = {
    "name": "test",
    "game": {"name": "prisoners_dilemma", "rounds": 3},
    "agents": {"alice": {}, "bob": {}},
    "adapter": {"rank": 2, "alpha": 4, "targets": ["q_proj", "v_proj"]},
    "optimizer": {"learning_rate": 1.0e-2},
    "sampling": {"max_new_tokens": 2},
    "rollout": {"groups": 2, "group_size": 3},
    "algorithm": "rloo",
    "train": {"updates": 3, "save_every": 2},
    "trackers": [],
}


@functools.cache
def base_folder() -> str:
    """The folder of a tiny model that barely learned the dilemma's format; made once a session."""
    folder = tempfile.mkdtemp(prefix="marft-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny = {"hidden": 32, "heads": 2, "kv_heads": 2, "intermediate": 48, "vocabulary": 400}
    tiny |= {"warmup_episodes": 64, "warmup_steps": 40, "warmup_batch": 16, "warmup_learning_rate": 0.01}
    game = {"name": "prisoners_dilemma", "rounds": 10}
    with mock.patch.dict(os.environ, MARFT_CACHE=folder):
        return base_source(parse_recipe({**DATA, "game": game, "model": {"name": "tiny", "tiny": tiny}}))


def recipe_data(*overrides: str) -> dict:
    """A small recipe as plain data, on the session's base."""
    data = copy.deepcopy(DATA) | {"model": {"name": base_folder(), "device": "cpu"}}
    for override in overrides:
        apply_override(data, override)
    return data


def make_recipe(*overrides: str):
    return parse_recipe(recipe_data(*overrides))


class Rig:
    """The parts of a training run, without run folder and accelerate."""

    def __init__(self, *overrides: str, shaken: float = 0.05):
        self.recipe = make_recipe(*overrides)
        self.base = load_base(self.recipe, "cpu")
        if self.recipe.model.dtype == "float64":
            widen(self.base.model)
        self.bank = AdapterBank(self.base.model, self.recipe.train.packing)
        self.learners = {}
        for name in self.recipe.agents:
            self.bank.add(name, self.recipe.adapter_of(name), self.recipe.seed)
            self.learners[name] = make_learner(self.bank, name, self.recipe.optimizer_of(name))
            if self.recipe.train.offload_optimizer:
                offload_state(self.learners[name])
            if shaken:
                shake(self.bank, name, shaken)
        self.engine = HFEngine(self.bank, self.base.chat.stop_ids)
        self.rollout = make_rollout(self.recipe, self.base.chat, self.bank, self.engine)
        recipe = self.recipe
        self.updater = Updater(self.bank, recipe.algorithm, recipe.sampling, recipe.train, Workers(None), recipe.seed)

    def play(self, update: int = 0) -> list:
        """One update's scored episodes: finished ones, and branches that were not played on."""
        for name, learner in self.learners.items():
            self.engine.publish(name, learner.version)
        episodes = learnable(asyncio.run(self.rollout.play(plan_update(self.recipe, update))))
        for episode in episodes:
            score(episode, {"payoff": (load_reward("payoff"), 1.0)})
        return episodes

    def learning(self) -> Learning:
        """The same parts, taught whole lessons."""
        return Learning(self.recipe, self.bank, self.base.chat, self.learners, Workers(None))

    def rows(self, episodes) -> dict:
        return build_rows(episodes, advantages(self.recipe.algorithm, turn_table(episodes)))

    def gradient(self, name: str, rows) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """The gradient that one update would step along (if it is not clipped), by name, and the update's report."""
        learner = self.learners[name]
        own, learner.optimizer = learner.optimizer, Recorder(self.bank.named_parameters(name))
        try:
            report = self.updater.update(learner, rows)
            return learner.optimizer.seen[0], report
        finally:
            learner.optimizer, learner.version = own, learner.version - 1


def widen(model) -> None:
    """Let a float64 model compute its norms in float64 too: transformers casts to float32, whose rounding is 1e-8."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = functools.partial(_norm, module)


def _norm(module, hidden: torch.Tensor) -> torch.Tensor:
    return module.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + module.variance_epsilon)


def one_by_one(learning) -> None:
    """Let agents of a stage be updated in turn, not in mixed passes, for tests that look at each call."""
    learning.updater.train = learning.updater.train.model_copy(update={"step": "loop"})


class Recorder:
    """In the place of an optimizer: keeps weights, gradient and learning rate of each step; `inner` makes the step."""

    def __init__(self, parameters, inner=None):
        self.parameters, self.inner = parameters, inner
        self.seen, self.weights, self.rates = [], [], []
        self.param_groups = inner.param_groups if inner is not None else [{"lr": 0.0}]

    def step(self):
        self.rates.append(self.param_groups[0]["lr"])
        self.seen.append({name: parameter.grad.clone() for name, parameter in self.parameters.items()})
        self.weights.append({name: parameter.detach().clone() for name, parameter in self.parameters.items()})
        if self.inner is not None:
            self.inner.step()

    def zero_grad(self, set_to_none=True):
        for parameter in self.parameters.values():
            parameter.grad = None


def shake(bank, name: str, scale: float) -> None:
    """Move an adapter off the base: noise on every weight, the same for the same name."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    with torch.no_grad():
        for parameter in bank.parameters(name):
            parameter += scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def distance(one, other) -> float:
    """The largest difference between two dictionaries of tensors, relative to the largest entry."""
    assert one.keys() == other.keys()
    size = max(float(value.abs().max()) for value in other.values())
    return max(float((one[name] - other[name]).abs().max()) for name in one) / max(size, 1e-30)


def snapshot(bank, name: str) -> dict[str, torch.Tensor]:
    """A copy of an adapter's weights."""
    return {key: value.detach().clone() for key, value in bank.named_parameters(name).items()}


def equal(one, other) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def make_row(agent, ids, targets, engine, advantage, turn) -> Row:
    """A row by hand whose tokens all belong to one place and count once."""
    whole = np.zeros(len(turn), dtype=np.int64)
    return Row(agent, ids, targets, engine, advantage, turn, np.arange(len(turn)), whole, np.ones(len(turn)))


def random_advantages(episodes, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=len(turn_table(episodes)["reward_U"]))


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
