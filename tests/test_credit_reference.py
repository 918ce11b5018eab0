"""Credit against the numbers of reference implementations and of published worked examples; each names its source."""

import json
from pathlib import Path

import numpy as np
import pytest

from marft.credit import advantages, assess, token_advantages
from marft.credit.tokens import on_last_token

VECTORS = Path(__file__).parent / "vectors"
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
GIVEN = {"return": "turn", "baseline": "none"}


def cases(name):
    return json.loads((VECTORS / f"{name}.json").read_text())["cases"]


def case(name, beginning):
    return next(case for case in cases(name) if case["title"].startswith(beginning))


def one_group(rewards):
    return {"episode": np.arange(len(rewards)), "reward": rewards}


@pytest.mark.parametrize("beginning", ["shipped selfplay", "no agent-specific"])
def test_marshal_gives_the_advantages_of_its_code(beginning):
    given = case("marshal_advantage", beginning)
    rows = [
        (episode, seat, step, reward)
        for episode, (seat, rewards) in enumerate(zip(given["seats"], given["turn_rewards"], strict=True))
        for step, reward in enumerate(rewards)
    ]
    episode, seat, step, reward = (list(column) for column in zip(*rows, strict=True))
    table = {"episode": episode, "seat": seat, "step": step, "reward": reward, "tokens": [2] * len(rows)}
    settings = {"preset": "marshal"}
    if not given["separate"]:
        settings |= {"prepare": {"key": ["game"], "scale": False}, "normalise": "none"}
    expected = [given["advantages"][e][3 * k] for e, k in zip(episode, step, strict=True)]
    np.testing.assert_allclose(advantages(settings, table), expected, **CLOSE)
    returns = advantages({**settings, "baseline": "none", "normalise": "none"}, table)
    expected = [given["raw_returns"][e][3 * k] for e, k in zip(episode, step, strict=True)]
    np.testing.assert_allclose(returns, expected, **CLOSE)
    centred = {"return": "turn", "prepare": {**settings.get("prepare", {"key": ["game", "seat"]}), "kind": "centre"}}
    expected = [given["rewards_after_presum_norm"][e][3 * k + 1] for e, k in zip(episode, step, strict=True)]
    np.testing.assert_allclose(advantages({**centred, "baseline": "none"}, table), expected, **CLOSE)


def test_distinct_values_have_the_mean_and_deviation_of_marshals_code():
    plain, scaled = (case("marshal_advantage", f"normalize_unique_values docstring {k}") for k in ("mean", "mean_std"))
    table = one_group(plain["input"])
    settings = {"baseline": {"kind": "unique_mean", "key": []}}
    np.testing.assert_allclose(advantages(settings, table), plain["output"], **CLOSE)
    settings["normalise"] = {"kind": "std", "key": [], "over": "distinct", "unbiased": True, "eps": 1e-6}
    np.testing.assert_allclose(advantages(settings, table), scaled["output"], **CLOSE)


def test_an_independent_port_of_marshal_agrees():  # marshal_playpen_tests.json
    returns = case("marshal_playpen_tests", "reinforce_returns")
    table = {"episode": [0] * 4, "reward": returns["rewards"]}
    np.testing.assert_allclose(advantages("reinforce", table), returns["out"], **CLOSE)
    spread = case("marshal_playpen_tests", "turn rewards")
    turn_N = np.searchsorted(spread["turn_end"], np.arange(spread["len"]))
    np.testing.assert_allclose(on_last_token(spread["turn_rewards"], turn_N), spread["turn_level"])
    collapsed = on_last_token([sum(spread["turn_rewards"])], np.zeros(spread["len"], int))
    np.testing.assert_allclose(collapsed, spread["collapsed"])
    centred = case("marshal_playpen_tests", "pre-sum")
    table = {"episode": range(4), "seat": centred["seats"], "reward": [row[-1] for row in centred["rewards"]]}
    found = advantages({**GIVEN, "prepare": {"kind": "centre", "key": ["seat"]}}, table)
    np.testing.assert_allclose(found, [row[-1] for row in centred["out"]])


def test_rae_gives_the_advantages_and_baselines_of_spirals_code():
    given = cases("spiral_rae")[0]
    rows, after = [], []
    for episode, play in enumerate(given["sequence"]):
        for sample in play["samples"]:
            last = sample["turn"] == max(s["turn"] for s in play["samples"] if s["player"] == sample["player"])
            reward = play["rewards"][str(sample["player"])] if last else 0.0
            rows.append((episode, sample["player"], sample["turn"], reward, sample["advantage"]))
        after.append(play["baselines_after"])
    episode, seat, step, reward, expected = (np.array(column) for column in zip(*rows, strict=True))
    table = {"episode": episode, "seat": seat, "step": step, "reward": reward}
    np.testing.assert_allclose(advantages("rae", table), expected, **CLOSE)
    state = {}
    for number, baselines in enumerate(after):  # the same, a batch at a time, through a checkpoint
        part = {name: column[episode == number] for name, column in table.items()}
        np.testing.assert_allclose(advantages("rae", part, state), expected[episode == number], **CLOSE)
        state = json.loads(json.dumps(state))
        np.testing.assert_allclose([state["ema"]["game"][seat] for seat in "01"], baselines, **CLOSE)


def test_running_mean_of_prime_rl_starts_at_zero():
    given = cases("prime_rl_rae")[0]
    seats, rewards = zip(*given["groups"][0], strict=True)
    found = advantages("rae", {"episode": [0, 0], "seat": seats, "reward": rewards})
    np.testing.assert_allclose(found, given["advantages"][0], **CLOSE)


def test_running_mean_that_moves_first_is_that_of_unstable_baselines():
    given = case("unstable_baselines", "RoleAdvantageByEnv")
    reward, seat, game = (list(column) for column in zip(*given["sequence"], strict=True))
    table = {"episode": range(5), "reward": reward, "seat": seat, "game": game}
    settings = {"preset": "rae", "baseline": {"decay": 0.999, "update_first": True}}
    np.testing.assert_allclose(advantages(settings, table), given["outputs"], **CLOSE)


def test_gae_of_unstable_baselines():
    given = case("unstable_baselines", "compute_gae")
    table = {"episode": [0] * 3, "reward": given["rewards"], "value": given["values"]}
    settings = {"return": {"kind": "gae", "gamma": 1.0, "lam": 1.0}, "baseline": "critic"}
    np.testing.assert_allclose(advantages(settings, table), given["outputs"], **CLOSE)


def test_original_alignment_gives_the_terms_of_its_code():
    given = cases("advantage_alignment_orig")[0]
    advantage = np.array(given["A"])
    row, step = (index.ravel() for index in np.indices(advantage.shape))
    table = {"episode": row // 2, "seat": row % 2, "step": step, "reward": advantage.ravel()}
    found = advantages({**GIVEN, "alignment": "ad_align_original"}, table).reshape(advantage.shape)
    np.testing.assert_allclose(found, given["credit_aa_weight_1"], **CLOSE)
    np.testing.assert_allclose((found - advantage)[:, 1:], given["aa_terms"], **CLOSE)


def test_dr_mas_preset_gives_the_advantages_of_its_code():
    given = cases("drmas")[0]
    table = {"episode": [f"{a}{t}{k}" for k, (a, t) in enumerate(zip(given["agent"], given["traj"], strict=True))]}
    table |= {"group": given["uid"], "agent": given["agent"], "seat": given["agent"], "reward": given["scores"]}
    np.testing.assert_allclose(advantages("dr_mas", table), given["outputs"], **CLOSE)


def test_rema_code_keeps_the_score_of_a_group_of_one():
    given = case("rema", "compute_grpo")
    table = {"episode": range(4), "group": given["groups"], "reward": given["scores"]}
    np.testing.assert_allclose(advantages("rema_code", table), given["outputs"], **CLOSE)
    np.testing.assert_allclose(advantages("rema", table), [*given["outputs"][:3], 0.0], **CLOSE)


def test_turn_level_returns_of_rema():
    given = case("rema", "compute_turn_level_return")
    rows = [(e, t, r) for e, line in enumerate(given["rewards"]) for t, r in enumerate(line) if given["mask"][e][t]]
    episode, step, reward = (list(column) for column in zip(*rows, strict=True))
    expected = [given["outputs"][e][t] for e, t, _ in rows]
    found = advantages("reinforce", {"episode": episode, "step": step, "reward": reward})
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_differential_returns_of_mage():
    given = cases("mage")[0]
    steps = given["steps"]
    table = {"episode": [0] * len(steps), "reward": [step["rewards"] for step in steps]}
    table |= {"attempt": [step["traj_idx"] for step in steps], "reflect": [s["phase"] == "reflect" for s in steps]}
    settings = {"return": {"kind": "differential", "gamma": 0.95, "gamma_attempt": 0.6}}
    np.testing.assert_allclose(advantages(settings, table), given["outputs"]["discounted_returns"][0], **CLOSE)


# Worked numbers of the specification: group R = [1, 2, 3, 6], cross, tree, MARFT's chain.


def test_max_baseline_of_one_group_and_its_z_score():
    settings = {"baseline": {"kind": "max", "key": []}}
    np.testing.assert_allclose(advantages(settings, one_group([1, 2, 3, 6])), [-5, -4, -3, 0])
    settings["normalise"] = {"kind": "whiten", "unbiased": False, "eps": 0}
    expected = [-1.069045, -0.534522, 0, 1.603567]
    np.testing.assert_allclose(advantages(settings, one_group([1, 2, 3, 6])), expected, atol=1e-6)


CROSS = {
    "episode": [0, 0, 1, 1, 2, 2, 3, 3],
    "seat": [0, 1] * 4,
    "sample": [0, 0, 0, 1, 1, 0, 1, 1],
    "reward": [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0],
    "step": [0] * 8,
}


def test_cross_joint_actions_pay_each_completion_the_sum_over_its_partners():
    found = advantages({"attribution": "joint"}, CROSS).reshape(4, 2)
    np.testing.assert_allclose(found[:, 0], [3, 3, 7, 7])
    np.testing.assert_allclose(found[:, 1], [4, 6, 4, 6])
    # In statistics a completion counts once: two values per seat, deviation √8 and √2.
    settings = {"attribution": "joint", "baseline": {"kind": "mean", "key": ["seat"]}}
    settings["normalise"] = {"kind": "std", "key": ["seat"], "eps": 0}
    np.testing.assert_allclose(np.abs(advantages(settings, CROSS)), np.sqrt(0.5))


def test_counterfactual_is_the_reward_minus_its_mean_over_the_own_completions():
    found = advantages({"attribution": "counterfactual"}, CROSS).reshape(4, 2)
    np.testing.assert_allclose(found[:, 0], [-1, -1, 1, 1])
    np.testing.assert_allclose(found[:, 1], [-0.5, 0.5, -0.5, 0.5])


def test_tree_returns_add_the_mean_over_children():
    table = {"episode": range(6), "node": range(6), "parent": [-1, -1, 0, 0, 1, 1], "reward": [1, 2, 10, 20, 30, 40]}
    table["step"] = [0, 0, 1, 1, 1, 1]
    settings = {"attribution": "team_sum", "return": "tree"}
    np.testing.assert_allclose(advantages(settings, table), [16, 37, 10, 20, 30, 40])
    np.testing.assert_allclose(advantages("magrpo", table), [-10.5, 10.5, -5, 5, -5, 5])


CHAIN = {"episode": [0, 0], "seat": [0, 1], "step": [0, 0], "reward": [0.0, 1.0], "value": [0.5, 0.6]}


def test_chain_of_agents_of_marft():
    np.testing.assert_allclose(advantages({"preset": "marft", "normalise": "none"}, CHAIN), [0.4702, 0.4])


def test_chain_over_tokens_is_the_chain_over_agents_where_turns_have_one_token():
    settings = {"preset": "marft_token", "normalise": "none"}
    table = {name: column for name, column in CHAIN.items() if name != "value"}
    np.testing.assert_allclose(token_advantages(settings, table, [0, 1], [0.5, 0.6]), [0.4702, 0.4])
    # Two tokens of the first agent: δ = .99·.7 − .5, .99·.6 − .7, 1 − .6.
    found = token_advantages(settings, table, [0, 0, 1], [0.5, 0.7, 0.6])
    last, decay = 0.4, 0.99 * 0.95
    middle = 0.99 * 0.6 - 0.7 + decay * last
    np.testing.assert_allclose(found, [0.99 * 0.7 - 0.5 + decay * middle, middle, last])
    # Tokens may come in any order of turns.
    np.testing.assert_allclose(token_advantages(settings, table, [1, 0, 0], [0.6, 0.5, 0.7]), found[[2, 0, 1]])


def test_tokens_of_a_turn_carry_its_advantage():
    table = one_group([1.0, 2.0, 6.0])
    turn_N = [0, 0, 1, 2, 2, 2]
    expected = advantages("rloo", table)[turn_N]
    np.testing.assert_array_equal(token_advantages("rloo", table, turn_N), expected)


def test_state_goes_in_and_out_and_is_not_touched():
    state = {"ema": {"game": {"a": 1.0}}, "kept": [1]}
    before = json.dumps(state)
    credit = assess("rae", {"episode": [0], "seat": ["a"], "reward": [3.0]}, state)
    assert json.dumps(state) == before
    np.testing.assert_allclose(credit.advantage_U, [2.0])
    assert credit.state["ema"]["game"]["a"] == pytest.approx(0.95 * 1.0 + 0.05 * 3.0)
    assert credit.state["kept"] == [1]
