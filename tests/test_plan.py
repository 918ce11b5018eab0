"""What --dry-run says a recipe costs, against what it then costs."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from trainer_fixtures import Rig
from trainer_fixtures import make_recipe as small

from marft.bank import AdapterBank
from marft.engines.hf import HFEngine
from marft.model import load_base
from marft.plan import cost, print_plan
from marft.recipe import load_recipe
from marft.rollout import plan_update
from marft.team import make_rollout
from marft.train.rows import build_rows

ROOT = Path(__file__).parent.parent


def test_parameters_are_those_of_the_loaded_model_and_of_pefts_adapters():
    rig = Rig("agents.bob={adapter: {rank: 5, alpha: 5, targets: all-linear}}")
    plan = cost(rig.recipe)
    base = sum(parameter.numel() for name, parameter in rig.bank.base.named_parameters() if "lora_" not in name)
    assert plan.base == 4 * base
    for name in ("alice", "bob"):
        assert plan.adapters[name] == 4 * sum(parameter.numel() for parameter in rig.bank.parameters(name))


def test_half_precision_halves_the_base_and_not_the_adapters():
    whole, half = cost(small()), cost(small("model.dtype=bfloat16"))
    assert (half.base * 2, half.adapters) == (whole.base, whole.adapters)


def test_tokens_are_those_of_a_real_rollout(cache):
    recipe = load_recipe(ROOT / "recipes" / "prisoners_dilemma" / "naive.yaml")
    base = load_base(recipe)
    bank = AdapterBank(base.model)
    for name in recipe.agents:
        bank.add(name, recipe.adapter_of(name), recipe.seed)
    rollout = make_rollout(recipe, base.chat, bank, HFEngine(bank, base.chat.stop_ids))
    episodes = asyncio.run(rollout.play(plan_update(recipe, 0)))
    rows = build_rows(episodes, np.zeros(sum(len(episode.turns) for episode in episodes)))
    plan = cost(recipe)
    assert plan.trained_rows_per_update == sum(map(len, rows.values()))
    assert plan.tokens_per_update == pytest.approx(sum(len(row) for own in rows.values() for row in own), rel=0.02)


def test_scripted_seats_train_nothing():
    plan = cost(small("team={alice: alice, bob: {scripted: TFT}}", "agents={alice: {}}"))
    assert plan.trained_rows_per_update == 2 * 3
    assert plan.episodes == 2 * 3 * 3


def test_the_plan_prints_its_figures():
    console = Console(record=True, width=120)
    print_plan(small(), console)
    text = console.export_text()
    assert "2 groups × 3 = 6" in text
    assert "× 3 updates = 18" in text
