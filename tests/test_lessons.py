"""Whole lessons and whole runs: every preset once, what resumes to the bit, and what a run warns about."""

import dataclasses
import json
import logging
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from plain_peft import paid
from safetensors.torch import load_file
from trainer_fixtures import Rig, equal, make_recipe, snapshot

from marft.credit import PRESETS, assess, token_advantages
from marft.credit.advice import warnings_for
from marft.recipe import facts_of
from marft.store import read_episodes
from marft.train import loop
from marft.train.critic import NAME
from marft.train.folder import read_metrics
from marft.train.loop import train

SPECIAL = {
    "magrpo": ["rollout={groups: 2, group_size: 1, plan: {kind: tree, samples: 2}}"],
    "at_grpo": ["rollout={groups: 2, group_size: 1, plan: {kind: per_state, samples: 3}}"],
    "hacpo": ["train.minibatches=2"],
}
CRITIC = {"ad_align_original", "marft", "marft_token", "ippo", "mappo", "maporl", "turn_ppo", "st_ppo"}
ONE_AT_A_TIME = {"marft", "marft_token", "rema", "rema_code"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_lesson_and_moves_the_adapters_it_should(preset):
    rig = Rig(f"algorithm={preset}", *SPECIAL.get(preset, ()))
    learning = rig.learning()
    assert (learning.critic is not None) == (preset in CRITIC)
    names = ["alice", "bob", *([NAME] if preset in CRITIC else [])]
    state, learns = {}, ["alice"] if preset in ONE_AT_A_TIME else ["alice", "bob"]
    before = {name: snapshot(rig.bank, name) for name in names}
    base = {name: value.clone() for name, value in rig.bank.peft.named_parameters() if "lora_" not in name}
    episodes = paid(rig.play(), 4, low=0.0)
    lesson = learning.learn(episodes, 0, state)
    moved = {name for name in names if not equal(snapshot(rig.bank, name), before[name])}
    assert moved == {*learns, *({NAME} & set(names))}
    assert set(lesson.reports) == set(learns)
    assert {name: learner.version for name, learner in rig.learners.items()} == {
        n: int(n in learns) for n in before if n != NAME
    }
    after = {name: value for name, value in rig.bank.peft.named_parameters() if "lora_" not in name}
    assert equal(after, base)
    for report in (*lesson.reports.values(), lesson.critic):
        assert all(math.isfinite(value) for value in report.values())
    assert json.loads(json.dumps(lesson.state)) == lesson.state  # it goes into a checkpoint
    algorithm = rig.recipe.algorithm
    if algorithm.return_.kind == "gae_token":
        turn_N = np.repeat(np.arange(len(lesson.table["tokens_U"])), lesson.table["tokens_U"])
        found = token_advantages(algorithm, lesson.table, turn_N, np.linspace(0, 1, len(turn_N)), {})
    else:
        found = assess(algorithm, lesson.table, {}).advantage_U
    assert np.isfinite(found).all()
    assert found.any()


# Resume.


FOUR = "train={updates: 4, save_every: 1, keep_last: 4, epochs: 2}"
RUNS = {
    "rae": ["algorithm=rae", FOUR],
    "entropy history": ["algorithm={preset: epo, entropy_band: {low: 1.0, high: 1.0}}", FOUR],
    "capability": ["algorithm=hacpo", "train={updates: 4, save_every: 1, minibatches: 2}"],
    "snapshot": ["algorithm={preset: rloo, update: round_robin, kl: {coef: 0.1, anchor: snapshot}}", FOUR],
    "sequential": ["algorithm={preset: rloo, ratio: {kind: token}, update: sequential}", FOUR],
    "critic": ["algorithm=mappo", FOUR],
}
MEMORY = {"rae": "ema", "entropy history": "entropies", "capability": "capability"}
"""Where credit's memory stands that a kind of run needs."""


def content(folder):
    """All that a run leaves behind, without what the clock says."""
    lines = [
        {key: value for key, value in line.items() if not key.startswith("seconds/")}
        for line in read_metrics(folder / "metrics.jsonl")
    ]
    tensors = {str(path.relative_to(folder)): load_file(path) for path in sorted(folder.rglob("*.safetensors"))}
    states = {
        str(path.relative_to(folder)): json.loads(path.read_text()) for path in sorted(folder.rglob("state.json"))
    }
    return lines, list(read_episodes(folder)), states, tensors


@pytest.mark.parametrize("kind", RUNS)
def test_what_credit_and_terms_remember_survives_a_break(kind, tmp_path, monkeypatch):
    recipe = make_recipe(
        *RUNS[kind],
        "train={updates: 4, save_every: 1, %s}" % ("minibatches: 2" if kind == "capability" else "epochs: 2"),
    )
    whole = content(train(recipe, tmp_path / "whole"))
    original, calls = loop.write_parquet, []

    def break_off(*arguments):
        calls.append(arguments)
        if len(calls) == 4:  # the last update: three are in memory only as their checkpoint has them
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(loop, "write_parquet", break_off)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run")
    monkeypatch.undo()
    resumed = content(train(recipe, tmp_path / "run", resume=True))
    assert resumed[:3] == whole[:3]
    assert resumed[3].keys() == whole[3].keys()
    assert all(equal(resumed[3][path], tensors) for path, tensors in whole[3].items())
    memory = whole[2]["checkpoints/update-000004/state.json"]["progress"]["credit"]
    assert set(memory) == {"progress", *filter(None, [MEMORY.get(kind)])}


@pytest.mark.parametrize("kind", MEMORY)
def test_a_run_that_lost_its_memory_goes_on_differently(kind, tmp_path, monkeypatch):
    """So that the resume above tests something."""
    recipe = make_recipe(*RUNS[kind])
    whole = content(train(recipe, tmp_path / "run"))
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "update-000004")
    original = loop.load_checkpoint
    monkeypatch.setattr(loop, "load_checkpoint", lambda *rest: dataclasses.replace(original(*rest), credit={}))
    forgot = content(train(recipe, tmp_path / "run", resume=True))
    assert forgot[1] == whole[1]  # the same episodes, of which it learns something else
    assert forgot[0][:3] == whole[0][:3]
    assert forgot[0][3] != whole[0][3]


# Warnings.


def test_a_run_says_each_warning_once(tmp_path, caplog):
    recipe = make_recipe("train={updates: 3, save_every: 3}", "rollout.group_size=1")
    with caplog.at_level(logging.INFO, logger="marft"):
        train(recipe, tmp_path / "run")
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert {record.name for record in caplog.records if record.levelno == logging.WARNING} == {"marft"}
    assert len(said) == len(set(said))
    of_recipe = [f"test: {sentence}" for sentence in warnings_for(recipe.algorithm, facts_of(recipe))]
    assert of_recipe
    assert said == [
        *of_recipe,
        "test: 4 of 4 groups of baseline.key ['instance', 'seat'] have one member: advantage 0",
        "test: every advantage of the batch is 0: nothing will be learned from it; are all rewards equal?",
    ]


def test_a_warning_whose_numbers_change_is_not_said_again(caplog):
    for main in (True, False):
        caplog.clear()
        trainer = object.__new__(loop.Trainer)
        trainer.recipe, trainer.workers, trainer._warned = make_recipe(), SimpleNamespace(main=main), set()
        trainer._warn(["3 of 12 groups have one member", "another"])
        trainer._warn(["another", "11 of 12 groups have one member", "a third"])
        expected = ["test: 3 of 12 groups have one member", "test: another", "test: a third"]
        assert [record.getMessage() for record in caplog.records] == (expected if main else [])
