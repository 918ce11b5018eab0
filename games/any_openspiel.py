"""Any two-player game of OpenSpiel, in OpenSpiel's own words: its text of the state, its names of the actions.

What a seat may know is what OpenSpiel's information state (or observation) of it says; where the game has perfect
information the other's moves are told by name as well. Games whose chance no seed decides are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from marft.errors import RecipeError
from marft.games.openspiel import ANSWER_LIMIT, Event, SpielGame, TurnOptions, answer
from marft.games.spiel import import_pyspiel, load_game


class OpenSpiel(SpielGame):
    """Any two-player game of OpenSpiel, in OpenSpiel's own words."""

    name = "openspiel"

    class Options(TurnOptions):
        """game: an OpenSpiel game string with two players, such as "oware" or "mnk(m=4,n=4,k=3)"."""

        game: str = Field("tic_tac_toe", min_length=1, max_length=1000)

    def spiel(self) -> str:
        return self.options.game

    def load(self) -> Any:
        pyspiel = import_pyspiel(f"game {self.name}")
        try:
            game = load_game(self._string)
        except pyspiel.SpielError as error:
            raise RecipeError(f"game.game: OpenSpiel cannot load {self._string!r:.200}: {error}") from error
        kind, problem = game.get_type(), None
        if game.num_players() != 2:
            problem = f"has {game.num_players()} players, not 2"
        elif kind.chance_mode.name == "SAMPLED_STOCHASTIC":
            problem = "hides its chance, which then no seed decides"
        elif kind.dynamics.name == "MEAN_FIELD":
            problem = "is a mean-field game"
        elif not (kind.provides_information_state_string or kind.provides_observation_string):
            problem = "has no text of its states"
        if problem:
            raise RecipeError(f"game.game: {self._string!r:.200} {problem}; choose another game")
        return game

    def rules(self, player: int) -> str:
        kind = self._spiel.get_type()
        return (
            f"You play {kind.long_name} ({self._string}) against another player; you are player {player} of 0 and 1. "
            "Answer with one of the legal answers, like this: <answer>the answer</answer>."
        )

    def record(self, player: int, action: int) -> str:
        return self._state.action_to_string(player, action)

    def name_of(self, player: int, action: int) -> str:
        return self._state.action_to_string(player, action)

    def read(self, player: int, inner: str) -> int | None:
        if len(inner) > 2 * ANSWER_LIMIT:
            return None
        inner = " ".join(inner.split())
        names = {" ".join(self.name_of(player, action).split()): action for action in self._legal[player]}
        if inner in names:
            return names[inner]
        alike = [action for name, action in names.items() if name.lower() == inner.lower()]
        return alike[0] if len(alike) == 1 else None

    def news(self, player: int, events: Sequence[Event]) -> str:
        moves = [what for who, what in events if who == 1 - player] if self._open else []
        played = f"The other played {', '.join(moves)}.\n" if moves else ""
        legal = "; ".join(self.name_of(player, action) for action in self._legal[player])
        return f"{played}{self._known(player)} {legal}\nYour answer?"

    def _known(self, player: int) -> str:
        return f"{'Position' if self._open else 'You know'}:\n{self.info(player)}\nLegal answers:"

    def private(self, seat: str) -> str | None:
        return None if self._open else self._known(self._seat_of.index(seat))

    def _say(self, player: int, legal: Sequence[int]) -> tuple[str, ...]:
        return tuple(answer(self.name_of(player, action)) for action in legal)
