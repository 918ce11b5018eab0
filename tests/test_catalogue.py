"""`marft games`: what is said of a game is what the game is, for every game, and for a user's own."""

import io
import re
import subprocess
import sys
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field
from rich.console import Console

from marft.catalogue import play_sample, print_game, print_games
from marft.errors import GameError, RecipeError
from marft.games import GAMES, make_game
from marft.keys import keys_of, read_changes

OWN = '''
"""Guessing, as a test."""
from marft.game import Game, Message, Options, StepResult


class GuessOptions(Options):
    """target: what is to be guessed."""

    target: int = 7


def one(view, rng):
    """Says one."""
    return "1"


class Guess(Game):
    name, Options, seats, players = "guess", GuessOptions, ("solo",), {"one": one}

    def reset(self, seed):
        self.clock = 0

    def acting(self):
        return self.seats if self.clock < 2 else ()

    def observe(self, seat):
        return [Message("system", "You [bold]guess[/]\\x1b[2J."), Message("user", "Now.")]

    def act(self, texts):
        self.clock += 1
        return StepResult({"solo": float(self.options.target)}, {"solo": texts["solo"]})


class Mute(Guess):
    players = {}


class Broken(Guess):
    def act(self, texts):
        raise KeyError("the dice")
'''


def said(name=None, *changes, width=100, **options):
    console = Console(file=io.StringIO(), width=width)
    if name is None:
        print_games(console)
    else:
        print_game(name, changes, console, **options)
    return console.file.getvalue()


def flat(text):
    return " ".join(text.split())


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path}/own.py"


@pytest.mark.parametrize("width", [60, 100])
def test_every_game_is_listed_with_its_seats_and_options(width):
    text = said(width=width)
    for name, cls in GAMES.items():
        assert f"\n{name} " in f"\n{text}"
        for field in cls.Options.model_fields:
            assert field in flat(text)
    lines = {line.split()[0]: flat(line) for line in text.splitlines() if line and not line.startswith(" ")}
    assert lines["prisoners_dilemma"].endswith("2 seats (alice, bob), 10 steps, at once")
    assert lines["sequential_public_goods"].endswith("4 seats (p1 … p4), 10 steps, in turn")
    assert "env: required, but missing" in flat(text.partition("pettingzoo")[2])
    assert lines["guess_two_thirds"].endswith("10 seats (p1 … p10), 20 steps, at once")


def test_a_listed_game_of_another_package_may_be_broken(tmp_path, monkeypatch):
    info = tmp_path / "added-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: added\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[marft.games]\nadded_game = no_such_module:Game\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "game 'added_game' cannot be imported: ModuleNotFoundError" in flat(said())


def test_a_game_that_cannot_be_made_is_listed_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    from marft.games.spiel import load_game

    load_game.cache_clear()
    text = flat(said())
    assert "tic_tac_toe" in text
    assert "pip install marft[games]" in text


@pytest.mark.parametrize("name", sorted(set(GAMES) - {"openspiel"}))
def test_rules_options_players_and_an_episode_of_every_game_are_told(name):
    if not _can_be_made(name):
        pytest.skip(f"{name} needs a package that is not installed")
    game, text = make_game(name), flat(said(name))
    game.reset(0)
    seat = game.acting()[0]
    assert flat(game.observe(seat)[0].text) in text
    for key in keys_of(game.Options):
        assert f" {key.name}={key.default} " in text
        assert key.meaning, f"{name}: the option {key.name} has no meaning; say it in the docstring of Options"
        assert flat(key.meaning) in text
    for player in game.players:
        assert re.search(rf"[ ,]{re.escape(player)}[ ,:]", text)
    assert "an episode (seed 0) step 0" in text
    assert "none of its own" not in text


def _can_be_made(name):
    try:
        make_game(name)
    except RecipeError:
        return False
    return True


def test_changed_options_change_rules_episode_and_what_is_said_of_them():
    text = flat(said("prisoners_dilemma", "rounds=2", "payoffs.T=5.5", "action_names=[left, right]", steps=9))
    assert "You and another player play 2 rounds. In each, both choose left or right at once" in text
    assert "rounds=2 (default 10)" in text
    assert "payoffs.T=5.5 (default 5)" in text
    assert "payoffs.R=3 number" in text
    # alice plays AllC, bob AllD: S = 0 and T = 5.5 in each of two rounds
    assert "return alice 0, bob 11" in text
    assert "more step" not in text


def test_the_episode_is_cut_and_the_rest_counted():
    text = said("prisoners_dilemma", steps=2)
    assert "step 1 " in text
    assert "step 2" not in text
    assert "and 8 more steps; --steps 10 shows all" in text


def test_the_same_seed_shows_the_same_and_another_another():
    assert said("trust_and_split", seed=3) == said("trust_and_split", seed=3)
    assert said("trust_and_split", seed=3).replace("seed 3", "") != said("trust_and_split", seed=4).replace(
        "seed 4", ""
    )


def test_players_take_the_seats_in_turn():
    sample = play_sample(make_game("public_goods"), 0, ["random", "least"][:1] * 2)
    assert set(sample.team.values()) == {"scripted:random"}
    sample = play_sample(make_game("prisoners_dilemma"), 0, ["AllD", "AllC"])
    assert sample.returns() == {"alice": 50.0, "bob": 0.0}  # AllD against AllC, ten rounds of 5 and 0


def test_a_users_own_game_is_told_of_and_its_text_stays_text(own):
    text = flat(said(f"{own}:Guess", "target=3"))
    parts = ["Guessing, as a test.", "1 seat: solo; 2 steps, alone", "system: You [bold]guess[/]␛[2J."]
    parts += ["target=3 (default 7) whole number", "what is to be guessed.", "one: Says one.", "return solo 6"]
    for part in parts:
        assert part in text


def test_a_game_that_needs_an_option_says_which_and_what_it_means():
    console = Console(file=io.StringIO(), width=100)
    with pytest.raises(RecipeError, match=r"pettingzoo: game\.env: required, but missing"):
        print_game("pettingzoo", (), console)
    assert "env=required text" in flat(console.file.getvalue())
    assert '"path/to/file.py:function" that makes the environment' in flat(console.file.getvalue())


def test_a_game_without_players_is_told_of_as_far_as_it_goes(own):
    assert "give the class `players`" in flat(said(f"{own}:Mute"))


def test_what_is_wrong_with_a_game_or_an_option_is_said(own):
    with pytest.raises(GameError, match="KeyError: 'the dice'"):
        said(f"{own}:Broken")
    with pytest.raises(RecipeError, match="did you mean 'ultimatum'"):
        said("ultimatom")
    with pytest.raises(RecipeError, match=r"game\.round: unknown key; did you mean 'rounds'"):
        said("ultimatum", "round=3")
    with pytest.raises(RecipeError, match="must read key.sub=value"):
        said("ultimatum", "rounds")


def test_changes_are_read_as_a_recipe_reads_them():
    assert read_changes(["rounds=3", "payoffs.T=1e1", "talk=true", "arms=[a, b]"]) == {
        "rounds": 3, "payoffs": {"T": 10.0}, "talk": True, "arms": ["a", "b"],
    }  # fmt: skip


def test_keys_say_default_bounds_and_meaning():
    class Inner(BaseModel):
        """a, b: both of these. c: no; a: said later wins."""

        a: float = 0.5
        b: Annotated[int, Field(gt=0, lt=9)] = 3
        c: bool = False

    class Base(BaseModel):
        """Something else. first: of the base: with a colon. second: replaced (see first)."""

        first: Literal["x", "y"] = "x"
        second: int | None = Field(None, ge=1)

    class Outer(Base):
        """second: of the subclass, which uses third."""

        third: str = ""
        inner: Inner = Inner(a=2.0)
        must: tuple[int, ...] = Field(min_length=2, description="from the field")
        pair: tuple[str, int] = ("a", 1)

    assert [tuple(key) for key in keys_of(Outer)] == [
        ("first", "x", "x | y", "of the base: with a colon."),
        ("second", "null", "whole number from 1 | null", "of the subclass, which uses third."),
        ("third", '""', "text", "see second"),
        ("inner.a", "2", "number", "said later wins."),
        ("inner.b", "3", "whole number above 0 below 9", "both of these."),
        ("inner.c", "false", "true | false", "no"),
        ("must", "required", "a list of whole number, at least 2", "from the field"),
        ("pair", '["a", 1]', "[text, whole number]", ""),
    ]


def test_the_command_needs_no_torch():
    code = "import sys; sys.argv = ['marft', 'games', 'ultimatum', 'rounds=1', '--options', 'endowment=7']\n"
    code += "import marft.cli\ntry: marft.cli.main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith("False\n")
    assert "rounds=1" in done.stdout
    assert "a part of 7 coins" in flat(done.stdout)
