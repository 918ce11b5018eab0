"""The 43 rock-paper-scissors programs of OpenSpiel as scripted players, each match in a process of its own.

The programs (RoShamBo, Billings 1999) keep their memory in C globals and draw from the C library's one generator, so
two matches in one process would mix. One nursery process imports OpenSpiel, never lets a program think, and forks a
child for each match; the child seeds its own generator and is asked throw by throw over a socket. A child that has
been led down one course of play is kept under exactly that course: whoever asks for the next throw after it gets that
child, anybody else a new one that is led there first. So a player stays a function of its view, however episodes
interleave, branch or repeat.

The nursery ends when this process closes its end of the socket, by exit or by death, and each child likewise; a child
is ended when its match is over, and the longest unused one when there are more than LIMIT. Every wait has a deadline.
"""

from __future__ import annotations

import atexit
import os
import random
import socket
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from marft.errors import GameError, RecipeError
from marft.games.spiel import import_pyspiel

if TYPE_CHECKING:
    from marft.game import Player
    from marft.games.openspiel import SpielView

# fmt: off
BOTS = (
    "actr_lag2_decay", "adddriftbot2", "addshiftbot3", "antiflatbot", "antirotnbot", "biopic", "boom", "copybot",
    "debruijn81", "driftbot", "flatbot3", "foxtrotbot", "freqbot2", "granite", "greenberg", "halbot", "inocencio",
    "iocainebot", "marble", "markov5", "markovbails", "mixed_strategy", "mod1bot", "multibot", "peterbot",
    "phasenbott", "pibot", "piedra", "predbot", "r226bot", "randbot", "robertot", "rockbot", "rotatebot",
    "russrocker4", "shofar", "sunCrazybot", "sunNervebot", "sweetrock", "switchalot", "switchbot", "textbot",
    "zq_move",
)
# fmt: on
THROWS = 1000
"""Throws a program is told a match has, as in the tournament it was written for: some take their memory's size from it,
and fail when told less."""
LIMIT = 256
"""Children alive at once."""
FIRST = 9
"""Asks a child for its first throw; a byte 3 * own + other tells of a throw of both and asks for the next."""
START_SECONDS, THROW_SECONDS = 60.0, 20.0


class Course(NamedTuple):
    """What a child has been through: the throws of both, oldest first, as bytes 0 to 2."""

    bot: str
    seed: int
    own: bytes
    other: bytes


class Nursery:
    """The process that forks children, and the children that wait for the throw after their course."""

    def __init__(self) -> None:
        if not hasattr(import_pyspiel("a rock-paper-scissors bot"), "make_roshambo_bot"):
            raise RecipeError("this build of OpenSpiel has no rock-paper-scissors bots; install one that has roshambo")
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.waiting: OrderedDict[Course, list[socket.socket]] = OrderedDict()
        self.alive = 0
        self.control, theirs = socket.socketpair()
        command = [sys.executable, "-P", str(Path(__file__).with_name("rps_nursery.py")), str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt at the terminal is this process's to handle
            )
        self.control.settimeout(START_SECONDS)
        self._acknowledged("the process of the rock-paper-scissors bots to start")

    def throw(self, bot: str, seed: int, own: bytes, other: bytes, last: bool = False) -> int:
        """The program's throw (0 rock, 1 paper, 2 scissors) after these; `last` says that none will be asked after it.

        own is what was really thrown in its seat, whether or not the program had chosen it.
        """
        with self.lock:
            child = self._take(Course(bot, seed, own[:-1], other[:-1])) if own else None
            if child is None:
                child = self._bear(bot, seed)
                pairs = [FIRST, *(3 * mine + theirs for mine, theirs in zip(own, other, strict=True))]
            else:
                pairs = [3 * own[-1] + other[-1]]
            try:
                child.sendall(bytes(pairs))
                throws = _receive(child, len(pairs))
            except OSError as error:
                self._end(child)
                raise GameError(f"waited for the rock-paper-scissors bot {bot} to throw: {error}") from error
            if last:
                self._end(child)
            else:
                self.waiting.setdefault(Course(bot, seed, own, other), []).append(child)
            return throws[-1]

    def _end(self, child: socket.socket) -> None:
        child.close()
        self.alive -= 1

    def _take(self, course: Course) -> socket.socket | None:
        children = self.waiting.get(course)
        if not children:
            return None
        child = children.pop()
        if not children:
            del self.waiting[course]
        return child

    def _bear(self, bot: str, seed: int) -> socket.socket:
        while self.alive >= LIMIT and self.waiting:
            self._end(self._take(next(iter(self.waiting))))
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.control, [f"{bot} {seed} {THROWS}".encode()], [theirs.fileno()])
            self._acknowledged(f"a process for the rock-paper-scissors bot {bot}")
        ours.settimeout(THROW_SECONDS)
        self.alive += 1
        return ours

    def _acknowledged(self, what: str) -> None:
        try:
            _receive(self.control, 1)
        except OSError as error:
            raise GameError(f"waited for {what}: {error}") from error

    def close(self) -> None:
        """End the nursery and all children."""
        if self.pid == os.getpid():
            self.control.close()
            for children in self.waiting.values():
                for child in children:
                    child.close()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _receive(child: socket.socket, count: int) -> bytes:
    """So many bytes; OSError where they do not come in time or at all."""
    got = b""
    while len(got) < count:
        try:
            more = child.recv(count - len(got))
        except TimeoutError as error:
            raise TimeoutError(f"nothing came within {child.gettimeout():.0f} s") from error
        if not more:
            raise ConnectionError("its process has ended")
        got += more
    return got


_nursery: Nursery | None = None


def nursery() -> Nursery:
    """This process's nursery, started when first needed; a fork of this process gets one of its own."""
    global _nursery
    if _nursery is None or _nursery.pid != os.getpid():
        _nursery = Nursery()
        atexit.register(_nursery.close)
    return _nursery


def bot_player(name: str) -> Player:
    """The program of that name as a player. Its generator is seeded from the view's `luck`, once for the episode."""

    def play(view: SpielView, rng: random.Random) -> str:
        own, other = bytes(view.history[view.player :: 2]), bytes(view.history[1 - view.player :: 2])
        throws = int(view.game.rpartition("=")[2].rstrip(")"))
        return view.say[nursery().throw(name, view.luck, own, other, last=len(own) + 1 == throws)]

    play.__name__ = name
    play.__doc__ = "A program of the RoShamBo programming competition, as OpenSpiel has it."
    return play
