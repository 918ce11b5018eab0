"""Rock, paper, scissors, many throws in a row, with 43 programs to play against (see rps_bots)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import Field

from marft.games.openspiel import Event, SpielGame, SpielOptions
from marft.games.rps_bots import BOTS, bot_player
from marft.games.spiel_players import BASIC

if TYPE_CHECKING:
    from marft.game import Player
    from marft.games.openspiel import SpielView

THROWS = ("rock", "paper", "scissors")
RESULTS = ("a draw", "you won", "you lost")
"""By (own - other) modulo 3."""


def _reaction(shift: int, own: bool, doc: str) -> Player:
    def play(view: SpielView, rng: random.Random) -> str:
        if not view.history:
            return view.say[rng.randrange(3)]
        last = view.history[-2:][view.player if own else 1 - view.player]
        return view.say[(last + shift) % 3]

    play.__doc__ = doc
    return play


REACTIONS: dict[str, Callable[..., str]] = {
    "beat_last": _reaction(1, False, "Throws what beats the other's last throw."),
    "copy_last": _reaction(0, False, "Throws what the other threw last."),
    "cycle": _reaction(1, True, "Throws rock, paper, scissors in turn."),
}


class RockPaperScissors(SpielGame):
    """Each throw pays 1, 0 or -1."""

    name = "rock_paper_scissors"
    players = BASIC | REACTIONS | {name: bot_player(name) for name in BOTS}

    class Options(SpielOptions):
        """throws: how many are played."""

        throws: int = Field(10, ge=1, le=1000, strict=True)

    def spiel(self) -> str:
        return f"repeated_game(stage_game=matrix_rps(),num_repetitions={self.options.throws})"

    def actions(self) -> Iterable[str]:
        return THROWS

    def rules(self, player: int) -> str:
        throws = self.options.throws
        return (
            f"You play rock, paper, scissors against another player, {throws} throw{'s' * (throws > 1)}, both at once. "
            "Rock beats scissors, scissors beat paper, paper beats rock; a win pays 1, a loss -1. Answer "
            "<answer>rock</answer>, <answer>paper</answer> or <answer>scissors</answer>."
        )

    def news(self, player: int, events: Sequence[Event]) -> str:
        if not events:
            return "Your throw?"
        own, other = events[player][1], events[1 - player][1]
        return f"The other threw {THROWS[other]}: {RESULTS[(own - other) % 3]}. Your throw?"

    def luck(self, player: int) -> int:
        return _luck(self._seed, player)


@lru_cache(maxsize=1024)
def _luck(seed: int, player: int) -> int:
    return random.Random(f"{seed}/luck/{player}").getrandbits(31)
