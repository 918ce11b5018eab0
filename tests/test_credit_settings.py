"""Settings and tables that can be used, and clear words for those that cannot."""

import subprocess
import sys

import numpy as np
import pytest

from marft.blocks import Algorithm, Return
from marft.credit import PRESETS, advantages, algorithm
from marft.errors import MarftError, RecipeError, RewardError

TABLE = {"episode_U": [0, 0, 1, 1], "reward_U": [1.0, 2.0, 3.0, 5.0]}


def test_a_mapping_changes_only_the_options_it_names():
    changed = algorithm({"preset": "ad_align", "alignment": {"beta": 0.5}, "baseline": "mean"})
    preset = PRESETS["ad_align"].settings
    assert changed.alignment == preset.alignment.model_copy(update={"beta": 0.5})
    assert changed.baseline == preset.baseline.model_copy(update={"kind": "mean"})
    assert changed.model_copy(update={"alignment": preset.alignment, "baseline": preset.baseline}) == preset


def test_name_value_and_mapping_are_the_same_settings():
    as_value = Algorithm(return_=Return(kind="to_go", gamma=0.9))
    as_mapping = {"return": {"kind": "to_go", "gamma": 0.9}}
    assert algorithm(as_mapping) == algorithm({"return_": {"kind": "to_go", "gamma": 0.9}}) == as_value
    np.testing.assert_array_equal(advantages(as_mapping, TABLE), advantages(as_value, TABLE))
    assert algorithm("rloo") == algorithm({"preset": "rloo"}) == PRESETS["rloo"].settings


def test_social_presets_differ_in_alignment_alone():
    social, aligned = PRESETS["prosocial"].settings, PRESETS["ad_align"].settings
    assert social.model_copy(update={"alignment": aligned.alignment}) == aligned
    assert (aligned.off_policy.kind, aligned.off_policy.cap) == ("truncate", 2.0)
    assert (aligned.kl.kind, aligned.kl.coef) == ("k3", 0.001)
    assert (aligned.ratio.kind, aligned.aggregate.kind) == ("none", "token_mean")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("ad_aling", ["ad_aling", "'ad_align'"]),
        ({"preset": "rlo"}, ["'rloo'"]),
        ({"retrun": "turn"}, ["retrun", "'return'"]),
        ({"alignment": {"kind": "ad_align", "gama_a": 1}}, ["alignment.gama_a", "'gamma_a'"]),
        ({"preset": "ad_align", "alignment": {"kind": "ad-align"}}, ["alignment.kind", "'ad_align'"]),
        ({"baseline": "lo"}, ["baseline.kind", "'loo'"]),
        ({"baseline": {"key": ["instance", "seet"]}}, ["baseline.key.1", "'seat'"]),
        ({"return": {"gamma": 2}}, ["return.gamma", "2"]),
        ({"preset": 3}, ["3"]),
        (None, ["None"]),
    ],
)
def test_unknown_settings_name_the_nearest_valid_word(settings, words):
    with pytest.raises(RecipeError) as caught:
        advantages(settings, TABLE)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"seat_U": [0, 1]}, RecipeError, ["seat_U", "2 rows", "4"]),
        ({"seat_U": [[0], [1], [0], [1]]}, RecipeError, ["seat_U", "(4, 1)"]),
        ({"reward_U": [1.0, np.nan, 0.0, np.inf]}, RewardError, ["2 rewards", "row 1"]),
        ({"reward_U": ["a", "b", "c", "d"]}, RewardError, ["numbers"]),
        ({"step_U": [0, 1, -1, 0]}, RecipeError, ["step_U"]),
        ({"step_U": [0, 0.5, 1, 0]}, RecipeError, ["step_U"]),
        ({"step_U": ["a", "b", "a", "b"]}, RecipeError, ["step_U"]),
        ({"group_U": [0, 1, 1, 1]}, RecipeError, ["episode 0", "group_U"]),
        ({"reward": [1.0, 2.0, 3.0, 4.0]}, RecipeError, ["'reward_U'", "'reward'"]),
    ],
)
def test_a_table_that_cannot_be_used_says_why(changes, error, words):
    with pytest.raises(error) as caught:
        advantages("rloo", {**TABLE, **changes})
    assert isinstance(caught.value, MarftError)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_missing_column_is_named():
    with pytest.raises(RecipeError, match=r"reward_U.*'rewards_U'"):
        advantages("rloo", {"episode_U": [0], "rewards_U": [1.0]})
    with pytest.raises(RecipeError, match="episode_U"):
        advantages("rloo", {"reward_U": [1.0]})


@pytest.mark.parametrize("normalise", ["none", "std", "whiten"])
def test_overflow_is_an_error_and_never_a_number(normalise):
    table = {"episode": [0, 0, 1, 1], "seat": [0, 1, 0, 1], "step": [0] * 4, "reward": [1e300, 1e300, -1e300, 1.0]}
    settings = {"alignment": {"kind": "ad_align", "include_now": True}, "normalise": normalise}
    with pytest.raises(RewardError, match="1e\\+300"):
        advantages(settings, table)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_no_turns_give_no_advantages(preset):
    table = {"episode": [], "reward": [], "value": [], "nll": [], "role": []}
    assert advantages({"preset": preset, "normalise": "whiten"}, table).shape == (0,)


def test_defaults_stand_for_one_seat_that_acts_step_by_step():
    full = {"group": [0] * 4, "game": ["g"] * 4, "seat": ["s"] * 4, "agent": [None] * 4, "step": [0, 1, 0, 1]}
    more = {"value": [0.5, 1.0, -1.0, 0.0], "nll": [1.0, 2.0, 0.5, 3.0], "role": ["a"] * 4}
    for preset in PRESETS:
        table = {**TABLE, **more}
        np.testing.assert_array_equal(advantages(preset, table), advantages(preset, {**table, **full}))


def test_ids_may_be_sparse_numbers_strings_or_bytes_of_any_integer_type():
    expected = advantages("rloo", TABLE)
    for ids in ([10**15, 10**15, -7, -7], ["b", "b", "a", "a"], np.array([-128, -128, 127, 127], np.int8)):
        np.testing.assert_allclose(advantages("rloo", {**TABLE, "episode_U": ids}), expected)


def test_the_table_is_left_as_it_was():
    table = {name: np.array(column) for name, column in TABLE.items()}
    advantages("ad_align", table)
    assert all(np.array_equal(table[name], column) for name, column in TABLE.items())


def test_credit_imports_no_torch():
    code = "import sys, marft.credit; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
