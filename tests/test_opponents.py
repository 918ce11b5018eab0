"""Who sits where: pools, earlier versions, swapped seats; and that every episode records it."""

from collections import Counter

import pytest
import yaml
from trainer_fixtures import equal, folder_bytes, make_recipe, recipe_data, snapshot

from marft.bank import AdapterBank
from marft.config import Past
from marft.errors import RecipeError, RunFolderError
from marft.model import load_base
from marft.recipe import dump_recipe, parse_recipe
from marft.rollout import draw_team, plan_update
from marft.store import read_episodes
from marft.train.loop import train
from marft.train.past import PastSelves

POOL = "team.bob={pool: [bob, {scripted: TFT, weight: 3}, {past: alice, weight: 2}]}"


def test_a_pool_is_drawn_from_by_weight_once_a_group():
    recipe = make_recipe(POOL, "rollout.groups=4000", "past.every=5")
    teams = [draw_team(recipe, 7, group, {"alice": 12}) for group in range(4000)]
    found = Counter(team["bob"] for team in teams)
    expected = {
        "bob": 1 / 6,
        "scripted:TFT": 1 / 2,
        "past:alice@0": 1 / 9,
        "past:alice@5": 1 / 9,
        "past:alice@10": 1 / 9,
    }
    assert found.keys() == expected.keys()
    for name, share in expected.items():
        assert abs(found[name] / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5, name
    assert {team["alice"] for team in teams} == {"alice"}
    assert teams == [draw_team(recipe, 7, group, {"alice": 12}) for group in range(4000)]
    plans = plan_update(make_recipe(POOL, "rollout={groups: 9, group_size: 4}"), 3)
    assert all(len({plan.team["bob"] for plan in plans if plan.group == group}) == 1 for group in range(9))


def test_seats_rotate_from_group_to_group():
    recipe = make_recipe("rollout={groups: 4, swap_seats: true}")
    teams = [draw_team(recipe, 0, group, {}) for group in range(4)]
    assert teams[0] == teams[2] == {"alice": "alice", "bob": "bob"}
    assert teams[1] == teams[3] == {"alice": "bob", "bob": "alice"}


def test_versions_that_may_be_drawn():
    past = Past(every=10, keep=3)
    assert [past.versions(version) for version in (0, 9, 10, 35, 50)] == [
        [0], [0], [0, 10], [10, 20, 30], [30, 40, 50],
    ]  # fmt: skip


def test_the_recipe_comes_back_from_its_dump():
    recipe = make_recipe(POOL, "team.alice={agent: alice, role: row}")
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe
    assert recipe.team["alice"].role == "row"
    assert (recipe.team["bob"].own.agent, recipe.team["alice"].own.agent) == ("bob", "alice")


@pytest.mark.parametrize(
    ("team", "words"),
    [
        ({"pool": [{"past": "alise"}]}, ["team.bob.pool[0]", "alise", "alice"]),
        ({"pool": ["bob", {"scripted": "TTF"}]}, ["team.bob.pool[1].scripted", "TTF", "TFT"]),
        ({"pool": [{"agent": "bob", "scripted": "TFT"}]}, ["exactly one", "team.bob"]),
        ({"agent": "bob", "pool": ["alice"]}, ["exactly one", "pool"]),
        ({"pool": [{"agent": "bob", "weight": 0}]}, ["weight"]),
        ({"scripted": "TFT"}, ["agents.bob", "fills no seat"]),
    ],
)
def test_what_cannot_sit_is_named(team, words):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(recipe_data() | {"team": {"bob": team}})
    assert all(word in str(caught.value) for word in words), str(caught.value)


RUN = (
    "agents.bob=null",
    "team={alice: alice, bob: {pool: [{past: alice, weight: 3}, {scripted: AllD}]}}",
    "past={every: 2, keep: 2}",
    "rollout={groups: 6, group_size: 2}",
    "train={updates: 6, save_every: 4}",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("past") / "run"
    return train(make_recipe(*RUN), folder)


def test_episodes_record_which_version_they_met(whole):
    met = {}
    for episode in read_episodes(whole):
        (bob,) = {turn.policy for turn in episode.turns_of("bob")}
        assert bob == episode.team["bob"]
        assert all(turn.agent is None for turn in episode.turns_of("bob"))
        assert {turn.version for turn in episode.turns_of("alice")} == {episode.update}
        met.setdefault(episode.update, set()).add(bob)
    allowed = [{0}, {0}, {0, 2}, {0, 2}, {2, 4}, {2, 4}]
    for update, names in met.items():
        assert names <= {"scripted:AllD"} | {f"past:alice@{number}" for number in allowed[update]}
    assert len(set.union(*met.values())) == 4
    assert sorted(path.name for path in (whole / "past" / "alice").iterdir()) == ["000000", "000002", "000004"]


def test_a_resumed_run_meets_the_same_ones(whole, tmp_path):
    train(make_recipe(*RUN, "train.updates=4"), tmp_path / "run")
    train(make_recipe(*RUN), tmp_path / "run", resume=True)
    for folder in ("adapters", "past"):
        assert folder_bytes(tmp_path / "run" / folder) == folder_bytes(whole / folder)
    teams = [[episode.team for episode in read_episodes(place)] for place in (whole, tmp_path / "run")]
    assert teams[0] == teams[1]


def test_the_bank_forgets_what_is_too_old_and_keeps_the_others_apart(tmp_path):
    recipe = make_recipe(*RUN, "past={every: 1, keep: 2}")
    bank = AdapterBank(load_base(recipe, "cpu").model)
    bank.add("alice", recipe.adapter_of("alice"), 0)
    learner = type("L", (), {"version": 0})()
    past, weights = PastSelves(recipe, bank, tmp_path), {}
    for version in range(4):
        learner.version = version
        past.follow({"alice": learner}, write=True)
        weights[version] = snapshot(bank, "alice")
        for parameter in bank.parameters("alice"):
            parameter.data += 0.1
    assert sorted(bank.names) == ["alice", "past:alice@2", "past:alice@3"]
    assert all(equal(snapshot(bank, f"past:alice@{version}"), weights[version]) for version in (2, 3))
    with bank.use("past:alice@2"), bank.use("alice"):
        pass
    again = AdapterBank(load_base(recipe, "cpu").model)
    again.add("alice", recipe.adapter_of("alice"), 0)
    PastSelves(recipe, again, tmp_path).follow({"alice": learner}, write=False)
    assert equal(snapshot(again, "past:alice@2"), weights[2])
    with pytest.raises(RunFolderError, match="past"):
        PastSelves(recipe, again, tmp_path / "nowhere").follow({"alice": type("L", (), {"version": 9})()}, write=False)
