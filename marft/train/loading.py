"""What a run trains, from the recipe to the devices of this process: bases, adapters, optimizers."""

from __future__ import annotations

from marft.banks import AnyBank, AnyBase, open_bases
from marft.bases import DEFAULT
from marft.config import Recipe
from marft.errors import ModelError, RecipeError
from marft.model import Base, load_base, pick_device
from marft.shards import Shards
from marft.train.offload import offload_state
from marft.train.optimizer import Learner, make_learner
from marft.train.workers import Workers
from marft.train.zero import check_sharded


def load_bases(recipe: Recipe, workers: Workers) -> tuple[AnyBase, AnyBank]:
    """The recipe's bases and a bank on each, cut up where the launch asks for it; every process calls it."""
    if workers.zero.stage == 3:
        check_sharded(recipe)
    base, bank = open_bases(recipe, lambda view: _load(view, workers), packing=recipe.train.packing)
    if workers.zero.stage == 3:  # before there is any adapter, so that only the base is cut up
        bank.shards = Shards(base.model, workers.zero.settings, workers.accelerator.device, workers.most)
    return base, bank


def _load(recipe: Recipe, workers: Workers) -> Base:
    """The main process first: it may have to build the tiny model that the others then find in the cache."""
    wanted, device = recipe.model.device, workers.accelerator.device
    if wanted != "auto" and pick_device(wanted).type != device.type:
        raise ModelError(f"{DEFAULT}.device: {wanted} is asked for, but there is only {device.type}; set auto")
    if workers.zero.stage == 3:
        device = "cpu"  # it goes where it belongs piece by piece
    with workers.accelerator.main_process_first():
        return load_base(recipe, device)


def add_learner(recipe: Recipe, bank: AnyBank, name: str, workers: Workers) -> Learner:
    """An agent's adapter, fresh or the one it starts from, and its optimizer."""
    own, start = bank.of(name), recipe.agents[name].start_from
    if start is not None:
        own.load(name, start)
    else:
        own.add(name, recipe.adapter_of(name), recipe.seed)
    learner = make_learner(own, name, recipe.optimizer_of(name), workers)
    if recipe.train.offload_optimizer:
        if workers.pieces:
            raise RecipeError(
                "train.offload_optimizer: ZeRO cuts the states up already; set it false, or launch without"
            )
        offload_state(learner)
    return learner
