"""Recipes that learn without labels: who is paid what, and that they play and learn on a small setting."""

import random
from pathlib import Path

import pytest
from dialogues import dialogue
from hypothesis import given
from hypothesis import strategies as st

from marft.games import make_game
from marft.recipe import load_recipe
from marft.rewards import load_reward
from marft.rewards.peer_score import peer_score
from marft.store import read_episodes
from marft.train.folder import read_metrics
from marft.train.loop import train

RECIPES = Path(__file__).parents[1] / "recipes"
SMALL = ("train.updates=1", "train.save_every=1", "rollout.groups=2", "trackers=[]", "game.task.size=40")
TINY = ("warmup_steps=30", "warmup_episodes=64", "warmup_batch=8", "hidden=32", "heads=2", "kv_heads=2")
ROLES = {"s": "solver", "e": "evaluator", "c": "scorer"}


def tiny(*bases):
    return [f"{base}.tiny.{key}" for base in bases for key in TINY]


@pytest.mark.parametrize(
    ("recipe", "overrides", "terms", "roles"),
    [
        (
            "rlccf/rlccf.yaml",
            ["rollout.group_size=3", *tiny("model", "models.better", "models.worse")],
            {"consensus", "invalid_answer#1"},
            {"solver1": "solver", "solver2": "solver", "solver3": "solver"},
        ),
        (
            "comas/comas.yaml",
            tiny("model"),
            {"peer_score"},
            {"solver": "solver", "evaluator": "evaluator", "scorer": "scorer"},
        ),
    ],
)
def test_an_update_is_played_and_paid_by_the_terms_of_the_recipe(tmp_path, cache, recipe, overrides, terms, roles):
    loaded = load_recipe(RECIPES / recipe, [*SMALL, *overrides])
    train(loaded, tmp_path / "run")
    (line,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {key.removeprefix("reward/") for key in line if key.startswith("reward/")} == terms
    episodes = list(read_episodes(tmp_path / "run"))
    assert len(episodes) == loaded.rollout.groups * loaded.rollout.group_size
    for episode in episodes:
        assert episode.facts["roles"] == roles
        assert set(episode.terms) == terms
    for agent in loaded.agents:
        assert (tmp_path / "run" / "adapters" / agent / "adapter_config.json").is_file()


@pytest.mark.parametrize("recipe", ["rlccf/rlccf.yaml", "comas/comas.yaml"])
def test_no_term_of_the_recipe_reads_the_true_answer(recipe):
    """Another truth, or none, and all are paid as before."""
    terms = load_recipe(RECIPES / recipe).rewards
    said = [("s", "<answer>7</answer>"), ("e", "<answer>8</answer>"), ("c", "<score>2</score>")]
    found = []
    for answer in ("7", "8", None):
        episodes = [dialogue(*said, answer=answer, facts={"roles": ROLES})]
        paid = [load_reward(one.use, one.options) for one in terms]
        found.append(repr([one(episodes if one.unit == "group" else episodes[0]) for one in map(_known, paid)]))
    assert found[0] == found[1] == found[2]


def _known(function):
    function.unit = getattr(function, "unit", "episode")
    return function


def test_unlike_models_answer_without_hearing_each_other():
    loaded = load_recipe(RECIPES / "rlccf/rlccf.yaml")
    game = make_game(loaded.game.name, loaded.game.options)
    game.reset(0)
    assert game.acting() == game.seats == ("solver1", "solver2", "solver3")
    game.act(dict.fromkeys(game.seats, "<answer>1</answer>"))
    assert game.acting() == ()
    assert [loaded.agents[seat].model for seat in game.seats] == [None, "better", "worse"]


@pytest.mark.parametrize(
    ("score", "paid"),
    [
        ("<score>1</score>", (0.0, 1.0, 0.0)),
        ("<score>2</score>", (0.5, 0.5, 0.0)),
        ("well: <score> 3 </score>", (1.0, 0.0, 0.0)),
        ("<score>1</score>, no, <score>3</score>", (1.0, 0.0, 0.0)),
        ("<score>4</score>", (0.5, 0.5, -1.0)),
        ("<score>0</score>", (0.5, 0.5, -1.0)),
        ("<score>good</score>", (0.5, 0.5, -1.0)),
        ("<score>3", (0.5, 0.5, -1.0)),
        ("3", (0.5, 0.5, -1.0)),
        ("", (0.5, 0.5, -1.0)),
    ],
)
def test_a_score_pays_solution_and_evaluation_and_costs_where_it_cannot_be_read(score, paid):
    episode = dialogue(("s", "7"), ("e", "no, 8"), ("c", score), facts={"roles": ROLES})
    assert peer_score(episode) == {"s": [paid[0], 0, 0], "e": [0, paid[1], 0], "c": [0, 0, paid[2]]}


@given(st.lists(st.sampled_from(["<score>1</score>", "<score>2</score>", "<score>3</score>", "?"]), max_size=4))
def test_each_round_is_paid_by_its_own_score_and_shares_one(scores):
    said = [turn for score in scores for turn in (("s", "7"), ("e", "8"), ("c", score))]
    found = peer_score(dialogue(*said, ("s", "unscored"), seats=("s", "e", "c"), facts={"roles": ROLES}))
    worth = {"<score>1</score>": 0.0, "<score>2</score>": 0.5, "<score>3</score>": 1.0, "?": 0.5}
    for number, score in enumerate(scores):
        s, e, c = (found[seat][3 * number + place] for place, seat in enumerate("sec"))
        assert (s, e, c) == (worth[score], 1 - worth[score], -float(score == "?"))
    assert sum(map(sum, found.values())) == len(scores) - scores.count("?")


def test_a_role_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="options.scorer: no role 'scorer' in talk, but evaluator, solver"):
        peer_score(dialogue(("s", "7"), ("e", "8"), facts={"roles": {"s": "solver", "e": "evaluator"}}))
    with pytest.raises(ValueError, match="lowest must be below highest, not 3 and 3"):
        peer_score(dialogue(("s", "7"), facts={"roles": ROLES}), lowest=3)


@pytest.mark.parametrize(
    ("solution", "evaluation", "score", "share"),
    [("right", "wrong", "3", 0.6), ("wrong", "right", "1", 0.6), ("right", "right", "3", 0.6)],
)
def test_a_peer_scores_by_what_it_thinks_right_which_is_so_six_times_of_ten(solution, evaluation, score, share):
    loaded = load_recipe(RECIPES / "comas/comas.yaml")
    game = make_game(loaded.game.name, loaded.game.options)
    hits = 0
    for seed in range(400):
        game.reset(seed)
        truth = game.facts()["answer"]
        texts = {"right": f"<answer>{truth}</answer>", "wrong": "<answer>none</answer>"}
        game.act({"solver": texts[solution]})
        game.act({"evaluator": texts[evaluation]})
        hits += game.players["peer"](game.view("scorer"), random.Random(seed)).endswith(f". <score>{score}</score>")
    assert hits / 400 == pytest.approx(share, abs=0.075)  # three standard errors
