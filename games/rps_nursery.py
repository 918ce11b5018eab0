"""The process in which rock-paper-scissors programs live: `rps_nursery.py FD`; see rps_bots for why and for who asks.

It reads requests "bot seed throws" from the socket FD, each with one end of a new socket, forks a child that serves
that socket, and answers with one byte. It never runs a program itself, so each child starts from untouched globals.
Standing alone, it imports nothing of marft.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import traceback

import pyspiel

FIRST = 9


def serve(connection: socket.socket, bot_name: str, seed: int, throws: int) -> None:
    """Answer each byte with a throw until the other end closes."""
    ctypes.CDLL(None).srandom(seed)  # the generator the programs draw from
    bot = pyspiel.make_roshambo_bot(0, bot_name, throws)
    state = pyspiel.load_game(f"repeated_game(stage_game=matrix_rps(),num_repetitions={throws})").new_initial_state()
    while told := connection.recv(4096):
        for pair in told:
            if pair != FIRST:
                state.apply_actions(list(divmod(pair, 3)))
            connection.sendall(bytes([bot.step(state)]))


def main(descriptor: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children leave nothing behind
    control = socket.socket(fileno=descriptor)
    control.sendall(b"+")
    while True:
        request, descriptors, _, _ = socket.recv_fds(control, 4096, 1)
        if not request:
            return
        bot, seed, throws = request.decode().split()
        connection = socket.socket(fileno=descriptors[0])
        if os.fork() == 0:
            control.close()
            try:
                serve(connection, bot, int(seed), int(throws))
            except (BrokenPipeError, ConnectionResetError):
                pass  # who asked is gone
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        connection.close()
        control.sendall(b"+")


if __name__ == "__main__":
    main(int(sys.argv[1]))
