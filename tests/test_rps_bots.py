"""The rock-paper-scissors programs: all there, reproducible however matches interleave, gone when their user is."""

import os
import random
import signal
import subprocess
import sys
import time

import pyspiel
import pytest

from marft.errors import GameError
from marft.game import play_scripted
from marft.games import make_game, rps_bots
from marft.games.rps_bots import BOTS, Nursery

ALONE = """
import ctypes, pyspiel, sys
bot, seed, theirs = sys.argv[1], int(sys.argv[2]), [int(throw) for throw in sys.argv[3]]
ctypes.CDLL(None).srandom(seed)
player = pyspiel.make_roshambo_bot(0, bot, 1000)
state = pyspiel.load_game("repeated_game(stage_game=matrix_rps(),num_repetitions=1000)").new_initial_state()
for throw in theirs:
    own = player.step(state)
    print(own, end="")
    state.apply_actions([own, throw])
"""


@pytest.fixture
def home():
    made = Nursery()
    yield made
    made.close()


def match(home, bot, seed, theirs):
    """The program's throws against a fixed sequence."""
    own = b""
    for i in range(len(theirs)):
        own += bytes([home.throw(bot, seed, own, theirs[:i])])
    return own


def throws(seed, count):
    return bytes(random.Random(seed).randrange(3) for _ in range(count))


def test_every_program_of_openspiel_is_a_player():
    assert sorted(BOTS) == sorted(pyspiel.roshambo_bot_names())
    assert len(BOTS) == 43
    assert set(BOTS) <= set(make_game("rock_paper_scissors").players)


@pytest.mark.parametrize("bot", ["iocainebot", "greenberg", "randbot", "switchbot"])
def test_a_program_throws_what_it_throws_alone_in_a_process(home, bot):
    theirs = throws(bot, 60)
    command = [sys.executable, "-c", ALONE, bot, "17", "".join(map(str, theirs))]
    alone = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert match(home, bot, 17, theirs) == bytes(map(int, alone))


def test_every_program_is_the_same_again_whatever_runs_beside_it(home):
    alone = {bot: match(home, bot, 3, throws(bot, 25)) for bot in BOTS}
    beside: dict = dict.fromkeys(BOTS, b"")
    for i in range(25):
        for bot in BOTS:
            beside[bot] += bytes([home.throw(bot, 3, beside[bot], throws(bot, 25)[:i])])
    assert beside == alone
    drawn = [bot for bot in BOTS if match(home, bot, 4, throws(bot, 25)) != alone[bot]]
    assert len(drawn) > 15  # most programs draw, and another seed is another match


def test_a_match_is_one_child_and_a_branch_another(home):
    own = match(home, "iocainebot", 1, throws(1, 40))
    assert home.alive == 1
    home.throw("iocainebot", 1, own[:20], throws(1, 40)[:20])
    assert home.alive == 2


def test_matches_that_share_a_beginning_part_without_mixing(home):
    whole = throws(0, 30)
    other = whole[:15] + bytes((throw + 1) % 3 for throw in whole[15:])
    alone = [match(home, "biopic", 5, theirs) for theirs in (whole, other)]
    assert alone[0][:16] == alone[1][:16]
    assert alone[0] != alone[1]
    own = [b"", b""]
    for i in range(30):
        for k, theirs in enumerate((whole, other)):
            own[k] += bytes([home.throw("biopic", 5, own[k], theirs[:i])])
    assert own == alone


def test_a_program_follows_what_was_really_thrown_in_its_seat(home):
    """freqbot2 beats the other's most frequent throw; copybot plays against its own last one."""
    assert home.throw("freqbot2", 0, b"\0\0\0", b"\1\1\1") == 2
    for last in range(3):
        answers = {home.throw("copybot", 0, own + bytes([last]), b"\1\1\1") for own in (b"\0\0", b"\2\1")}
        assert len(answers) == 1


def test_episodes_against_programs_replay():
    game = make_game("rock_paper_scissors", {"throws": 30})
    pairs = [("randbot", "iocainebot"), ("greenberg", "biopic"), ("randbot", "randbot")]
    players = [dict(zip(game.seats, (game.players[a], game.players[b]), strict=True)) for a, b in pairs]
    first = [play_scripted(game, seed, player) for seed, player in enumerate(players)]
    assert first == [play_scripted(game, seed, player) for seed, player in enumerate(players)]
    games = [make_game("rock_paper_scissors", {"throws": 30}) for _ in players]
    for seed, one in enumerate(games):
        one.reset(seed)
    results = [[] for _ in players]
    while games[0].acting():
        for one, player, result in zip(games, players, results, strict=True):
            result.append(one.act({seat: player[seat](one.view(seat), random.Random(0)) for seat in one.seats}))
    assert results == first
    assert first[2] != [{}] * 30
    assert {tuple(result.actions.values()) for result in first[2]} > {("rock", "rock")}  # both seats draw apart


def test_programs_exploit_a_simple_player():
    game = make_game("rock_paper_scissors", {"throws": 100})
    for bot in ("iocainebot", "greenberg", "phasenbott"):
        players = {"alice": game.players[bot], "bob": game.players["rockbot"]}
        assert sum(result.rewards["alice"] for result in play_scripted(game, 0, players)) > 80


def test_children_stay_few(home, monkeypatch):
    monkeypatch.setattr(rps_bots, "LIMIT", 4)
    for seed in range(10):
        home.throw("randbot", seed, b"", b"")
    assert home.alive == 4
    home.throw("randbot", 9, b"\0", b"\0", last=True)
    assert home.alive <= 4


def test_a_dead_and_a_stuck_process_are_named(home):
    home.control.settimeout(0.3)
    os.kill(home.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(GameError, match="randbot"):
            home.throw("randbot", 0, b"", b"")
    finally:
        os.kill(home.process.pid, signal.SIGCONT)
    home.process.kill()
    home.process.wait()
    with pytest.raises((GameError, OSError)):
        home.throw("randbot", 0, b"", b"")


def test_all_processes_end_with_the_one_that_asked():
    code = (
        "import os, signal, sys\n"
        "from marft.games.rps_bots import nursery\n"
        "home = nursery()\n"
        "home.throw('randbot', 0, b'', b'')\n"
        "print(home.process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        pid = int(user.stdout.readline())
        group = children_of_session(pid)
        assert len(group) == 2  # the nursery and one child
        user.kill()
    deadline = time.monotonic() + 20
    while children_of_session(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children_of_session(pid) == []


def children_of_session(session):
    """Process ids in a session, from /proc, without those that have ended."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(name))
    return found
