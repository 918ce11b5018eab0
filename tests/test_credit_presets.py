"""Every preset against plain loops written from the formulas, on ragged batches, and what every preset has to keep."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_credit import slow_credit

from marft.credit import PRESETS, advantages, assess
from marft.errors import RecipeError

# with `role` the sub-agents of m_grpo are resized at random, which has tests of its own
NAMES = list(PRESETS)
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@st.composite
def batches(draw, scale=None):
    """1–5 seats, up to 12 steps, groups of 1–8, missing turns, equal rewards, huge and tiny ones."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    seats = draw(st.integers(1, 5))
    steps = draw(st.integers(1, draw(st.sampled_from([3, 12]))))
    size = draw(st.sampled_from([1.0, 1.0, 1e-6, 1e6])) if scale is None else scale
    kind = draw(st.sampled_from(["normal", "few", "equal"]))
    rows, episode = [], 0
    for group in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(1, 4 if steps > 3 else 8))):
            for step in range(steps):
                for seat in range(seats):
                    if rng.random() < 0.2 and (step or seat):
                        continue
                    reward = {"normal": rng.normal(), "few": float(rng.integers(-1, 2)), "equal": 0.1}[kind]
                    rows.append(
                        {
                            "episode": episode,
                            "group": group,
                            "game": f"game {group % 2}",
                            "seat": f"seat {seat}",
                            "agent": f"agent {seat % 2}",
                            "role": f"role {seat // 2}",
                            "step": step,
                            "reward": size * reward,
                            "value": size * rng.normal(),
                            "nll": float(rng.random()),
                            "tokens": int(rng.integers(1, 9)),
                        }
                    )
            episode += 1
    return rows


def columns(rows):
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("preset", NAMES)
@settings(max_examples=25, deadline=None)
@given(rows=batches())
def test_every_preset_agrees_with_the_formulas_in_plain_loops(preset, rows):
    found, expected = advantages(preset, columns(rows)), slow_credit(PRESETS[preset].settings, rows)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found / scale, np.array(expected) / scale, **CLOSE)


@pytest.mark.parametrize("attribution", ["margin", "quality", "debate_score", "influence", "last_agent", "team_local"])
@settings(max_examples=25, deadline=None)
@given(rows=batches(), alpha=st.sampled_from([0.2, 1.0]), gamma=st.sampled_from([0.5, 1.0]), shared=st.booleans())
def test_attributions_agree_with_the_formulas_in_plain_loops(attribution, rows, alpha, gamma, shared):
    block = {"kind": attribution, "alpha": alpha, "gamma": gamma, "shared": shared}
    recipe = {"attribution": block, "return": "turn"}
    from marft.credit import algorithm

    expected = np.array(slow_credit(algorithm(recipe), rows))
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(advantages(recipe, columns(rows)) / scale, expected / scale, **CLOSE)


@st.composite
def trees(draw):
    """Trees of two or three levels with 1–3 children, a row per node and seat."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = []
    for group in range(draw(st.integers(1, 2))):
        level, number = [-1], 0
        for step in range(draw(st.integers(1, 3))):
            above, level = level, []
            for parent in above:
                for _ in range(int(rng.integers(1, 4))):
                    level.append(number)
                    for seat in ("a", "b"):
                        rows.append(
                            {"episode": group, "group": group, "game": 0, "seat": seat, "agent": seat, "step": step}
                            | {"node": number, "parent": parent, "reward": float(rng.normal()), "tokens": 3}
                        )
                    number += 1
    return rows


@pytest.mark.parametrize("preset", ["magrpo", "at_grpo"])
@settings(max_examples=40, deadline=None)
@given(rows=trees())
def test_tree_presets_agree_with_recursion_over_the_tree(preset, rows):
    if preset == "at_grpo":  # its state is a node; its team reward that of the joint turn
        rows = [{**row, "episode": f"{row['group']} {row['node']}"} for row in rows]
    found, expected = advantages(preset, columns(rows)), slow_credit(PRESETS[preset].settings, rows)
    np.testing.assert_allclose(found, expected, **CLOSE)


@pytest.mark.parametrize("preset", NAMES)
@settings(max_examples=15, deadline=None)
@given(rows=batches(scale=1.0), data=st.data())
def test_order_of_rows_does_not_matter(preset, rows, data):
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    before = advantages(preset, columns(rows))
    np.testing.assert_allclose(advantages(preset, columns([rows[k] for k in order])), before[order], **CLOSE)


@pytest.mark.parametrize("preset", [name for name in NAMES if name != "rae"])
@settings(max_examples=15, deadline=None)
@given(rows=batches(scale=1.0))
def test_names_of_episodes_groups_and_seats_do_not_matter(preset, rows):
    if PRESETS[preset].settings.attribution.kind == "last_agent":  # there the order of the seats is the pipeline
        seats = {f"seat {k}": f"x{k}" for k in range(5)}
    else:
        seats = {f"seat {k}": f"x{5 - k}" for k in range(5)}
    moved = [
        {**row, "episode": 99 - row["episode"], "group": f"g{7 - row['group']}", "seat": seats[row["seat"]]}
        for row in rows
    ]
    np.testing.assert_allclose(advantages(preset, columns(moved)), advantages(preset, columns(rows)), **CLOSE)


GROUPED = ["grpo", "dr_grpo", "dr_mas", "rema", "seeupo", "epo", "igpo", "at_grpo", "umad", "mars", "public_baseline"]


@pytest.mark.parametrize("preset", GROUPED)
def test_a_constant_added_to_all_rewards_of_a_group_changes_nothing(preset):
    rng = np.random.default_rng(0)
    episode, step, seat = (index.ravel() for index in np.indices((8, 3, 2)))
    table = {"episode": episode, "group": episode // 4, "step": step, "seat": seat, "reward": rng.normal(size=48)}
    table |= {"nll": rng.random(48), "role": seat, "agent": seat}
    recipe = {"preset": preset, **({"return": "turn"} if preset == "mars" else {})}  # mars pools turns of one episode
    constant = np.where(table["group"] == 1, 5.0, -3.0 if preset != "mars" else 5.0)
    shifted = {**table, "reward": table["reward"] + constant}
    np.testing.assert_allclose(advantages(recipe, shifted), advantages(recipe, table), atol=1e-9)


@pytest.mark.parametrize("preset", NAMES)
@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e12, 1e100])
def test_huge_and_tiny_rewards_stay_finite(preset, scale):
    rng = np.random.default_rng(3)
    episode, step, seat = (index.ravel() for index in np.indices((6, 4, 3)))
    table = {"episode": episode, "group": episode // 3, "step": step, "seat": seat, "role": seat % 2}
    table |= {"reward": scale * rng.normal(size=72), "value": scale * rng.normal(size=72), "nll": rng.random(72)}
    assert np.isfinite(advantages(preset, table)).all()


@pytest.mark.parametrize("preset", NAMES)
def test_ten_thousand_steps_stay_finite(preset):
    rng = np.random.default_rng(4)
    episode, step, seat = (index.ravel() for index in np.indices((2, 10_000, 2)))
    table = {"episode": episode, "step": step, "seat": seat, "role": seat, "reward": rng.normal(size=40_000)}
    table |= {"value": rng.normal(size=40_000), "nll": rng.random(40_000)}
    assert np.isfinite(advantages(preset, table)).all()


@pytest.mark.parametrize("preset", GROUPED)
def test_equal_rewards_give_exact_zeros(preset):
    episode, step, seat = (index.ravel() for index in np.indices((8, 3, 2)))
    table = {"episode": episode, "group": episode // 4, "step": step, "seat": seat, "role": seat, "nll": np.ones(48)}
    recipe = {"preset": preset, **({"return": "turn"} if preset == "mars" else {})}
    assert np.all(advantages(recipe, {**table, "reward": np.full(48, 0.1)}) == 0)


@pytest.mark.parametrize(
    ("preset", "column"), [("ippo", "value_U"), ("marft", "value_U"), ("maporl", "value_U"), ("umad", "logp_U|nll_U")]
)
def test_a_column_that_a_preset_needs_is_named_with_the_setting(preset, column):
    with pytest.raises(RecipeError, match=rf"({column}).*needs"):
        advantages(preset, {"episode": [0, 1], "reward": [1.0, 2.0]})


def test_public_baseline_names_the_role():
    with pytest.raises(RecipeError, match=r"role_U.*baseline\.key"):
        advantages("public_baseline", {"episode": [0, 1], "reward": [1.0, 2.0]})


@pytest.mark.parametrize("preset", [name for name in NAMES if "critic" not in PRESETS[name].needs])
def test_critic_free_presets_are_fast(preset):
    # A tenth of a million turns: the limit is loose, a Python loop over turns would still miss it by far.
    rng = np.random.default_rng(0)
    episode, step, seat = (index.ravel() for index in np.indices((1000, 25, 4)))
    n = len(episode)
    table = {"episode": episode, "group": episode // 8, "step": step, "seat": seat, "agent": seat, "role": seat // 2}
    table |= {"reward": rng.normal(size=n), "nll": rng.random(n)}
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assess(preset, table)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.5
