"""Optimizer states that lie elsewhere between their agents' steps: the same numbers, and not on the device."""

import torch
from safetensors.torch import load_file
from trainer_fixtures import Rig, equal, make_recipe, snapshot

from marft.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from marft.train.offload import offload_state, to_host
from marft.train.optimizer import Learner

DEVICE_DTYPE, ELSEWHERE = torch.float32, torch.float64
"""There is no second device where the tests run: another type, which holds every float32, stands for another place."""


def away(value):
    return value.to(ELSEWHERE)


def places(learner):
    """Types of all states that are as large as a parameter."""
    return {value.dtype for state in learner.optimizer.state.values() for value in state.values() if value.dim()}


SETTINGS = ("train={updates: 4, minibatches: 2}", "optimizer={learning_rate: 0.01, weight_decay: 0.1}")


def trained(offload):
    """A rig after two updates of both agents, and where their states were during each step."""
    rig, seen = Rig(*SETTINGS), []
    for learner in rig.learners.values():
        if offload:
            offload_state(learner, away)
        learner.optimizer.register_step_pre_hook(
            lambda *_: seen.append(tuple(places(one) for one in rig.learners.values()))
        )
    rows = rig.rows(rig.play())
    for _ in range(2):
        for name, learner in rig.learners.items():
            rig.updater.train = rig.recipe.train.model_copy(update={"gap_limit": 1e9})  # the rows are the first's
            rig.updater.update(learner, rows[name])
    return rig, seen


def test_results_are_bit_equal_and_only_the_stepping_agents_state_is_there():
    (plain, _), (moved, seen) = trained(False), trained(True)
    here, there = {DEVICE_DTYPE}, {ELSEWHERE}
    for name in ("alice", "bob"):
        assert equal(snapshot(moved.bank, name), snapshot(plain.bank, name))
        assert (places(plain.learners[name]), places(moved.learners[name])) == (here, there)
    first = [(set(), set()), (here, set()), (there, set()), (there, here)]
    assert seen == first + [(here, there)] * 2 + [(there, here)] * 2


def test_a_checkpoint_of_offloaded_states_is_that_of_others_and_comes_back(tmp_path):
    (plain, _), (moved, _) = trained(False), trained(True)
    for name, rig in (("plain", plain), ("moved", moved)):
        save_checkpoint(tmp_path / name, rig.bank, rig.learners, Progress(update=2))
    stored = [load_file(tmp_path / name / "update-000002/optimizers/alice.safetensors") for name in ("plain", "moved")]
    assert equal(*({key: value.to(DEVICE_DTYPE) for key, value in one.items()} for one in stored))
    fresh = Rig(*SETTINGS)
    for learner in fresh.learners.values():
        offload_state(learner, away)
    load_checkpoint(tmp_path / "moved" / "update-000002", fresh.bank, fresh.learners)
    rows = fresh.rows(fresh.play())["alice"]
    for rig in (plain, fresh):
        rig.updater.update(rig.learners["alice"], rows)
    assert equal(snapshot(fresh.bank, "alice"), snapshot(plain.bank, "alice"))


def test_on_the_cpu_there_is_nothing_to_move():
    weight = torch.nn.Parameter(torch.zeros(3))
    learner = Learner("alice", torch.optim.AdamW([weight]), None)
    offload_state(learner)
    weight.grad = torch.ones(3)
    learner.optimizer.step()
    held = learner.optimizer.state[weight]["exp_avg"]
    assert to_host(held) is held
    learner.optimizer.step()
    assert learner.optimizer.state[weight]["exp_avg"] is held


def test_the_recipe_says_so():
    assert not make_recipe().train.offload_optimizer
    assert all(learner.offload for learner in Rig("train.offload_optimizer=true").learners.values())
