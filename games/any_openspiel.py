"""Any game of OpenSpiel for two or more, in OpenSpiel's own words: its text of the state, its names of the actions.

What a seat may know is what OpenSpiel's information state (or observation) of it says; where the game has perfect
information the others' moves are told by name as well. Games whose chance no seed decides are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from marft.errors import RecipeError
from marft.games.openspiel import ANSWER_LIMIT, Event, SpielGame, SpielOptions, answer
from marft.games.spiel import CHANCE, import_pyspiel, load_game


class OpenSpiel(SpielGame):
    """Any game of OpenSpiel for two or more, in OpenSpiel's own words. Seats are alice and bob, or p1, p2, ..."""

    name = "openspiel"

    class Options(SpielOptions):
        """game: an OpenSpiel game string, such as "oware", "mnk(m=4,n=4,k=3)" or "social_deduction(players=5)".
        first: the seat that is OpenSpiel's player 0, and those after it 1, 2, ...; by default the first seat; `random`
        draws it per episode."""

        game: str = Field("tic_tac_toe", min_length=1, max_length=1000)
        first: str | None = None

    def __init__(self, options: SpielOptions | None = None) -> None:
        super().__init__(options)
        allowed = (*self.seats, "random")
        if self._first not in allowed:
            raise RecipeError(f"game.first: {self._string} has no seat {self._first!r}; allowed: {', '.join(allowed)}")

    def spiel(self) -> str:
        return self.options.game

    def load(self) -> Any:
        pyspiel = import_pyspiel(f"game {self.name}")
        try:
            game = load_game(self._string)
        except pyspiel.SpielError as error:
            raise RecipeError(f"game.game: OpenSpiel cannot load {self._string!r:.200}: {error}") from error
        kind, problem = game.get_type(), None
        if game.num_players() < 2:
            problem = f"has {game.num_players()} players, not 2 or more"
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
        name, count = self._spiel.get_type().long_name, len(self.seats)
        others = "another player" if count == 2 else f"{count - 1} other players"
        numbers = "0 and 1" if count == 2 else f"0 to {count - 1}"
        return (
            f"You play {name} ({self._string}) against {others}; you are player {player} of {numbers}. "
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
        moves = [event for event in events if event[0] not in (player, CHANCE)] if self._open else []
        if len(self.seats) == 2:
            played = f"The other played {', '.join(what for _, what in moves)}.\n" if moves else ""
        else:
            played = "".join(f"Player {who} played {what}.\n" for who, what in moves)
        legal = "; ".join(self.name_of(player, action) for action in self._legal[player])
        return f"{played}{self._known(player)} {legal}\nYour answer?"

    def _known(self, player: int) -> str:
        return f"{'Position' if self._open else 'You know'}:\n{self.info(player)}\nLegal answers:"

    def private(self, seat: str) -> str | None:
        return None if self._open else self._known(self._seat_of.index(seat))

    def _say(self, player: int, legal: Sequence[int]) -> tuple[str, ...]:
        return tuple(answer(self.name_of(player, action)) for action in legal)
