"""Blocks beside the presets: mistakes found in published code, memory, resize, labels, order, couplings, words."""

import json
from math import exp, log

import numpy as np
import pytest

from marft.blocks import Algorithm, Alignment, Baseline, Resize, Return, Transform, Update
from marft.credit import PRESETS, advantages, algorithm, assess
from marft.credit.advice import warnings_for
from marft.credit.couplings import Facts, check_couplings
from marft.credit.describe import PAGE, explain_preset, page
from marft.credit.gain import answer_probability, information_gain
from marft.credit.memory import capability_ratio, note_entropy
from marft.credit.offline import best_worst_pairs, labels, sibling_pairs
from marft.credit.order import compound, plan, stop_early, weigh
from marft.errors import RecipeError

# Mistakes found in published code: each test fails on the mistaken version.


def test_igpo_compares_turns_and_not_token_positions():
    # Turn 1 of the first rollout stands where turn 2 of the second does, by tokens; turns 0 are [1, 3], turns 1 [5, 9].
    table = {"episode": [0, 0, 1, 1], "step": [0, 1, 0, 1], "reward": [1.0, 5.0, 3.0, 9.0], "tokens": [9, 2, 1, 4]}
    found = advantages({"preset": "igpo", "return": "turn", "normalise": "none"}, table)
    np.testing.assert_allclose(found, [-1, -2, 1, 2])


def test_igpo_credit_crosses_the_gap_that_a_tool_leaves():
    table = {"episode": [0, 0], "step": [0, 3], "reward": [0.0, 1.0]}  # steps 1 and 2 were the tool's
    np.testing.assert_allclose(advantages({"preset": "igpo", "baseline": "none", "normalise": "none"}, table), [1, 1])


def test_information_gain_is_the_increase_of_the_answers_probability_and_the_outcome_last():
    table = {"episode": [0, 0, 0], "reward": [0.0] * 3, "answer_logp": np.log([0.2, 0.5, 0.9])}
    np.testing.assert_allclose(information_gain(table, np.log([0.1] * 3), [0.7] * 3), [0.1, 0.3, 0.7])
    np.testing.assert_allclose(answer_probability([log(0.5), log(0.125), -1.0], [0, 0, 1]), [0.25, exp(-1)])


def test_later_agents_of_a_turn_have_their_own_rewards_before_the_branch_is_taken():
    # AT-GRPO's code scores after the environment collapsed, which makes the second agent's samples equal.
    table = {
        "episode": range(8),
        "step": [0] * 4 + [1] * 4,
        "seat": [0] * 4 + [1] * 4,
        "reward": [1, 2, 3, 4, 0, 1, 0, 1],
    }
    found = assess("at_grpo", table)
    assert np.all(found.advantage_U != 0)
    collapsed = assess("at_grpo", {**table, "reward": [1, 2, 3, 4, 1, 1, 1, 1]})
    assert not collapsed.advantage_U[4:].any()
    np.testing.assert_array_equal(collapsed.copies_U, [1, 1, 1, 1, 0, 0, 0, 0])


def test_groups_of_m_grpo_never_mix_queries():
    table = {"episode": range(4), "group": ["q1", "q2", "q1", "q2"], "reward": [0.0, 10.0, 1.0, 11.0]}
    found = advantages({"preset": "m_grpo", "normalise": "none"}, table)
    np.testing.assert_allclose(found, [-0.5, -0.5, 0.5, 0.5])


def test_a_functional_group_of_one_is_compared_over_the_group_of_rollouts():
    # Within an episode the lone attacker would only meet itself, and get zero.
    table = {"episode": [0, 0, 0, 1, 1, 1], "seat": ["a", "d1", "d2"] * 2, "role": ["att", "def", "def"] * 2}
    table["reward"] = [1.0, 0.0, 2.0, 3.0, 4.0, 6.0]
    found = advantages({"preset": "public_baseline", "normalise": "none"}, table)
    np.testing.assert_allclose(found, [-1, -3, -1, 1, 1, 3])


def test_seeupo_has_no_group_deviation_and_says_so_when_given_one():
    assert PRESETS["seeupo"].settings.normalise.kind == "whiten"
    mistaken = algorithm({"preset": "seeupo", "normalise": {"kind": "std", "key": ["instance"]}})
    assert any("reverse_turns" in text for text in warnings_for(mistaken, Facts()))


def test_a_stop_so_tight_that_the_policy_never_steps_is_warned_about():
    assert not stop_early(Update(kl_stop=0.01), 0.005)
    assert stop_early(Update(kl_stop=0.01), 0.02)
    assert not stop_early(Update(), 1e9)
    assert PRESETS["marft"].settings.update.kl_stop >= 1e-3
    tight = algorithm({"preset": "marft", "update": {"kl_stop": 1.7e-6}})
    assert any("kl_stop" in text for text in warnings_for(tight, Facts()))


def test_the_leading_gamma_of_ad_align_is_kept_where_the_present_step_is_left_out():
    table = {"episode": [0] * 4, "seat": [0, 1, 0, 1], "step": [0, 0, 1, 1], "reward": [1.0, 0.0, 0.0, 1.0]}
    base = {"return": "turn", "baseline": "none"}
    excluded = {"kind": "ad_align", "gamma": 0.5, "gamma_a": 0.9}
    found = advantages({**base, "alignment": excluded}, table)
    assert found[2] == pytest.approx(0.5 * 0.9)
    assert advantages({**base, "alignment": {**excluded, "include_now": True}}, table)[2] == pytest.approx(0.9)


def test_marft_leaves_zeros_out_of_its_whitening():
    table = {"episode": [0, 1, 2, 3], "reward": [0.0, 1.0, 2.0, 6.0], "value": [0.0] * 4}
    settings = {"preset": "marft", "normalise": {"eps": 0.0}}
    expected = (np.array([1, 2, 6]) - 3) / np.std([1, 2, 6], ddof=1)
    np.testing.assert_allclose(advantages(settings, table), [0, *expected])


# Attribution: MARTI and MAPoRL, worked by hand.


def test_margin_and_quality_look_at_the_teams_turn_before():
    table = {"episode": [0] * 4, "seat": [0, 1, 0, 1], "step": [0, 0, 1, 1], "reward": [1.0, 0.0, 1.0, 0.0]}
    found = advantages({"attribution": {"kind": "margin", "alpha": 0.5}, "return": "turn"}, table)
    np.testing.assert_allclose(found, [1, 0, 1.25, -0.25])
    found = advantages({"attribution": {"kind": "quality", "alpha": 0.5}, "return": "turn"}, table)
    np.testing.assert_allclose(found, [1, 0, 1.25, -0.25])


def test_debate_scores_share_the_rounds_to_come():
    table = {"episode": [0] * 4, "seat": [0, 1, 0, 1], "step": [0, 0, 1, 1], "reward": [1.0, 0.0, 4.0, 2.0]}
    shared = {"attribution": {"kind": "debate_score", "gamma": 0.5}, "return": "turn"}
    np.testing.assert_allclose(advantages(shared, table), [2.5 / 1.5, 1.5 / 1.5, 4, 2])
    alone = {"attribution": {"kind": "debate_score", "gamma": 0.5, "shared": False}, "return": "turn"}
    np.testing.assert_allclose(advantages(alone, table), [3 / 1.5, 1 / 1.5, 4, 2])


def test_m_grpo_composes_rewards_by_role():
    table = {"episode": [0, 0, 0], "seat": ["m", "s", "s"], "role": ["main", "sub", "sub"], "step": [2, 0, 1]}
    table |= {"reward": [0.0] * 3, "format": [1.0, 1.0, 0.0], "correct": [1.0, 0.0, 0.0], "judge": [0.0, 0.6, 0.9]}
    settings = {"preset": "m_grpo", "baseline": "none", "normalise": "none", "resize": "none"}
    np.testing.assert_allclose(advantages(settings, table), [1.0, 0.1 + 0.4 + 0.3, 0.0])


def test_weights_of_public_baseline_swap_halfway():
    table = {"episode": [0], "role": ["d"], "reward": [9.0], "safety": [1.0], "task": [0.0], "format": [0.0]}
    settings = {"preset": "public_baseline", "baseline": "none", "normalise": "none"}
    assert advantages(settings, table, {"progress": 0.2})[0] == pytest.approx(0.6)
    assert advantages(settings, table, {"progress": 0.7})[0] == pytest.approx(0.3)


def test_kl_in_the_reward_comes_off_the_turn_that_made_it():
    table = {"episode": [0, 1], "reward": [1.0, 1.0], "kl": [2.0, 0.0]}
    settings = {"return": "turn", "kl": {"coef": 0.1, "where": "reward"}}
    np.testing.assert_allclose(advantages(settings, table), [0.8, 1.0])


# Groups, memory, resize.


def test_identical_observations_make_a_group():
    table = {"episode": [0, 0, 1, 1], "step": [0, 1, 0, 1], "reward": [1.0, 2.0, 5.0, 8.0], "observation": list("abba")}
    settings = {"return": "turn", "baseline": {"kind": "mean", "key": ["instance", "observation"]}}
    np.testing.assert_allclose(advantages(settings, table), [-3.5, -1.5, 1.5, 3.5])


def test_capabilities_pool_the_samples_of_unlike_agents():
    table = {"episode": range(4), "agent": ["a", "a", "b", "b"], "reward": [1.0, 3.0, 0.5, 1.5]}  # means 2 and 1
    state = {}
    settings = {"preset": "hacpo", "normalise": "none"}
    found = advantages(settings, table, state)
    # ω(a, b) = 2: mean of (1, 3, 1, 3) for a; of (.5, 1.5, .5, 1.5) for b.
    np.testing.assert_allclose(found, [-1, 1, -0.5, 0.5])
    assert json.loads(json.dumps(state)) == {"capability": {"a": [2.0], "b": [1.0]}}
    assert (capability_ratio(state, "a", "b"), capability_ratio(state, "b", "a")) == (2.0, 0.5)
    assert capability_ratio({"capability": {"a": [1.0], "b": [0.0]}}, "a", "b") == 1.0
    for _ in range(9):
        advantages(settings, table, state)
    assert len(state["capability"]["a"]) == 5
    learned = advantages({**settings, "transforms": ["capability"]}, {**table, "learner": ["a", "b", "a", "b"]}, state)
    np.testing.assert_allclose(learned, [-1, 2, -0.25, 0.5])


def test_entropy_history_is_the_mean_of_the_past():
    state = {}
    assert [note_entropy(state, value) for value in (2.0, 4.0, 9.0)] == [2.0, 2.0, 3.0]
    assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize(("calls", "rows"), [(3, 8), (8, 8), (20, 8), (1, 8), (5, 2)])
def test_resize_gives_every_episode_the_same_number_of_rows(calls, rows):
    table = {
        "episode": np.repeat([0, 1], calls),
        "step": np.tile(np.arange(calls), 2),
        "reward": np.arange(2.0 * calls),
    }
    table |= {"seat": ["s"] * (2 * calls), "role": ["sub"] * (2 * calls)}
    settings = {"preset": "m_grpo", "resize": {"rows": rows}}
    credit = assess(settings, table)
    np.testing.assert_allclose(credit.copies_U.reshape(2, calls).sum(1), rows)
    assert credit.copies_U.max() - credit.copies_U.min() <= 1
    np.testing.assert_array_equal(credit.copies_U, assess(settings, table).copies_U)
    # Statistics are those of the copies.
    copied = np.repeat(table["reward"], credit.copies_U.astype(int))
    expected = (table["reward"] - copied.mean()) / (copied.std(ddof=1) + 1e-6)
    np.testing.assert_allclose(credit.advantage_U, np.where(credit.copies_U > 0, expected, 0.0))


def test_labels_and_pairs_of_siblings():
    value, parent = [1.0, 0.0, 0.6, 0.2, 0.9, 1.0], [0, 0, 0, 1, 1, 2]
    good = labels(value)
    assert good.tolist() == [True, False, True, False, True, True]
    pairs = sibling_pairs(good, [parent])
    assert sorted(zip(*(column.tolist() for column in pairs), strict=True)) == [(0, 1), (2, 1), (4, 3)]
    pairs = best_worst_pairs(value, [parent])
    assert list(zip(*(column.tolist() for column in pairs), strict=True)) == [(0, 1), (4, 3)]
    assert len(best_worst_pairs([1.0, 1.0], [[0, 0]]).chosen_P) == 0
    with pytest.raises(RecipeError, match="two"):
        sibling_pairs([True, False], [[0, 1]])


# Update order.


def test_plans_of_an_update():
    def kinds(kind, update):
        return [(stage.agents, stage.turn, stage.refresh) for stage in plan(Update(kind=kind), ["a", "b"], 3, update)]

    assert kinds("simultaneous", 5) == [(("a", "b"), None, False)]
    assert [kinds("round_robin", update)[0][0] for update in range(3)] == [("a",), ("b",), ("a",)]
    assert [stage[1:] for stage in kinds("reverse_turns", 0)] == [(2, False), (1, True), (0, True)]
    orders = {tuple(stage[0] for stage in kinds("sequential", update)) for update in range(20)}
    assert orders == {(("a",), ("b",)), (("b",), ("a",))}
    assert kinds("sequential", 7) == kinds("sequential", 7)


def test_factors_compound_within_their_bounds():
    settings = Update(low=0.8, high=1.2)
    factor = compound(settings, [1.0, 1.0, 1.0], [log(1.1), log(1.1), log(3.0)], [0, 0, 1])
    np.testing.assert_allclose(factor, [1.1, 1.2, 1.0])
    factor = compound(settings, factor, [log(1.15), log(0.1), 800.0], [0, 1, 2])
    np.testing.assert_allclose(factor, [1.2, 0.96, 1.2])
    np.testing.assert_allclose(weigh([1.0, -2.0], factor, [1, 0]), [0.96, -2.4])


# Couplings, warnings, words.


@pytest.mark.parametrize(
    ("settings", "facts", "words"),
    [
        (Algorithm(return_=Return(kind="gae")), {}, ["return.kind gae", "baseline.kind"]),
        ("magrpo", {}, ["return.kind tree", "rollout.plan.kind"]),
        ({"attribution": "joint"}, {"branches": True}, ["attribution.kind joint", "rollout.plan.pairing"]),
        ("ippo", {"branches": True}, ["return.kind gae", "rollout.plan.kind"]),
        ("rloo", {"branches": True, "advance": "best"}, ["return.kind to_go", "rollout.plan.advance"]),
        ({"preset": "hacpo", "baseline": {"kernel": "uniform"}}, {"minibatches": 4}, ["capability", "baseline.kernel"]),
        (
            {"preset": "hacpo", "baseline": {"key": ["agent"]}},
            {"minibatches": 4},
            ["kernel capability", "baseline.key"],
        ),
        ("hacpo", {"minibatches": 1}, ["ratio.stepwise", "train.minibatches"]),
        (Algorithm(alignment=Alignment(kind="ad_align")), {"seats": 1}, ["alignment.kind", "team"]),
        ({"preset": "seeupo", "ratio": "none"}, {}, ["update.kind", "ratio.kind"]),
        ({"preset": "st_ppo", "ratio": {"clip": False}}, {}, ["correct_clipping", "ratio.clip"]),
    ],
)
def test_blocks_that_cannot_work_together_name_both_settings(settings, facts, words):
    with pytest.raises(RecipeError) as caught:
        check_couplings(algorithm(settings), Facts(**facts))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_passes_with_the_rollout_it_asks_for(preset):
    check_couplings(PRESETS[preset].settings, Facts(minibatches=4, branches="tree" in PRESETS[preset].needs))


def test_warnings_know_the_field():
    def said(settings, **facts):
        return " / ".join(warnings_for(algorithm(settings), Facts(**facts)))

    assert "cancelled" in said(Algorithm(baseline=Baseline(kind="loo", key=()), normalise={"kind": "whiten"}))
    assert "one-step" in said("ad_align", steps=1)
    assert "group_size" in said("grpo", group_size=1)
    assert "ratio action" in said("marft", row_tokens=2048)
    assert "rollout.plan is flat" in said("at_grpo")
    assert "rollout.plan is flat" not in said("at_grpo", branches=True)
    assert "k1" in said({"kl": {"kind": "k1", "coef": 0.1}})
    assert said("rloo") == said("grpo") == said("ad_align", steps=10) == ""


def test_warnings_about_a_batch():
    table = {"episode": [0, 1, 2], "group": [0, 0, 1], "reward": [1.0, 1.0, 1.0]}
    found = " / ".join(warnings_for(algorithm("grpo"), table))
    assert "1 of 2 groups" in found
    assert "every advantage of the batch is 0" in found
    assert "one-step" in " / ".join(warnings_for(algorithm("ad_align"), table))


def test_the_page_of_algorithms_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m marft.credit.describe"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_can_be_explained(preset):
    text = explain_preset(preset)
    assert PRESETS[preset].source in text
    assert "formulas" in text


def test_kinds_of_settings_and_of_code_are_the_same():
    from typing import get_args

    from marft.credit.describe import TABLES, TYPES

    for block, table in TABLES.items():
        assert set(get_args(TYPES[block].model_fields["kind"].annotation)) - {"none"} == set(table) - {"none"}, block


def test_defaults_of_the_new_blocks_do_nothing():
    table = {"episode": [0, 1], "reward": [1.0, 3.0]}
    spelled = Algorithm(resize=Resize(), transforms=())
    np.testing.assert_array_equal(advantages(spelled, table), advantages(Algorithm(), table))
    clamped = Algorithm(transforms=(Transform(kind="clamp", limit=2.0),))
    np.testing.assert_array_equal(advantages(clamped, table), [1.0, 2.0])


def test_the_command_lists_and_explains():
    from typer.testing import CliRunner

    from marft.cli import app

    listed = CliRunner().invoke(app, ["algorithms"], env={"COLUMNS": "200"})
    assert listed.exit_code == 0
    assert all(name in listed.output for name in ("ad_align", "hacpo", "2602.06554", "[instance, seat]"))
    explained = CliRunner().invoke(app, ["algorithms", "ad_align"])
    assert explained.exit_code == 0
    assert "w_t = γ" in explained.output
    unknown = CliRunner().invoke(app, ["algorithms", "grop"])
    assert unknown.exit_code != 0
    assert "'grpo'" in str(unknown.exception)
