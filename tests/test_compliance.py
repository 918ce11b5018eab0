"""The compliance check passes every built-in game and catches each way of breaking the contract."""

import random

import numpy as np
import pytest

from marft.compliance import check_game
from marft.errors import GameError
from marft.game import Game, Message, StepResult
from marft.games import GAMES, make_game
from marft.games.matrix import MatrixGame

MATRIX = sorted(name for name, cls in GAMES.items() if issubclass(cls, MatrixGame))
OPTIONS = [
    {},
    {"cheap_talk": True, "message_limit": 30},
    {"shuffle_names": True, "continue_probability": 0.7, "invalid": "forfeit"},
    {"rounds": 1, "invalid": "second", "action_names": ["cooperate", "defect"]},
    {"cheap_talk": True, "shuffle_names": True, "continue_probability": 0.9, "invalid": "first"},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", MATRIX)
def test_matrix_games_comply(name, options):
    check_game(lambda: make_game(name, options), seeds=(0,))


class Honest(Game):
    """Each of two seats holds a hidden number and says anything twice; the baseline the broken games start from."""

    name = "honest"
    seats = ("left", "right")

    def reset(self, seed):
        self.rng = random.Random(seed)
        self.cards = {seat: f"card {self.rng.randrange(10**9)}" for seat in self.seats}
        self.clock = 0
        self.heard = {"left": "", "right": ""}

    def acting(self):
        return self.seats if self.clock < 2 else ()

    def observe(self, seat):
        return [Message("user", f"You hold {self.cards[seat]}. They said {self.heard[seat]!r:.50}")]

    def act(self, texts):
        self.clock += 1
        self.heard = {"left": texts["right"], "right": texts["left"]}
        return StepResult(dict.fromkeys(self.seats, 1.0), {seat: len(text) for seat, text in texts.items()})

    def facts(self):
        return dict(self.cards)

    def private(self, seat):
        return self.cards[seat]


class GlobalRandom(Honest):
    def reset(self, seed):
        super().reset(seed)
        random.random()


class GlobalNumpy(Honest):
    def act(self, texts):
        np.random.rand()
        return super().act(texts)


class Endless(Honest):
    def acting(self):
        return self.seats


class AsksAgain(Honest):
    def act(self, texts):
        result = super().act(texts)
        self.clock -= not texts["left"].strip()
        return result


class NotANumber(Honest):
    def act(self, texts):
        return StepResult({"left": float("nan")}, dict.fromkeys(texts, 0))


class PaysStrangers(Honest):
    def act(self, texts):
        self.clock += 1
        return StepResult({"middle": 1.0}, dict.fromkeys(texts, 0))


class Raises(Honest):
    def act(self, texts):
        float(texts["left"])
        return super().act(texts)


class RaisesOnUnicodeDigits(Honest):
    def act(self, texts):
        for text in texts.values():
            if "²" in text and any(char.isdigit() for char in text):
                [int(char) for char in text if char.isdigit()]
        return super().act(texts)


class Restless(Honest):
    def reset(self, seed):
        super().reset(seed)
        self.rng = random.Random()

    def act(self, texts):
        result = super().act(texts)
        result.rewards["left"] = self.rng.random()
        return result


class RemembersEpisodes(Honest):
    episodes = 0

    def reset(self, seed):
        super().reset(seed)
        self.episodes += 1

    def act(self, texts):
        result = super().act(texts)
        result.rewards["left"] = float(self.episodes)
        return result


class Shares(Honest):
    heard_by_all: list = []

    def reset(self, seed):
        super().reset(seed)
        self.heard_by_all.clear()

    def act(self, texts):
        self.heard_by_all.append(1)
        result = super().act(texts)
        result.rewards["left"] = float(len(self.heard_by_all))
        return result


class ShallowClone(Honest):
    def reset(self, seed):
        super().reset(seed)
        self.log = []

    def act(self, texts):
        result = super().act(texts)
        self.log.append(texts["left"])
        result.actions["left"] = len(self.log)
        return result

    def clone(self):
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin


class ForgetfulClone(Honest):
    def clone(self):
        twin = type(self)()
        twin.reset(0)
        return twin


class Leaks(Honest):
    def observe(self, seat):
        return [Message("user", str(self.cards))]


class OrderMatters(Honest):
    def act(self, texts):
        result = super().act(texts)
        result.rewards["left"] = 1.0 if next(iter(texts)) == "left" else 0.0
        return result


class StrangeRole(Honest):
    def observe(self, seat):
        return [Message("assistant", "I said that")]


class NotText(Honest):
    def observe(self, seat):
        return [Message("user", 3)]


class Silent(Honest):
    def observe(self, seat):
        return []


class UnknownSeat(Honest):
    def acting(self):
        return ("middle",) if self.clock < 2 else ()


class NotJson(Honest):
    def act(self, texts):
        self.clock += 1
        return StepResult({}, {seat: {1, 2} for seat in texts})


class ForgetsAnAction(Honest):
    def act(self, texts):
        result = super().act(texts)
        del result.actions["left"]
        return result


class FactsNotJson(Honest):
    def facts(self):
        return {"cards": {1: "one"}}


class ClockRunsBack(Honest):
    def act(self, texts):
        result = super().act(texts)
        self.rounds = getattr(self, "rounds", 0) + 1
        self.clock = -self.rounds
        return result


def test_an_honest_game_passes():
    check_game(Honest, texts=["hello"])


@pytest.mark.parametrize(
    ("game", "broken"),
    [
        (GlobalRandom, "global generators"),
        (GlobalNumpy, "global generators"),
        (Endless, "the game ends"),
        (AsksAgain, "the game ends"),
        (NotANumber, "rewards are finite"),
        (PaysStrangers, "only known seats are paid"),
        (Raises, "act never raises"),
        (RaisesOnUnicodeDigits, "act never raises"),
        (Restless, "same seed and texts"),
        (RemembersEpisodes, "reset forgets"),
        (Shares, "instances do not touch"),
        (ShallowClone, "a clone is equal and independent"),
        (ForgetfulClone, "a clone is equal and independent"),
        (Leaks, "secrets stay"),
        (OrderMatters, "seats may be asked in any order"),
        (StrangeRole, "known role"),
        (NotText, "known role"),
        (Silent, "told something"),
        (UnknownSeat, "acting seats are known"),
        (NotJson, "JSON-able action"),
        (ForgetsAnAction, "JSON-able action"),
        (FactsNotJson, "facts are JSON"),
        (ClockRunsBack, "clock never runs back"),
    ],
)
def test_a_broken_game_is_caught_by_name_and_seed(game, broken):
    with pytest.raises(GameError) as error:
        check_game(game, seeds=(5,), texts=["hello"], max_decisions=200)
    assert broken in str(error.value)
    assert "seed 5" in str(error.value)
    assert "honest" in str(error.value)


def test_a_secret_that_somebody_told_is_no_leak():
    class Tells(Honest):
        """The other's words are shown whole."""

        def observe(self, seat):
            return [Message("user", f"You hold {self.cards[seat]}. They said {self.heard[seat]}")]

        def view(self, seat):
            return self.cards[seat]

        players = {"honest": lambda view, rng: f"I hold {view}"}

    check_game(Tells)


def test_the_check_leaves_global_generators_alone():
    before = random.getstate()
    check_game(lambda: make_game("prisoners_dilemma"), seeds=(0,))
    assert random.getstate() == before
