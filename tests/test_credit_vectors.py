"""Credit against numbers from outside: reference implementations executed unchanged, and closed forms."""

import json
from pathlib import Path

import numpy as np
import pytest

from marft.credit import advantages

VECTORS = Path(__file__).parent / "vectors"
CASES = {case["title"]: case for case in json.loads((VECTORS / "adalign_llm.json").read_text())["cases"]}
GIVEN = {"return": "turn", "baseline": "none"}  # the "rewards" of the table then are the advantages before alignment


def case(beginning):
    return next(case for title, case in CASES.items() if title.startswith(beginning))


def two_seats(values1, values2, groups=None):
    """A turn table of two seats that act at every step, from two (episodes, steps) arrays."""
    reward = np.stack([values1, values2], -1)
    episode, step, seat = np.indices(reward.shape)
    group = np.zeros_like(episode) if groups is None else np.asarray(groups)[episode]
    return {
        "episode_U": episode.ravel(),
        "group_U": group.ravel(),
        "step_U": step.ravel(),
        "seat_U": seat.ravel(),
        "reward_U": reward.ravel(),
    }


def seat_advantages(settings, table, shape):
    """(episodes, steps) advantages of seat 0 and of seat 1."""
    found = advantages(settings, table).reshape(*shape, 2)
    return found[..., 0], found[..., 1]


@pytest.mark.parametrize("title", ["repo tests/test_aa.py", "k<=t", "mean_normalize", "score-file example"])
def test_ad_align_gives_the_credits_of_the_reference_code(title):
    given = case(title)
    options = given["kwargs"]
    alignment = {
        "kind": "ad_align",
        "beta": options["beta"],
        "gamma": options["gamma"],
        "gamma_a": options["gamma"],
        "include_now": not options["exclude_k_equals_t"],
        "centre": "step" if options.get("mean_normalize_ad_align") else "none",
    }
    table = two_seats(given["a1"], given["a2"])
    credits, _ = seat_advantages({**GIVEN, "alignment": alignment}, table, np.shape(given["a1"]))
    np.testing.assert_allclose(credits, given["credits"], rtol=1e-5, atol=1e-5)


def test_ipd_pipeline_of_the_reference_code_from_rewards_to_aligned_and_to_summed_advantages():
    given = case("IPD pipeline")
    shape = np.shape(given["rewards1"])
    table = two_seats(np.divide(given["rewards1"], 5), np.divide(given["rewards2"], 5), given["crn_ids"])
    close = {"rtol": 1e-5, "atol": 1e-5}
    returns, _ = seat_advantages({"return": {"kind": "to_go", "gamma": 0.9}}, table, shape)
    np.testing.assert_allclose(returns, given["returns1"], **close)
    a1, a2 = seat_advantages({"preset": "ad_align", "alignment": "none"}, table, shape)
    np.testing.assert_allclose(a1, given["a1"], **close)
    np.testing.assert_allclose(a2, given["a2"], **close)
    credits, _ = seat_advantages({"preset": "ad_align", "alignment": {"beta": 0.5}}, table, shape)
    np.testing.assert_allclose(credits, given["credits"], **close)
    summed, _ = seat_advantages("prosocial", table, shape)
    np.testing.assert_allclose(summed, given["sum_of_rewards_credits"], **close)


def test_leave_one_out_of_discounted_returns_matches_the_reference_code():
    given = case("repo tests/test_credits.py")
    reward = np.array(given["rewards"])
    episode, step = np.indices(reward.shape)
    table = {"episode": episode.ravel(), "step": step.ravel(), "reward": reward.ravel()}
    per_step = {"preset": "rloo", "return": {"gamma": 0.9}, "baseline": {"key": ["instance", "seat", "step"]}}
    returns = advantages({**per_step, "baseline": "none"}, table).reshape(reward.shape)
    rloo = advantages(per_step, table).reshape(reward.shape)
    np.testing.assert_allclose(returns, given["returns"], rtol=1e-5)
    np.testing.assert_allclose(rloo, given["rloo"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(returns - rloo, given["baseline"], rtol=1e-5)


def test_worked_example_of_advantage_alignment():
    a1, a2 = [[1, 4, 0], [2, 1, 0], [8, 7, 1]], [[6, 5, 0], [5, 1, 3], [3, 0, 1]]
    settings = {**GIVEN, "alignment": {"kind": "ad_align", "beta": 1.0, "gamma": 0.9, "gamma_a": 0.9}}
    aligned, _ = seat_advantages(settings, two_seats(a1, a2), (3, 3))
    np.testing.assert_allclose(aligned, [[1, 8.05, 0], [2, 2.62, 6.804], [8, 7, 12.502]], atol=1e-12)


def test_options_on_the_weights_apply_in_their_order():
    # gamma = gamma_a = 1: w = [0, 3, 1]; others 1, so A* - A = w after the options.
    table = two_seats([[3.0, -2.0, 0.5]], [[1.0, 1.0, 1.0]])
    base = {"kind": "ad_align", "gamma": 1.0, "gamma_a": 1.0}

    def term(**options):
        credits, _ = seat_advantages({**GIVEN, "alignment": {**base, **options}}, table, (1, 3))
        return (credits - [[3.0, -2.0, 0.5]])[0].tolist()

    assert term() == [0, 3, 1]
    assert term(sign=True) == [0, 1, 1]
    assert term(clip=2) == [0, 2, 1]
    assert term(clip=2, divide_by_step=True) == pytest.approx([0, 1, 1 / 3])
    assert term(clip=0.5, divide_by_step=True, first_weight_one=True) == pytest.approx([1, 0.25, 0.5 / 3])
    assert term(sign=True, clip=0.5) == [0, 0.5, 0.5]


def test_whitening_of_aligned_advantages_is_per_seat_and_unbiased():
    a1, a2 = np.array([[1.0, 4], [2, 1], [8, 7]]), np.array([[6.0, 5], [5, 1], [3, 0]])
    for whiten, axis in (("all", None), ("step", 0)):
        settings = {**GIVEN, "alignment": {"kind": "ad_align", "beta": 0.0, "whiten": whiten}}
        found = seat_advantages(settings, two_seats(a1, a2), (3, 2))
        for seat, given in zip(found, (a1, a2), strict=True):
            expected = (given - given.mean(axis, keepdims=True)) / given.std(axis, ddof=1, keepdims=True)
            np.testing.assert_allclose(seat, expected, rtol=1e-7)


def group_of(rewards):
    return {"episode": np.arange(len(rewards)), "reward": rewards}


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [("mean", [-2, -1, 0, 3]), ("loo", [-8 / 3, -4 / 3, 0, 4]), ("none", [1, 2, 3, 6])],
)
def test_baselines_of_one_group(baseline, expected):
    found = advantages({"baseline": baseline}, group_of([1, 2, 3, 6]))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("baseline", ["mean", "loo"])
def test_whitening_hides_which_baseline_was_used(baseline):
    settings = {"baseline": baseline, "normalise": {"kind": "whiten", "unbiased": False, "eps": 0}}
    found = advantages(settings, group_of([1, 2, 3, 6]))
    np.testing.assert_allclose(found, [-1.069045, -0.534522, 0, 1.603567], atol=1e-6)


def test_mean_baseline_over_biased_deviation_is_the_z_score():
    settings = {"baseline": "mean", "normalise": {"kind": "std", "unbiased": False, "eps": 0}}
    found = advantages(settings, group_of([1, 2, 3, 6]))
    np.testing.assert_allclose(found, [-1.069045, -0.534522, 0, 1.603567], atol=1e-6)


def test_group_statistics_per_agent_match_dr_mas():
    given = json.loads((VECTORS / "drmas.json").read_text())["cases"][0]
    key = ["instance", "agent"]
    settings = {
        "return": "turn",
        "baseline": {"kind": "mean", "key": key},
        "normalise": {"kind": "std", "key": key, "unbiased": True, "eps": 1e-6},
    }
    table = {"episode": given["traj"], "group": given["uid"], "agent": given["agent"], "seat": given["agent"]}
    table |= {"reward": given["scores"], "step": np.arange(6)}
    np.testing.assert_allclose(advantages(settings, table), given["outputs"], atol=1e-5)


def test_a_missing_step_still_discounts():
    table = {"episode": [0, 0, 0], "step": [0, 3, 4], "reward": [1.0, 1.0, 1.0]}
    found = advantages({"return": {"kind": "to_go", "gamma": 0.5}}, table)
    np.testing.assert_allclose(found, [1 + 0.125 + 0.0625, 1.5, 1.0], rtol=1e-15)


def test_team_return_counts_steps_at_which_the_seat_is_silent():
    # Seat 0 acts at steps 0 and 2, seat 1 at step 1 only and earns 4 there.
    table = {"episode": [0, 0, 0], "seat": [0, 0, 1], "step": [0, 2, 1], "reward": [1.0, 2.0, 4.0]}
    to_go = {"attribution": "team_sum", "return": {"kind": "to_go", "gamma": 0.5}}
    np.testing.assert_allclose(advantages(to_go, table), [1 + 2 + 0.5, 2, 4 + 1], rtol=1e-15)
    np.testing.assert_allclose(advantages({**to_go, "attribution": "team_mean"}, table), [1.75, 1, 2.5], rtol=1e-15)
    np.testing.assert_allclose(advantages({"attribution": "team_sum", "return": "episode"}, table), [7, 7, 7])
    np.testing.assert_allclose(advantages({"attribution": "team_sum", "return": "turn"}, table), [1, 2, 4])


def test_message_and_move_of_one_step_are_one_decision():
    table = {"episode": [0, 0, 1], "step": [0, 0, 0], "reward": [1.0, 2.0, 9.0]}
    np.testing.assert_allclose(advantages({"baseline": "mean"}, table), [-3, -3, 3])  # and not minus the mean of three


def test_a_reward_without_a_turn_counts_in_returns_and_not_in_statistics():
    # Episode 0: the seat proposes at step 0 and is paid at step 1, when the other seat accepts.
    table = {"episode": [0, 0, 1], "step": [0, 1, 0], "reward": [0.0, 8.0, 2.0], "acted": [True, False, True]}
    settings = {"return": {"kind": "to_go", "gamma": 0.5}, "baseline": {"kind": "mean", "key": ["instance", "seat"]}}
    np.testing.assert_allclose(advantages(settings, table), [1, 0, -1])


def test_leaving_one_out_leaves_out_all_decisions_of_the_episode():
    # With one number for the whole episode, its own copies at other steps would pull the baseline towards itself.
    table = {"episode": [0, 0, 0, 1, 2], "step": [0, 1, 2, 0, 0], "reward": [3.0, 0.0, 0.0, 1.0, 5.0]}
    settings = {"preset": "rloo", "return": "episode"}
    np.testing.assert_allclose(advantages(settings, table), [0, 0, 0, 1 - 14 / 4, 5 - 10 / 4])


def test_visitation_weight_is_gamma_to_the_step():
    table = {"episode": [0, 0], "step": [0, 3], "reward": [0.0, 4.0]}
    settings = {"return": {"kind": "to_go", "gamma": 0.5}, "discount_visits": True}
    np.testing.assert_allclose(advantages(settings, table), [0.5, 0.5])
