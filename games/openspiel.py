"""Games whose rules OpenSpiel knows, played through text: the adapter they share.

OpenSpiel decides what is legal, what follows and what is paid; this module keeps who was told what, reads answers, and
draws chance. A game subclasses SpielGame and says five things: the OpenSpiel game string, the rules,
the names of the actions, what is new, and what is secret.

Invariants: chance comes from a generator seeded by `reset` alone, replacements of unreadable answers from a second one,
so that what a seat answers never changes what is dealt later; no process-wide generator is used; `observe` changes
nothing. OpenSpiel is an optional part (`pip install marft[games]`) and is imported only when a game is made.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from marft.game import Game, Message, Options, StepResult
from marft.games.outcomes import outcome_metrics
from marft.games.spiel import CHANCE, SIMULTANEOUS, load_game
from marft.games.spiel_players import BASIC
from marft.games.table import PAIR, many_seats

if TYPE_CHECKING:
    from marft.episode import Episode

ANSWER_LIMIT = 200
"""Characters within the answer's tags beyond which it is not compared with the actions."""
NOT_READ = "Your answer was no legal one: {} was played instead."

Event = tuple[int, Any]
"""(who, what): a player and what `record` made of its action, or CHANCE and its outcome."""


def read_answer(text: str) -> str | None:
    """What stands in the last complete <answer>…</answer>, None where there is none. Linear in the text's length.

    Complete means that no other opening tag lies between the two: of "<answer>a<answer>b</answer>" it is "b".
    """
    for part in reversed(text.split("<answer>")[1:]):
        inner, closed, _ = part.partition("</answer>")
        if closed:
            return inner
    return None


def answer(name: str) -> str:
    return f"<answer>{name}</answer>"


class SpielOptions(Options):
    """Options all games of this kind share.

    invalid: what an unreadable or illegal answer becomes. `random`: a legal action drawn evenly. `forfeit`: the game
        ends; the forfeiter's return is the worst of the game; the others' is what makes the sum right in a zero-sum
        game, in equal parts, the worst too where all share one return, and what they had so far otherwise. Who
        forfeits at the same time gets the worst as well.
    """

    invalid: Literal["random", "forfeit"] = "random"


class TurnOptions(SpielOptions):
    """first: the seat that is OpenSpiel's player 0, who moves first in most games; `random` draws it per episode."""

    first: Literal["alice", "bob", "random"] = "alice"


class SpielView(NamedTuple):
    """What a scripted player knows.

    game: the OpenSpiel game string. player: OpenSpiel's number. legal: its actions; say: the answer that chooses each.
    info: its information state (observation where the game has no such string). history: every action since the
    start, of games with perfect information only. luck: a number of this episode and seat, for players that need a
    generator for the whole episode; 0 in games without such players.
    """

    game: str
    player: int
    legal: tuple[int, ...]
    say: tuple[str, ...]
    info: str
    history: tuple[int, ...] | None
    luck: int


class SpielGame(Game):
    """The adapter. Two players, alice and bob, or more, p1, p2, …; moves in turn or at once; explicit chance."""

    Options: ClassVar[type[SpielOptions]] = TurnOptions
    players = BASIC
    seats = PAIR

    def __init__(self, options: SpielOptions | None = None) -> None:
        super().__init__(options)
        self._string = self.spiel()
        self._spiel = self.load()
        kind = self._spiel.get_type()
        self._pays_on_the_way = kind.reward_model.name == "REWARDS"
        self._has_info = kind.provides_information_state_string
        self._has_observation = kind.provides_observation_string
        self._open = kind.information.name == "PERFECT_INFORMATION"
        count = self._spiel.num_players()
        self.seats = PAIR if count == 2 else many_seats(count)
        self._players = range(count)
        self._alone = tuple((player,) for player in self._players)
        self._first = getattr(self.options, "first", None) or self.seats[0]
        self._names = tuple(self.actions())
        self._ids = {name: action for action, name in enumerate(self._names)}
        self._says = tuple(answer(name) for name in self._names)
        self._bare = dict(zip(self._says, range(len(self._names)), strict=True))  # what needs no parsing
        self._rules = tuple(self.rules(player) for player in self._players)
        self._fixed: deque[int] = deque()

    # What a game says of itself

    def spiel(self) -> str:
        """The OpenSpiel game string under these options."""
        raise NotImplementedError

    def rules(self, player: int) -> str:
        """The rules as told to one player, once."""
        raise NotImplementedError

    def actions(self) -> Iterable[str]:
        """The actions' names by OpenSpiel's number: lower case, no spaces around. Override `name_of` and `read`
        instead where a number means different things in different states."""
        return ()

    def news(self, player: int, events: Sequence[Event]) -> str:
        """What `player`, about to act, is told: the events since it was last told, the position, the question."""
        raise NotImplementedError

    def record(self, player: int, action: int) -> Any:
        """What is logged of a player's action about to be applied; of chance it is OpenSpiel's number."""
        return action

    def name_of(self, player: int, action: int) -> str:
        return self._names[action]

    def read(self, player: int, inner: str) -> int | None:
        """The action that a text within the tags names, legal or not."""
        action = self._ids.get(inner)
        if action is None and len(inner) <= ANSWER_LIMIT:
            action = self._ids.get(" ".join(inner.split()).lower())
        return action

    # The contract

    def load(self) -> Any:
        return load_game(self._string)

    def reset(self, seed: int) -> None:
        self._fixed.clear()
        self._start(seed, self._first)

    def deal(self, chance: Sequence[int], first: str | None = None) -> None:
        """Start an episode whose first chance outcomes are given, OpenSpiel's numbers in order, with `first` (by
        default the first seat) as player 0. What they do not cover is drawn from seed 0."""
        self._fixed = deque(chance)
        self._start(0, first or self.seats[0])

    def _start(self, seed: int, first: str) -> None:
        self._seed = seed
        self._chance: random.Random | None = None
        self._coins: random.Random | None = None
        seats, count = self.seats, len(self.seats)
        at = count - 1 - int(count * self._random_chance().random()) if first == "random" else seats.index(first)
        self._seat_of = seats[at:] + seats[:at]
        self._state = self._spiel.new_initial_state()
        self._log: list[Event] = []
        self._told = [-1] * count
        self._note = [""] * count
        self._paid = [0.0] * count
        self._forfeits: tuple[str, ...] = ()
        self._moves = 0
        self.clock = 0
        self._settle()

    def _random_chance(self) -> random.Random:
        if self._chance is None:
            self._chance = random.Random(self._seed)
        return self._chance

    def _draw(self, outcomes: Sequence[tuple[int, float]]) -> int:
        if self._fixed:
            return self._fixed.popleft()
        left = self._random_chance().random()
        for action, probability in outcomes:
            left -= probability
            if left < 0.0:
                return action
        return outcomes[-1][0]  # the probabilities sum to a little under 1

    def _settle(self) -> None:
        """Let chance fall, then note who acts and what is legal."""
        state = self._state
        player = state.current_player()
        while player == CHANCE:
            action = self._draw(state.chance_outcomes())
            self._log.append((CHANCE, action))
            state.apply_action(action)
            player = state.current_player()
        count = len(self.seats)
        self._infos: list[str | None] = [None] * count
        self._at_once = player == SIMULTANEOUS
        self._legal: list[Sequence[int]] = [()] * count
        if player >= 0:
            self._movers: tuple[int, ...] = self._alone[player]
            self._legal[player] = state.legal_actions()
        elif self._at_once:
            self._legal = [state.legal_actions(mover) for mover in self._players]
            self._movers = tuple([mover for mover in self._players if self._legal[mover]])
        else:
            self._movers = ()

    def acting(self) -> tuple[str, ...]:
        seats = self._seat_of
        return tuple([seats[player] for player in self._movers])

    def observe(self, seat: str) -> list[Message]:
        player = self._seat_of.index(seat)
        told = self._told[player]
        if told < 0:
            return [Message("user", f"{self._rules[player]}\n{self.news(player, self._log)}")]
        text = self.news(player, self._log[told:])
        if self._note[player]:
            text = f"{self._note[player]} {text}"
        return [Message("user", text)]

    def act(self, texts: Mapping[str, str]) -> StepResult:
        movers, seats = self._movers, self._seat_of
        if not movers:
            raise RuntimeError("the episode is over: call reset before act")
        chosen: dict[int, int] = {}
        unread = []
        for player in movers:
            self._told[player] = len(self._log)
            self._note[player] = ""
            text = texts[seats[player]]
            action = self._bare.get(text)
            if action is None and (inner := read_answer(text)) is not None:
                action = self.read(player, inner)
            if action is None or action not in self._legal[player]:
                unread.append(player)
            else:
                chosen[player] = action
        if unread:
            if self.options.invalid == "forfeit":
                return self._forfeit(chosen, unread)
            self._replace(chosen, unread)
        said = {}
        for player in movers:
            action = chosen[player]
            said[seats[player]] = self.name_of(player, action)
            self._log.append((player, self.record(player, action)))
        if self._at_once:
            self._state.apply_actions([chosen.get(player, 0) for player in self._players])
        else:
            self._state.apply_action(action)
        self._moves += len(movers)
        self.clock += 1
        self._settle()
        return StepResult(self._pay(), said, tuple([seats[player] for player in unread]))

    def _replace(self, chosen: dict[int, int], unread: Sequence[int]) -> None:
        """Draw what is played for those whose answers were not read, and have them told."""
        if self._coins is None:
            self._coins = random.Random(f"{self._seed}/replacements")
        for player in unread:
            chosen[player] = self._coins.choice(self._legal[player])
            self._note[player] = NOT_READ.format(self.name_of(player, chosen[player]))

    def _pay(self) -> dict[str, float]:
        if self._movers and not self._pays_on_the_way:
            return {}
        returns, paid = self._state.returns(), self._paid
        self._paid = returns
        return {seat: now - before for seat, now, before in zip(self._seat_of, returns, paid, strict=True)}

    def _forfeit(self, chosen: Mapping[int, int], unread: Sequence[int]) -> StepResult:
        worst, kind = self._spiel.min_utility(), self._spiel.get_type().utility.name
        returns = [worst] * len(self.seats)
        others = [] if kind == "IDENTICAL" else [player for player in self._players if player not in unread]
        for player in others:
            if kind in ("ZERO_SUM", "CONSTANT_SUM"):
                returns[player] = (self._spiel.utility_sum() - worst * len(unread)) / len(others)
            else:
                returns[player] = self._paid[player]
        rewards = {self._seat_of[player]: returns[player] - self._paid[player] for player in self._players}
        said = {
            self._seat_of[player]: self.name_of(player, chosen[player]) if player in chosen else "forfeit"
            for player in self._movers
        }
        self._forfeits = tuple(self._seat_of[player] for player in unread)
        self._paid, self._moves = returns, self._moves + len(self._movers)
        self._movers, self._legal = (), [()] * len(self.seats)
        return StepResult(rewards, said, self._forfeits)

    def view(self, seat: str) -> SpielView:
        player = self._seat_of.index(seat)
        legal = self._legal[player]
        history = tuple(self._state.history()) if self._open else None
        say, info, luck = self._say(player, legal), self.info(player), self.luck(player)
        return SpielView(self._string, player, tuple(legal), say, info, history, luck)

    def _say(self, player: int, legal: Sequence[int]) -> tuple[str, ...]:
        says = self._says
        return tuple([says[action] for action in legal])

    def info(self, player: int) -> str:
        """OpenSpiel's text of what `player` knows now; made once between two actions."""
        text = self._infos[player]
        if text is None:
            if self._has_info:
                text = self._state.information_state_string(player)
            else:
                text = self._state.observation_string(player) if self._has_observation else ""
            self._infos[player] = text
        return text

    def luck(self, player: int) -> int:
        return 0

    @property
    def state(self) -> Any:
        """A copy of OpenSpiel's state."""
        return self._state.clone()

    def facts(self) -> dict[str, Any]:
        """players: seat -> OpenSpiel's player. returns: per seat. moves: how many decisions. forfeits: by whom.
        history: OpenSpiel's actions, chance included, to go through the episode again without text."""
        return {
            "players": {seat: player for player, seat in enumerate(self._seat_of)},
            "returns": {seat: float(self._paid[player]) for player, seat in enumerate(self._seat_of)},
            "moves": self._moves,
            "forfeits": list(self._forfeits),
            "history": self._state.history(),
        }

    def clone(self) -> SpielGame:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._state = self._state.clone()
        for name in ("_chance", "_coins", "_log", "_told", "_note", "_infos", "_fixed"):
            setattr(twin, name, copy(getattr(self, name)))
        return twin

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """win, draw, loss: shares of episodes, by whether the return is above the mean of the others', equal or below.
        return: mean. invalid: share of answers that were unreadable or illegal. length: mean number of decisions. The
        same per seat as "seat/name" (the return as return_seat) and per side as "first/name", "second/name", ... (who
        was OpenSpiel's player 0, 1, ...)."""
        table = next((episode.seats for episode in episodes if not episode.failed), cls.seats)
        return outcome_metrics(episodes, table, table if seats is None else seats)
