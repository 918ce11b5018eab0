"""No text makes a reader work more than in proportion to its length: no pattern of the games can backtrack far."""

import ast
import gc
import inspect
import pkgutil
import random
import re
import time
from importlib import import_module

import pytest

pytest.importorskip("pyspiel")
pytest.importorskip("pettingzoo")

import fuzz_answers

import marft.games
from marft.game import Game
from marft.games import make_game
from marft.games.text import items_reader

MODULES = [import_module(f"marft.games.{module.name}") for module in pkgutil.iter_modules(marft.games.__path__)]
UNITS = ["1", "0", ".", "+", " ", ", ", "\n", "\u2003", "a", "[", "]", "[a", "[a] ", "1 ", "1,", "1 hat", "p2 1, "]
UNITS += ["<answer>", "</answer>", "<answer>1", "<answer></answer>", "<", "</", "Proposal:", "Proposal: 1 hats, "]
UNITS += ["Proposal: 1 hats, 2 books, 3 ball", "a book is worth ", "a book is worth 1, a hat 2, a ball ", "propose 1 "]
UNITS += ["[Observer: 0]", "[Observer: 0][Private: 1][Round 1][Player: 0][Pot: 2]", "[Pot: 1", "<A>", "<B", "accept"]
UNITS += ["<<message_start>>", "<<message_end>>", "<<proposal_start>>1", "<<proposal_end>>", "x\x00", '"']
STARTS = ["<answer>", "<<message_start>>", "<<proposal_start>>", "Proposal: ", "[", "[Observer: 0][Pot: ", "1", "+"]
ENDS = ["", "</answer>", "<<message_end>>", "<<proposal_end>>", "]", "hats", "!"]
TEXTS = [("", unit, end) for unit in UNITS for end in ENDS]
TEXTS += [(start, unit, "!") for start in STARTS for unit in UNITS]


def patterns():
    """Every compiled pattern of the games, by where it stands; the readers of proposals keep theirs in a closure."""
    found = {
        f"{module.__name__}.{name}": value
        for module in MODULES
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
    }
    for items in (("hat", "book", "ball"), ("book", "hat", "ball")):
        found[f"items_reader{items}"] = inspect.getclosurevars(items_reader(items)).nonlocals["pattern"]
    return found


def calls_of_re():
    """Where the games' sources use the module re."""
    for module in MODULES:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "re":
                yield module.__name__.rpartition(".")[2], node.attr


def test_no_pattern_is_left_out():
    made = [module for module, what in calls_of_re() if what == "compile"]
    assert {what for _, what in calls_of_re()} <= {"compile", "escape", "Pattern"}
    here = [name.split(".")[2] for name in patterns() if name.startswith("marft")]
    assert sorted(made) == sorted([*here, "text"])  # text: the pattern of items_reader


def seconds(work, *arguments):
    """The least processor time of two tries."""
    least = float("inf")
    for _ in range(2):
        start = time.process_time()
        work(*arguments)
        least = min(least, time.process_time() - start)
    return least


def growth(work, start, unit, end, size):
    """The time a text of `size` characters takes, and one four times as long."""
    short, long = (start + unit * (length // len(unit)) + end for length in (size, 4 * size))
    return seconds(work, short), seconds(work, long)


def steep(work, size, texts=TEXTS, slack=0.0005, tries=4):
    """Texts on which four times the length takes more than eight times as long, beyond `slack` seconds for the clock.

    What looks steep is measured again, since other work on the machine disturbs the clock.
    """
    found = []
    for start, unit, end in texts:
        for _ in range(tries):
            once, later = growth(work, start, unit, end, size)
            if later <= 8 * once + slack:
                break
        else:
            found.append((start, unit, end, once, later))
    return found


@pytest.mark.parametrize("name", sorted(patterns()))
@pytest.mark.parametrize("how", ["search", "match", "fullmatch"])
def test_patterns_take_time_in_proportion(name, how):
    gc.disable()
    try:
        assert steep(getattr(patterns()[name], how), 2000) == []
    finally:
        gc.enable()


@pytest.mark.parametrize("pattern", [r"\s+$", r"[0-9]+hats", r"<answer>.*</answer>.*!!"])
def test_a_pattern_that_backtracks_is_caught(pattern):
    """Quadratic ones, since an exponential one would never come back."""
    texts = [("", " ", "!"), ("", "1", ""), ("", "<answer></answer>", "")]
    assert any(steep(re.compile(pattern, re.DOTALL).search, 2000, texts, tries=1) for _ in range(4))


@pytest.mark.parametrize(("name", "options"), fuzz_answers.GAMES)
def test_games_read_in_proportion(name, options):
    """Each unit, as the first answer of an episode and, after a readable one, as the second."""
    game = make_game(name, options)
    game.reset(1)
    later = game.clone()
    rng = random.Random(0)
    later.act({seat: game.players["random"](game.view(seat), rng) for seat in game.acting()})
    for place in (game, later):
        assert isinstance(place, Game)
        if not place.acting():
            continue

        def work(text, place=place):
            place.clone().act({seat: text if number == 0 else "" for number, seat in enumerate(place.acting())})

        texts = [(start, unit, end) for start, end in (("", ""), ("<answer>", "</answer>")) for unit in UNITS]
        assert steep(work, 10_000, texts, slack=0.005) == []
