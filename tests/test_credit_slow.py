"""Credit against an independent implementation with plain loops, on ragged batches; and its invariances."""

from collections import defaultdict
from math import fsum, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marft.blocks import Algorithm
from marft.credit import PRESETS, advantages, algorithm


def slow_advantages(recipe, rows):
    """Advantages of `rows` (dicts), by the definitions and one row at a time."""
    blocks = algorithm(recipe)
    gamma = blocks.return_.gamma
    reward, acted, facts = defaultdict(float), defaultdict(bool), {}
    for row in rows:
        cell = (row["episode"], row["seat"], row["step"])
        reward[cell] += row["reward"]
        acted[cell] |= row["acted"]
        facts[cell] = {**row, "instance": row["group"]}
    decisions = sorted(cell for cell in acted if acted[cell])

    def earned(episode, seat, step):
        if blocks.attribution.kind == "own":
            return reward.get((episode, seat, step), 0.0)
        seats = {s for e, s, _ in acted if e == episode}
        total = fsum(reward.get((episode, s, step), 0.0) for s in seats)
        return total / len(seats) if blocks.attribution.kind == "team_mean" else total

    def backup(episode, seat, step):
        steps = {t for e, _, t in acted if e == episode}
        if blocks.return_.kind == "turn":
            return earned(episode, seat, step)
        if blocks.return_.kind == "episode":
            return fsum(earned(episode, seat, k) for k in steps)
        return fsum(gamma ** (k - step) * earned(episode, seat, k) for k in steps if k >= step)

    def same(cell, key):
        return [other for other in decisions if all(facts[other][name] == facts[cell][name] for name in key)]

    def mean(values):
        return fsum(values) / len(values)

    def deviation(values, unbiased):
        centre, degrees = mean(values), len(values) - unbiased
        found = sqrt(fsum((v - centre) ** 2 for v in values) / degrees) if degrees else 0.0
        return 0.0 if found <= 1e-12 * sqrt(mean([v * v for v in values])) else found

    value = {cell: backup(*cell) for cell in decisions}
    advantage = {}
    for cell in decisions:
        compared = same(cell, blocks.baseline.key)
        if blocks.baseline.kind == "loo":
            compared = [other for other in compared if other[0] != cell[0]] or [cell]
        advantage[cell] = value[cell] - (0 if blocks.baseline.kind == "none" else mean([value[c] for c in compared]))

    align = blocks.alignment
    base = advantage
    if align.kind != "none":
        advantage = {}
        for cell in decisions:
            episode, seat, step = cell
            others = fsum(base[c] for c in decisions if c[0] == episode and c[2] == step and c[1] != seat)
            mine = [c for c in decisions if c[:2] == (episode, seat)]
            if align.kind == "sum":
                advantage[cell] = base[cell] + others
                continue
            past = [c for c in mine if c[2] < step or (align.include_now and c[2] == step)]
            weight = fsum(align.gamma_a ** (step - c[2]) * base[c] for c in past)
            weight *= 1.0 if align.include_now else align.gamma
            if align.clip is not None:
                weight = max(-align.clip, min(align.clip, weight))
            if align.divide_by_step:
                weight /= step + 1
            if align.first_weight_one and cell == mine[0]:
                weight = 1.0
            advantage[cell] = base[cell] + align.beta * weight * others

    def standard(before, key, centred, unbiased, eps):
        after = {}
        for cell in decisions:
            values = [before[c] for c in same(cell, key)]
            spread = deviation(values, unbiased)
            after[cell] = (before[cell] - (mean(values) if centred else 0)) / (spread + eps) if spread else 0.0
        return after

    if align.kind == "ad_align" and align.centre == "step":
        centred, key = advantage, ("game", "seat", "step")
        advantage = {cell: centred[cell] - mean([centred[c] for c in same(cell, key)]) for cell in decisions}
    if align.kind == "ad_align" and align.whiten != "none":
        key = ("game", "seat", "step") if align.whiten == "step" else ("game", "seat")
        advantage = standard(advantage, key, True, True, 1e-9)
    norm = blocks.normalise
    if norm.kind != "none":
        whole = norm.kind == "whiten"
        advantage = standard(advantage, () if whole else norm.key, whole, norm.unbiased, norm.eps)
    if blocks.discount_visits:
        advantage = {cell: value * gamma ** cell[2] for cell, value in advantage.items()}
    return [advantage.get((row["episode"], row["seat"], row["step"]), 0.0) for row in rows]


def known(blocks):
    """Whether the plain loops above know all of these blocks; test_credit_presets.py holds the others against its
    own."""
    plain = Algorithm()
    same = ("prepare", "resize", "transforms", "critic")
    return (
        all(getattr(blocks, name) == getattr(plain, name) for name in same)
        and blocks.attribution.kind in ("own", "team_sum", "team_mean")
        and blocks.return_.kind in ("to_go", "episode", "turn")
        and blocks.baseline.kind in ("none", "mean", "loo")
        and (blocks.baseline.kernel, blocks.baseline.alone) == ("uniform", "zero")
        and set(blocks.baseline.key) <= {"instance", "game", "seat", "agent", "step"}
        and blocks.alignment.kind != "ad_align_original"
        and (blocks.kl.where, blocks.kl.coef) != ("reward", 0.001)
    )


SIMPLE = [name for name, preset in PRESETS.items() if known(preset.settings)]


@st.composite
def batches(draw):
    """Ragged batches: seats missing at some steps, gaps in the clock, groups of one, messages beside moves."""
    rows = []
    quarters = st.integers(-20, 20).map(lambda n: n / 4)
    for episode in range(draw(st.integers(1, 6))):
        group = draw(st.integers(0, 2))
        for seat in draw(st.lists(st.sampled_from(["ann", "bo", "cy"]), min_size=1, unique=True)):
            for step in draw(st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True)):
                for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
                    rows.append(
                        {
                            "episode": f"e{episode}",
                            "group": group,
                            "game": "even" if group % 2 == 0 else "odd",
                            "seat": seat,
                            "agent": None if seat == "cy" else "one adapter",
                            "step": step,
                            "reward": draw(quarters),
                            "acted": draw(st.sampled_from([True, True, True, True, False])),
                        }
                    )
    return draw(st.permutations(rows))


keys = st.lists(st.sampled_from(["instance", "game", "seat", "agent", "step"]), unique=True)
recipes = st.fixed_dictionaries(
    {
        "attribution": st.sampled_from(["own", "team_sum", "team_mean"]),
        "return": st.fixed_dictionaries(
            {"kind": st.sampled_from(["to_go", "episode", "turn"]), "gamma": st.sampled_from([0.0, 0.5, 0.9, 1.0])}
        ),
        "baseline": st.fixed_dictionaries({"kind": st.sampled_from(["none", "mean", "loo"]), "key": keys}),
        "alignment": st.one_of(
            st.sampled_from(["none", "sum"]),
            st.fixed_dictionaries(
                {
                    "kind": st.just("ad_align"),
                    "beta": st.sampled_from([0.0, 0.5, 1.0]),
                    "gamma": st.sampled_from([0.5, 1.0]),
                    "gamma_a": st.sampled_from([0.0, 0.9, 1.0]),
                    "include_now": st.booleans(),
                    "clip": st.sampled_from([None, 1.0]),
                    "divide_by_step": st.booleans(),
                    "first_weight_one": st.booleans(),
                    "centre": st.sampled_from(["none", "step"]),
                    "whiten": st.sampled_from(["none", "none", "all", "step"]),
                }
            ),
        ),
        "normalise": st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["none", "std", "whiten"]),
                "key": keys,
                "unbiased": st.booleans(),
                "eps": st.sampled_from([1e-6, 1e-3]),
            }
        ),
        "discount_visits": st.booleans(),
    }
)


def columns(rows):
    return {f"{name}_U": [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize("preset", SIMPLE)
@settings(max_examples=40, deadline=None)
@given(rows=batches())
def test_every_preset_agrees_with_plain_loops(preset, rows):
    np.testing.assert_allclose(advantages(preset, columns(rows)), slow_advantages(preset, rows), rtol=1e-9, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(recipe=recipes, rows=batches())
def test_every_composition_agrees_with_plain_loops(recipe, rows):
    np.testing.assert_allclose(advantages(recipe, columns(rows)), slow_advantages(recipe, rows), rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(recipe=recipes, rows=batches(), data=st.data())
def test_order_of_rows_and_names_of_groups_and_seats_do_not_matter(recipe, rows, data):
    before = advantages(recipe, columns(rows))
    order = data.draw(st.permutations(range(len(rows))))
    names = {"ann": "zoe", "bo": "al", "cy": "moe"}
    moved = [{**rows[k], "seat": names[rows[k]["seat"]], "group": 7 - rows[k]["group"]} for k in order]
    np.testing.assert_allclose(advantages(recipe, columns(moved)), before[list(order)], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("preset", SIMPLE)
def test_sparse_ids_and_clocks_agree_with_plain_loops(preset):
    # Far more possible (episode, seat, step) than rows, so keys are sorted instead of indexed.
    rng = np.random.default_rng(5)
    rows = [
        {"episode": episode, "group": 10**9 * (episode % 3), "game": "g", "seat": seat, "agent": seat, "acted": True}
        | {"step": int(step), "reward": float(rng.normal())}
        for episode in range(-10, 10)
        for seat in ("ann", "bo", "cy")
        for step in rng.integers(0, 4, size=5) * rng.choice([1, 600])
    ]
    np.testing.assert_allclose(advantages(preset, columns(rows)), slow_advantages(preset, rows), rtol=1e-9, atol=1e-9)


def square(rng, episodes=6, groups=2, seats=3, steps=4):
    """A batch in which every seat acts at every step."""
    episode, step, seat = (index.ravel() for index in np.indices((episodes, steps, seats)))
    reward = rng.normal(size=len(episode))
    return {"episode": episode, "group": episode % groups, "step": step, "seat": seat, "reward": reward}


@pytest.mark.parametrize("preset", ["rloo", "prosocial", "ad_align"])
def test_a_constant_added_to_a_group_changes_nothing(preset):
    table = square(np.random.default_rng(0))
    # `rloo` pools the steps of an episode, so there the constant may enter one return only, the whole episode's.
    changes = {"return": "episode"} if preset == "rloo" else {}
    shifted = {**table, "reward": table["reward"] + np.where(table["group"] == 1, 5.0, -3.0)}
    recipe = {"preset": preset, **changes}
    np.testing.assert_allclose(advantages(recipe, shifted), advantages(recipe, table), atol=1e-12)


def test_beta_zero_is_the_base_advantage_to_the_bit():
    table = square(np.random.default_rng(1))
    base = advantages({"preset": "ad_align", "alignment": "none"}, table)
    np.testing.assert_array_equal(advantages({"preset": "ad_align", "alignment": {"beta": 0.0}}, table), base)


@pytest.mark.parametrize("normalise", ["none", "std", "whiten", {"kind": "std", "eps": 0.0}])
@pytest.mark.parametrize("preset", ["rloo", "prosocial", "ad_align"])
def test_groups_without_spread_give_exact_zeros(preset, normalise):
    table = {**square(np.random.default_rng(2)), "reward": np.full(72, 0.1)}
    recipe = {"preset": preset, "return": {"gamma": 0.0}, "normalise": normalise}
    assert np.all(advantages(recipe, table) == 0.0)


def test_returns_equal_up_to_rounding_have_no_spread():
    table = {"episode": [0, 0, 0, 1, 1, 1], "reward": [0.1, 0.2, 0.0, 0.0, 0.0, 0.3]}
    found = advantages({"return": "episode", "normalise": {"kind": "std", "eps": 1e-6}}, table)
    assert np.all(found == 0.0)


@pytest.mark.parametrize("preset", [n for n in SIMPLE if "instance" in PRESETS[n].settings.baseline.key])
def test_a_group_of_one_has_nobody_to_be_compared_with(preset):
    table = {"episode": [0, 0, 1, 1], "group": [0, 0, 1, 1], "reward": [1.0, 2.0, 3.0, 4.0]}
    found = advantages(preset, table)
    expected = [3.0, 2.0, 7.0, 4.0] if preset == "reinforce" else [0.0] * 4
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("preset", SIMPLE)
@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e12, 1e100])
@pytest.mark.parametrize("normalise", ["none", "std", "whiten"])
def test_huge_and_tiny_rewards_stay_finite(preset, scale, normalise):
    table = square(np.random.default_rng(3))
    table["reward"] = table["reward"] * scale
    assert np.isfinite(advantages({"preset": preset, "normalise": normalise}, table)).all()


@pytest.mark.parametrize("preset", SIMPLE)
@pytest.mark.parametrize("gamma", [0.9, 0.1])
def test_ten_thousand_steps_stay_finite_and_follow_the_recurrence(preset, gamma):
    steps = 10_000
    rng = np.random.default_rng(4)
    episode, step, seat = (index.ravel() for index in np.indices((2, steps, 2)))
    table = {"episode": episode, "step": step, "seat": seat, "reward": rng.normal(size=4 * steps)}
    assert np.isfinite(advantages({"preset": preset, "return": {"gamma": gamma}}, table)).all()
    returns = advantages({"return": {"kind": "to_go", "gamma": gamma}}, table).reshape(2, steps, 2)
    reward = table["reward"].reshape(2, steps, 2)
    np.testing.assert_allclose(returns[:, :-1], reward[:, :-1] + gamma * returns[:, 1:], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(returns[:, -1], reward[:, -1])
