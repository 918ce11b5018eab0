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
from marft.errors import ModelError
from marft.model import load_base
from marft.plan import cost, print_plan
from marft.recipe import load_recipe
from marft.rollout import plan_update
from marft.sharing import passes_of, tokens_of
from marft.team import make_rollout
from marft.train.rows import build_rows

ROOT = Path(__file__).parent.parent


def test_parameters_are_those_of_the_loaded_model_and_of_pefts_adapters():
    rig = Rig("agents.bob={adapter: {rank: 5, alpha: 5, targets: all-linear}}")
    plan = cost(rig.recipe)
    base = sum(parameter.numel() for name, parameter in rig.bank.base.named_parameters() if "lora_" not in name)
    assert plan.memory.base == 4 * base
    for name in ("alice", "bob"):
        assert plan.adapters[name] == 4 * sum(parameter.numel() for parameter in rig.bank.parameters(name))


@pytest.mark.parametrize(
    "targets", ["[self_attn.q_proj]", "[q_proj, lm_head]", "[embed_tokens]", "[0.mlp.up_proj, o_proj]"]
)
def test_targets_mean_what_peft_means_by_them(targets):
    rig = Rig(f"adapter={{rank: 3, targets: {targets}}}")
    expected = sum(parameter.numel() for parameter in rig.bank.parameters("alice"))
    assert expected
    assert cost(rig.recipe).adapters["alice"] == 4 * expected


def test_targets_that_are_not_there_are_refused():
    with pytest.raises(ModelError, match=r"agents\.alice\.adapter: .*no_such"):
        cost(small("adapter.targets=[no_such]"))


def test_double_precision_doubles_everything():
    single, double = cost(small()), cost(small("model.dtype=float64"))
    assert {name: 2 * size for name, size in single.adapters.items()} == double.adapters
    assert 2 * single.memory.base == double.memory.base
    assert 2 * single.memory.optimizers == double.memory.optimizers


def test_half_precision_halves_the_base_and_not_the_adapters():
    whole, half = cost(small()), cost(small("model.dtype=bfloat16"))
    assert (half.memory.base * 2, half.adapters) == (whole.memory.base, whole.adapters)


def test_tokens_are_those_of_a_real_rollout(cache):
    recipe = load_recipe(ROOT / "recipes" / "prisoners_dilemma" / "naive.yaml")
    base = load_base(recipe)
    bank = AdapterBank(base.model)
    for name in recipe.agents:
        bank.add(name, recipe.adapter_of(name), recipe.seed)
    engine = HFEngine(bank, base.chat.stop_ids)
    engine.end_sessions = lambda start="": None  # keys and values stay, to be measured
    rollout = make_rollout(recipe, base.chat, bank, engine)
    episodes = asyncio.run(rollout.play(plan_update(recipe, 0)))
    rows = build_rows(episodes, np.zeros(sum(len(episode.turns) for episode in episodes)))
    plan = cost(recipe)
    assert plan.trained_rows_per_update == sum(map(len, rows.values()))
    assert plan.tokens_per_update == pytest.approx(sum(len(row) for own in rows.values() for row in own), rel=0.02)
    for step, own in (("loop", rows["alice"]), ("auto", [row for each in rows.values() for row in each])):
        train = recipe.train.model_copy(update={"step": step, "token_budget": 10_000})
        batch = cost(recipe.model_copy(update={"train": train})).batch
        most = min(10_000, sum(map(len, own)))  # if no two plays began alike
        assert batch.tokens == pytest.approx(most, rel=0.05)
        assert all(tokens_of([own[number] for number in pack]) <= most for pack in passes_of(own, 10_000))
        assert batch.trained == pytest.approx(most * np.mean([len(row.targets) / len(row) for row in own]), rel=0.1)
    held = sum(tensor.nbytes for store in (engine._cache.keys, engine._cache.values) for tensor in store)
    assert plan.memory.cache <= held <= 1.5 * plan.memory.cache  # it grows by 64 positions, and there are two or three


def test_answers_may_be_as_long_as_sampling_allows():
    short, long = cost(small()), cost(small("sampling.max_new_tokens=102"))
    assert long.batch.longest == short.batch.longest + 3 * 100  # rounds
    assert long.row_tokens == short.row_tokens
    assert cost(small("sampling.max_new_tokens=5000")).batch.longest == 2048  # the model's context


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
