"""The critic: what it looks at, that it finds the true values of a game small enough to write them down, and resume."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from critic_values import Known, debated, in_chain, to_go
from preset_runs import RECIPE

from marft.credit import PRESETS

ROUNDS_OF_LEARNING, EPISODES = 80, 128


def settings(preset: str):
    from marft.recipe import parse_recipe

    data = RECIPE | {
        "game": {"name": "prisoners_dilemma", "rounds": 2},
        "model": {"name": "tiny", "device": "cpu", "tiny": {"warmup_steps": 200, "warmup_batch": 32}},
        "agents": {"alice": {}, "bob": {}},
        "adapter": {"rank": 8, "alpha": 16},
        "algorithm": preset,
        "rollout": {"groups": 1, "group_size": EPISODES},
        "train": {"updates": ROUNDS_OF_LEARNING},
        "critic": {
            "optimizer": {"learning_rate": 5e-3, "schedule": "linear"},
            "epochs": 1,
            "minibatches": 8,
            "warmup_updates": ROUNDS_OF_LEARNING,  # the policy stays what it is
        },
    }
    return parse_recipe(data)


def learned(preset: str):
    """(recipe, episodes never seen, their views, the critic's values there) after learning from the known policy."""
    import torch

    torch.set_num_threads(1)
    from marft.bank import AdapterBank
    from marft.model import load_base
    from marft.rewards import load_reward
    from marft.rollout import plan_update
    from marft.team import make_rollout
    from marft.train.learning import Learning
    from marft.train.optimizer import make_learner
    from marft.train.rewarding import score_all
    from marft.train.workers import Workers

    recipe = settings(preset)
    base = load_base(recipe, "cpu")
    bank = AdapterBank(base.model)
    learners = {}
    for name in recipe.agents:
        bank.add(name, recipe.adapter_of(name), recipe.seed)
        learners[name] = make_learner(bank, name, recipe.optimizer_of(name))
    rollout = make_rollout(recipe, base.chat, bank, Known(base.chat))
    learning = Learning(recipe, bank, base.chat, learners, Workers())
    for update in range(ROUNDS_OF_LEARNING + 1):
        episodes = asyncio.run(rollout.play(plan_update(recipe, update)))
        score_all(episodes, {"payoff": (load_reward("payoff", {"scale": 0.2}), 1.0)})
        if update < ROUNDS_OF_LEARNING:
            learning.learn(episodes, update, {})
    views = learning._views(episodes)
    return recipe, episodes, views, learning.critic.values(views)


def true_value(recipe, step, last, seat, alice):
    """What the critic should say of `seat` before round `step`; `alice` is what she does in this round."""
    kind, gamma = recipe.algorithm.return_.kind, recipe.algorithm.return_.gamma
    spoken = None if seat == 0 else alice
    if kind == "gae_agent_chain":
        return in_chain(step, last, spoken, gamma, 1)
    if kind == "gae_token":
        return in_chain(step, last, spoken, gamma, 2)
    if kind == "turn":
        return debated(step, last, seat)
    return to_go(step, last, None if recipe.algorithm.attribution.kind == "team_sum" else seat, gamma)


def errors(recipe, episodes, views, values) -> dict:
    """State -> (number of visits, mean value minus the true one)."""
    places = []
    for episode in episodes:
        moves = [[0 if turn.action == "C" else 1 for turn in episode.turns_of(seat)] for seat in ("alice", "bob")]
        for turn in episode.turns:
            last = None if turn.step == 0 else (moves[0][turn.step - 1], moves[1][turn.step - 1])
            places.append((turn.step, last, ("alice", "bob").index(turn.seat), moves[0][turn.step]))
    found: dict = {}
    for view, value in zip(views, values, strict=True):
        first = np.unique(view.turn, return_index=True)[1]  # of a turn's tokens the one before which nothing was said
        for number in first:
            place = places[view.turn[number]]
            found.setdefault(place, []).append(value[number] - true_value(recipe, *place))
    return {place: (len(gaps), float(np.mean(gaps))) for place, gaps in found.items()}


WITH_CRITIC = ("marft", "marft_token", "mappo", "ippo", "maporl", "ad_align_original")


def measured(preset: str) -> dict:
    return errors(*learned(preset))


@pytest.fixture(scope="module")
def results(cache):
    from marft.model import base_source

    base_source(settings("ippo"))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return dict(zip(WITH_CRITIC, pool.map(measured, WITH_CRITIC), strict=True))


@pytest.mark.learning
@pytest.mark.parametrize("preset", WITH_CRITIC)
def test_a_critic_recovers_the_true_value_function(preset, results):
    found = results[preset]
    assert max(abs(gap) for visits, gap in found.values() if visits >= 8) < 0.05, found


def test_the_other_critic_presets_have_the_same_critic_as_ippo():
    ippo = PRESETS["ippo"].settings
    for name in ("turn_ppo", "st_ppo"):
        other = PRESETS[name].settings
        same = ("attribution", "return_", "baseline", "critic")
        assert [getattr(other, block) for block in same] == [getattr(ippo, block) for block in same]
