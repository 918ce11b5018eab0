"""A game made of several: which one is drawn, that it is played as it is alone, and what is recorded and counted."""

import random
from collections import Counter

import pytest
from table_play import record
from trainer_fixtures import Rig

from marft.compliance import check_game
from marft.credit import advantages
from marft.episode import Episode
from marft.errors import RecipeError
from marft.game import of_a_seat
from marft.games import make_game
from marft.train.table import turn_table

DILEMMA = {"name": "prisoners_dilemma", "options": {"rounds": 2}}
GAMES = [DILEMMA, {"name": "ultimatum", "weight": 3}, {"name": "public_goods", "options": {"seats": 2, "rounds": 2}}]
SHORT = [DILEMMA, {"name": "prisoners_dilemma", "options": {"rounds": 3}, "label": "longer"}]


def mixture(*games):
    return make_game("mixture", {"games": list(games)})


def test_it_passes_the_compliance_check():
    check_game(lambda: mixture(*GAMES))


def test_games_are_drawn_by_weight():
    game, found = mixture(*GAMES), Counter()
    for seed in range(3000):
        game.reset(seed)
        found[game.played] += 1
    for name, share in {"prisoners_dilemma": 0.2, "ultimatum": 0.6, "public_goods": 0.2}.items():
        assert abs(found[name] / 3000 - share) < 4 * (share * (1 - share) / 3000) ** 0.5


@pytest.mark.parametrize("seed", range(12))
def test_an_episode_is_the_drawn_game_s_own(seed):
    """Side by side with that game alone, from the same seed, given the same texts: same messages, payoffs, facts."""
    mixed = mixture(*GAMES)
    mixed.reset(seed)
    options = {part["name"]: part.get("options", {}) for part in GAMES}
    alone = make_game(mixed.played, options[mixed.played])
    alone.reset(seed)
    to = dict(zip(mixed.seats, alone.seats, strict=True))
    rng = random.Random(seed)
    while seats := alone.acting():
        assert [to[seat] for seat in mixed.acting()] == list(seats)
        assert mixed.clock == alone.clock
        texts = {}
        for here in mixed.acting():
            assert mixed.observe(here) == alone.observe(to[here])
            assert mixed.private(here) == alone.private(to[here])
            assert mixed.view(here).view == alone.view(to[here])
            texts[here] = rng.choice([alone.players["random"](alone.view(to[here]), rng), "?"])
        one, other = mixed.act(texts), alone.act({to[seat]: text for seat, text in texts.items()})
        assert {to[seat]: value for seat, value in one.rewards.items()} == other.rewards
        assert {to[seat]: value for seat, value in one.actions.items()} == other.actions
        assert [to[seat] for seat in one.invalid] == list(other.invalid)
    facts = mixed.facts()
    assert facts.pop("drawn") == {"game": mixed.played, "seats": to}
    assert facts == alone.facts()
    assert not mixed.acting()


def test_metrics_are_each_game_s_own():
    game = mixture(*GAMES)
    episodes = [record(game, seed, "random") for seed in range(30)]
    found = game.metrics(episodes)
    names = {episode.game for episode in episodes}
    assert names == {"prisoners_dilemma", "ultimatum", "public_goods"}
    for name in names:
        options = next(part.get("options", {}) for part in GAMES if part["name"] == name)
        alone = make_game(name, options)
        own = [record(alone, episode.seed, "random") for episode in episodes if episode.game == name]
        expected = type(alone).metrics(own)
        assert {f"{name}/{key}" for key in expected} | {f"{name}/share"} == {
            key for key in found if key.startswith(f"{name}/")
        }
        assert found[f"{name}/share"] == len(own) / 30
    told = [turn.invalid for episode in episodes for turn in episode.turns]
    assert found["invalid"] == sum(told) / len(told)


def test_metrics_of_a_seat_are_those_of_the_seat_in_its_place():
    game = mixture({"name": "public_goods", "options": {"seats": 2, "rounds": 2}})
    assert game.seats == ("p1", "p2")
    both = mixture(DILEMMA, {"name": "public_goods", "weight": 10_000, "options": {"seats": 2, "rounds": 2}})
    assert both.seats == ("alice", "bob")
    episodes = [record(both, seed, "random") for seed in range(10)]
    assert {episode.game for episode in episodes} == {"public_goods"}
    returns = [episode.returns()["bob"] for episode in episodes]
    assert both.metrics(episodes, ["bob"])["public_goods/return"] == pytest.approx(sum(returns) / len(returns))


def test_numbers_of_a_seat_are_told_from_pooled_ones_in_each_game():
    game = mixture(DILEMMA, "ultimatum")
    found = game.metrics([record(game, seed, "random") for seed in range(10)])
    of_seats = {key for key in found if of_a_seat(key, game.seats)}
    assert of_seats == {key for key in found if "/alice" in key or "/bob" in key or key.endswith(("_alice", "_bob"))}
    assert {"prisoners_dilemma/alice/cooperation", "prisoners_dilemma/return_bob"} <= of_seats
    assert "prisoners_dilemma/cooperation" in found.keys() - of_seats


def test_a_scripted_player_is_each_game_s_of_that_name_else_its_random_one():
    game = mixture(DILEMMA, {"name": "ultimatum"})
    rng = random.Random(0)
    alone = {
        name: make_game(name, {"rounds": 2} if name == "prisoners_dilemma" else {})
        for name in ("prisoners_dilemma", "ultimatum")
    }
    said = {"prisoners_dilemma": set(), "ultimatum": set()}
    for seed in range(40):
        game.reset(seed)
        seat = game.acting()[0]
        said[game.played].add(game.players["AllC"](game.view(seat), rng))
    assert said["prisoners_dilemma"] == {"<A>"}
    assert len(said["ultimatum"]) > 3
    assert set(game.players) == set(alone["prisoners_dilemma"].players) | set(alone["ultimatum"].players)


def test_episodes_bear_the_drawn_game_s_name_and_the_baseline_goes_by_it():
    rig = Rig(f"game={{name: mixture, games: {SHORT}}}", "rollout={groups: 6, group_size: 2}", "algorithm=mars")
    played = rig.play(0)
    assert {episode.game for episode in played} == {"prisoners_dilemma", "longer"}
    for group in range(6):
        assert len({episode.game for episode in played if episode.group == group}) == 1
    assert all(
        isinstance(episode, Episode) and len(episode.rewards) == 2 + (episode.game == "longer") for episode in played
    )
    table = turn_table(played)
    assert set(table["game_U"]) == {"prisoners_dilemma", "longer"}

    def paid(extra):
        last = (table["game_U"] == "longer") & (table["step_U"] == 2)
        return advantages("mars", {**table, "reward_U": table["reward_U"] + extra * last})

    assert paid(0.0).any()
    assert paid(0.0) == pytest.approx(
        paid(100.0)
    )  # all returns of that game are higher by as much, and so is their mean


@pytest.mark.parametrize(
    ("games", "words"),
    [
        ([], ["game.games"]),
        (["prisoner_dilemma"], ["game.games[0]", "prisoners_dilemma"]),
        ([DILEMMA, {"name": "ultimatum", "options": {"round": 2}}], ["game.games[1]", "rounds"]),
        ([DILEMMA, DILEMMA], ["prisoners_dilemma", "label"]),
        ([DILEMMA, "el_farol"], ["el_farol", "10", "seats"]),
        ([DILEMMA, "mixture"], ["game.games[1]", "mixture"]),
        ([{"name": "ultimatum", "weight": 0}], ["weight"]),
    ],
)
def test_what_cannot_be_mixed_is_refused(games, words):
    with pytest.raises(RecipeError) as error:
        mixture(*games)
    assert all(word in str(error.value) for word in words), error.value
