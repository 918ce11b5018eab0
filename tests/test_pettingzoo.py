"""PettingZoo both ways: its environments keep the contract of games, and games pass its own tests."""

import random
import warnings

import pytest

pytest.importorskip("pettingzoo")

import zoo
from pettingzoo.test import api_test, seed_test

from marft.compliance import check_game
from marft.errors import RecipeError
from marft.games import make_game
from marft.games.as_pettingzoo import GameEnv

ECHO = {"env": "zoo:Echo"}
NIM = {"env": "zoo:Nim", "render": "zoo:nim_text", "rules": "Take the last match."}


@pytest.mark.parametrize("options", [ECHO, NIM, {**ECHO, "arguments": {"rounds": 5}, "max_decisions": 3}])
def test_environments_keep_the_contract_of_games(options):
    check_game(lambda: make_game("pettingzoo", options), texts=["abc", "<answer>2</answer>"])


def test_a_parallel_environment_asks_all_at_once_and_pays_as_it_does():
    game = make_game("pettingzoo", ECHO)
    game.reset(0)
    assert game.seats == game.acting() == ("ann", "ben")
    result = game.act({"ann": "ab", "ben": "bc"})
    assert result.rewards == {"ann": 1.0, "ben": 1.0}  # b is in both
    assert result.actions == {"ann": "ab", "ben": "bc"}
    assert game.observe("ann")[0].text == "bc"
    assert game.observe("ben")[0].text.startswith("ab ")
    result = game.act({"ann": "abc", "ben": "no such letters"})
    assert result.invalid == ("ben",)
    assert set(result.actions["ben"]) <= set(zoo.LETTERS)
    assert 1 <= len(result.actions["ben"]) <= 5
    assert game.acting() == ()
    assert game.facts() == {"played": 2, "cut": False}


def test_the_shared_generators_decide_nothing_and_stay_as_they_were():
    game = make_game("pettingzoo", ECHO)
    words = []
    for outer in (1, 2):
        random.seed(outer)
        before = random.getstate()
        game.reset(7)
        words.append(game.observe("ann"))
        assert random.getstate() == before
    assert words[0] == words[1]
    game.reset(8)
    others = [make_game("pettingzoo", ECHO) for _ in range(20)]
    for seed, other in enumerate(others):
        other.reset(seed)
    assert len({other.observe("ann")[0].text for other in others}) > 3  # of nine words


def test_an_environment_in_turns_is_rendered_masked_and_paid():
    game = make_game("pettingzoo", {**NIM, "arguments": {"heap": 4}})
    game.reset(0)
    assert game.acting() == ("left",)
    text = game.observe("left")[0].text
    assert text == "Take the last match.\nleft: 4 matches are left.\nAnswer with one of 1, 2, 3, as <answer>1</answer>."
    assert game.act({"left": "I take <answer>2</answer>."}).rewards == {"left": 0, "right": 0}
    assert "Answer with one of 1, 2, as" in game.observe("right")[0].text
    result = game.act({"right": "<answer>3</answer>"})  # only two are left
    assert result.invalid == ("right",)
    taken = result.actions["right"]
    assert taken in (1, 2)
    if taken == 1:
        assert "Take" not in game.observe("left")[0].text
        assert game.act({"left": "<answer>1</answer>"}).rewards == {"left": 1.0, "right": -1.0}
    else:
        assert result.rewards == {"left": -1.0, "right": 1.0}
    assert game.acting() == ()


def test_what_cannot_be_played_is_refused_with_the_reason():
    for options, message in [
        ({}, "game.env: required"),
        ({"env": "zoo:Ecco"}, "game.env.*did you mean 'Echo'"),
        ({"env": "zoo"}, "game.env"),
        ({"env": "zoo:Nim"}, "is no Text; give game.render"),
        ({"env": "zoo:Pictures"}, "needs Discrete or Text"),
        ({"env": "zoo:Nameless", "render": "zoo:nim_text"}, "possible_agents as texts"),
    ]:
        with pytest.raises(RecipeError, match=message):
            make_game("pettingzoo", options)


GAMES = ["prisoners_dilemma", "ultimatum", "trust_and_split", "public_goods", "battle_royale", "pirates", "bandit"]


@pytest.mark.parametrize("name", GAMES)
def test_games_pass_the_tests_of_pettingzoo(name):
    with warnings.catch_warnings():  # advice: spaces and names of another kind are usual there
        warnings.simplefilter("ignore")
        api_test(GameEnv(make_game(name)), num_cycles=100)
        seed_test(lambda: GameEnv(make_game(name)), num_cycles=50)


def test_a_game_as_an_environment_pays_when_the_last_seat_has_answered():
    env = GameEnv(make_game("prisoners_dilemma", {"rounds": 2}))
    env.reset(seed=0)
    answers = {"alice": ["<A>", "<B>"], "bob": ["<B>", "nonsense <A>"]}
    earned, order = {"alice": 0.0, "bob": 0.0}, []
    for agent in env.agent_iter():
        seen, reward, over, cut, info = env.last()
        earned[agent] += reward
        order.append(agent)
        if over:
            env.step(None)
            continue
        assert not cut
        assert env.observation_space(agent).contains(seen)
        if len(order) == 4:
            assert seen == "The other chose <A>. Your choice?"
            assert info == {"action": "D", "invalid": False}
        env.step(answers[agent].pop(0))
    assert order == ["alice", "bob", "alice", "bob", "alice", "bob"]
    assert earned == {"alice": 0.0 + 5.0, "bob": 5.0 + 0.0}  # S and T, then T and S


def test_there_and_back_a_game_is_the_same_game(tmp_path):
    (tmp_path / "inner.py").write_text(
        "from marft.games import make_game\n"
        "from marft.games.as_pettingzoo import GameEnv\n"
        "def env(name):\n"
        "    return GameEnv(make_game(name))\n"
    )
    for name, texts in {"ultimatum": ["<answer>3</answer>", "<answer>accept</answer>"], "pirates": ["x"]}.items():
        game = make_game(name)
        outer = make_game("pettingzoo", {"env": f"{tmp_path}/inner.py:env", "arguments": {"name": name}})
        rng, returns = random.Random(0), []
        for one in (game, outer):
            one.reset(11)
            total = dict.fromkeys(one.seats, 0.0)
            rng.seed(0)
            while seats := one.acting():
                said = {seat: rng.choice(texts) for seat in seats}
                for seat, value in one.act(said).rewards.items():
                    total[seat] += value
            returns.append(total)
        assert returns[0] == returns[1]


def test_an_environment_refuses_what_is_no_text():
    env = GameEnv(make_game("bandit"))
    env.reset(seed=0)
    with pytest.raises(TypeError, match="alice acts by a text, not 3"):
        env.step(3)
