"""Every number a game measures has a heading and a meaning in the report, and the docstring that says it is right."""

import pytest

pytest.importorskip("pyspiel")
pytest.importorskip("pettingzoo")

from table_play import record

from marft.game import Game, of_a_seat
from marft.games import GAMES, make_game
from marft.report.names import KNOWN, meaning_of, name_of

NEEDS = {"pettingzoo": {"env": "zoo:Echo"}, "public_goods": {"punishment": True}}
NAMES = sorted(set(GAMES) - {"textarena"})


def pooled(name):
    game = make_game(name, NEEDS.get(name))
    found = game.metrics([record(game, seed, "random") for seed in range(3)])
    return [key for key in found if "/" not in key and not of_a_seat(key, game.seats)]


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_has_a_heading_and_a_meaning(name):
    for metric in pooled(name):
        heading, meaning = name_of(metric), meaning_of(metric, name)
        assert heading[0].isupper() or heading == KNOWN[metric][0]
        assert "_" not in heading
        assert len(meaning.split()) >= 2, f"{name}: say in the docstring of metrics what {metric} is"
        assert meaning[0].isupper() or meaning[0].isdigit()
        assert meaning.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_speaks_of_metrics_that_there_are(name):
    assert set(GAMES[name].meanings()) <= set(pooled(name))


def test_meanings_are_read_from_the_docstring():
    assert GAMES["fishery"].meanings()["equality"] == "1 - gini."
    assert GAMES["split"].meanings()["claim_same"].startswith("Mean claim of items that are worth more to oneself than")
    assert GAMES["sealed_bid_auction"].meanings()["bid_share"] == "Mean of bid over value, where the value is not 0."

    class Mine(Game):
        @classmethod
        def metrics(cls, episodes, seats=None):
            """What it counts. here, there: shares; of all. all_of_it: 3 of a kind. And no more: than this"""
            return {}

    assert Mine.meanings() == {"here": "Shares; of all.", "there": "Shares; of all.", "all_of_it": "3 of a kind."}
    Mine.metrics.__func__.__doc__ = None
    assert Mine.meanings() == {}


def test_a_lost_game_is_not_the_loss_of_training():
    assert meaning_of("loss", "kuhn_poker").startswith("Shares of episodes")
    assert meaning_of("loss").startswith("The value that was minimised")
    assert meaning_of("own_number", "my_game.py:Mine") == ""
    assert name_of("own_number") == "Own number"


@pytest.mark.parametrize("name", sorted(GAMES))
def test_every_scripted_player_says_what_it_does(name):
    assert [player for player, function in GAMES[name].players.items() if not function.__doc__] == []
