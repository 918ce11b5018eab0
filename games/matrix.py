"""Iterated 2x2 matrix games: the prisoner's dilemma and its relatives, one preset a class.

Two seats, alice and bob, choose at once between two named actions, round after round. Action 0 is the cooperative (or
first) one. All chance of an episode (its length, how actions are named, what replaces unreadable answers) is drawn by
`reset`, so an episode is a function of seed and texts, and a clone needs no generator. A seat's answer is read from
its own text alone; what it says in cheap talk reaches the other seat only cut, on one line and in quotes.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator

from marft.game import Game, Message, Options, StepResult
from marft.games import payoffs as p
from marft.games.matrix_metrics import play_metrics
from marft.games.players import PLAYERS
from marft.games.text import plain, quotable

if TYPE_CHECKING:
    from marft.episode import Episode

SEATS = ("alice", "bob")
ANSWER_LIMIT = 4000
"""Characters around a choice beyond which an answer counts as unreadable."""
ASK_CHOICE, ASK_MESSAGE = "Your choice?", "Your message?"


def read_choice(text: str, names: tuple[str, str]) -> int | None:
    """The index of the one name that occurs in `text`; None where both or neither do, or the text is too long."""
    if len(text) > ANSWER_LIMIT and len(text.strip()) > ANSWER_LIMIT:
        return None
    second = names[1] in text
    return None if (names[0] in text) == second else int(second)


class MatrixOptions(Options):
    """Options all matrix games share.

    rounds: how many are played; with continue_probability p the most there can be: the players are told that the
        length is unknown, and another round follows each with probability p.
    cheap_talk: one message each per round, at once, before the choice; at most message_limit characters are shown.
    action_names: what action 0 and 1 are called. shuffle_names: per episode, draw which is which and their order.
    invalid: what an unreadable choice becomes: a `random` action, the `first` (0), the `second` (1), or `forfeit`: the
        game ends, and for this and each round that was left the forfeiter gets its worst payoff, the other seat the
        mean of its four. Forfeiting so never pays.
    """

    payoffs: p.Payoffs
    rounds: int = Field(10, ge=1, le=1000, strict=True)
    continue_probability: float | None = Field(None, gt=0.0, lt=1.0, strict=True)
    cheap_talk: bool = False
    message_limit: int = Field(200, ge=1, le=4000, strict=True)
    action_names: tuple[str, str] = ("<A>", "<B>")
    shuffle_names: bool = False
    invalid: Literal["random", "first", "second", "forfeit"] = "random"

    @field_validator("action_names")
    @classmethod
    def _tell_apart(cls, names: tuple[str, str]) -> tuple[str, str]:
        for name in names:
            if not name or name != name.strip() or not name.isprintable() or len(name) > 40:
                raise ValueError(f"needs names of 1 to 40 printable characters without outer spaces, not {name!r}")
        if names[0] in names[1] or names[1] in names[0]:
            raise ValueError("needs two names of which neither contains the other")
        return names


class MatrixView(NamedTuple):
    """What a scripted player knows. Moves are 0 or 1, oldest first.

    rounds: None where the length is unknown. phase: "talk" or "move". say: the text that chooses action 0 or 1.
    payoffs: own payoff as [own action][other's action]. heard: the other's message of this round, once sent.
    """

    round: int
    rounds: int | None
    own: Sequence[int]
    other: Sequence[int]
    phase: str
    say: tuple[str, str]
    payoffs: tuple[p.Pair, p.Pair]
    heard: str | None


class Wording(NamedTuple):
    """All fixed messages under one naming of the actions: the rules per seat, and what tells of the other's move."""

    names: tuple[str, str]
    rules: tuple[Message, Message]
    told: tuple[Message, Message]


class MatrixGame(Game):
    """The common rules; a preset brings `name`, `labels` (how actions 0 and 1 are recorded) and its payoffs."""

    labels: ClassVar[tuple[str, str]]
    Options: ClassVar[type[MatrixOptions]]
    players = PLAYERS
    seats = SEATS

    def __init__(self, options: MatrixOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self._pay = o.payoffs.cells()
        a, b = zip(*self._pay, strict=True)
        self._own_pay = ((a[:2], a[2:]), (b[::2], b[1::2]))
        namings = [o.action_names, o.action_names[::-1]] if o.shuffle_names else [o.action_names]
        orders = [(0, 1), (1, 0)] if o.shuffle_names else [(0, 1)]
        self._wordings = [self._word(names, order) for names in namings for order in orders]
        self._talks = o.cheap_talk

    def _word(self, names: tuple[str, str], order: tuple[int, int]) -> Wording:
        o = self.options
        length = "an unknown number of rounds" if o.continue_probability else f"{o.rounds} round{'s' * (o.rounds > 1)}"
        either = " or ".join(names[i] for i in order)
        talk = f" Before each choice both send a message of at most {o.message_limit} characters." * o.cheap_talk
        ask = ASK_MESSAGE if o.cheap_talk else ASK_CHOICE
        rules = []
        for own, other in ((0, 1), (1, 0)):
            cells = []
            for mine in order:
                for theirs in order:
                    pay = self._pay[2 * mine + theirs if own == 0 else 2 * theirs + mine]
                    gains = f"you get {plain(pay[own])}, other {plain(pay[other])}."
                    cells.append(f"You {names[mine]}, other {names[theirs]}: {gains}")
            text = f"You and another player play {length}. In each, both choose {either} at once.{talk}"
            rules.append(Message("user", f"{text} {' '.join(cells)} Choose by answering {either}. {ask}"))
        told = [Message("user", f"The other chose {name}. {ask}") for name in names]
        return Wording(names, tuple(rules), tuple(told))

    def reset(self, seed: int) -> None:
        rng, o = random.Random(seed), self.options
        self._wording = rng.choice(self._wordings)
        self._rounds = o.rounds
        if o.continue_probability:
            self._rounds = 1
            while self._rounds < o.rounds and rng.random() < o.continue_probability:
                self._rounds += 1
        self._coins = rng.getrandbits(2 * o.rounds)
        self.clock = 0
        self._moves: tuple[list[int], list[int]] = ([], [])
        self._said: tuple[str, str] | None = None
        self._unread: tuple[str, ...] = ()
        self._forfeits: tuple[str, ...] = ()

    def acting(self) -> tuple[str, ...]:
        return () if self.clock >= self._rounds or self._forfeits else SEATS

    def observe(self, seat: str) -> list[Message]:
        me = SEATS.index(seat)
        if self._said is not None:
            return [Message("user", f'The other says: "{self._said[1 - me]}" {ASK_CHOICE}')]
        if self.clock == 0:
            return [self._wording.rules[me]]
        told = self._wording.told[self._moves[1 - me][-1]]
        if seat in self._unread:
            played = self._wording.names[self._moves[me][-1]]
            return [Message("user", f"Unreadable: you played {played}. {told.text}")]
        return [told]

    def act(self, texts: Mapping[str, str]) -> StepResult:
        if not self.acting():
            raise RuntimeError("the episode is over: call reset before act")
        if self._talks and self._said is None:
            self._said = tuple(quotable(texts[seat], self.options.message_limit) for seat in SEATS)
            return StepResult({}, {seat: {"say": said} for seat, said in zip(SEATS, self._said, strict=True)})
        names = self._wording.names
        a, b = read_choice(texts["alice"], names), read_choice(texts["bob"], names)
        self._unread = ()
        if a is None or b is None:
            self._unread = tuple(seat for seat, move in zip(SEATS, (a, b), strict=True) if move is None)
            if self.options.invalid == "forfeit":
                return self._forfeit(a, b)
            a, b = (self._replace(i) if move is None else move for i, move in enumerate((a, b)))
        self._moves[0].append(a)
        self._moves[1].append(b)
        self.clock += 1
        self._said = None
        pay = self._pay[2 * a + b]
        actions = {"alice": self.labels[a], "bob": self.labels[b]}
        return StepResult({"alice": pay[0], "bob": pay[1]}, actions, self._unread)

    def _replace(self, seat: int) -> int:
        policy = self.options.invalid
        return self._coins >> (2 * self.clock + seat) & 1 if policy == "random" else int(policy == "second")

    def _forfeit(self, *moves: int | None) -> StepResult:
        left = self._rounds - self.clock
        rewards, actions = {}, {}
        for i, seat in enumerate(SEATS):
            pay = [cell[i] for cell in self._pay]
            rewards[seat] = left * (min(pay) if moves[i] is None else sum(pay) / 4)
            actions[seat] = "forfeit" if moves[i] is None else self.labels[moves[i]]
        self._forfeits = self._unread
        return StepResult(rewards, actions, self._unread)

    def view(self, seat: str) -> MatrixView:
        me, talking = SEATS.index(seat), self._talks and self._said is None
        return MatrixView(
            round=self.clock,
            rounds=None if self.options.continue_probability else self._rounds,
            own=tuple(self._moves[me]),
            other=tuple(self._moves[1 - me]),
            phase="talk" if talking else "move",
            say=self._wording.names,
            payoffs=self._own_pay[me],
            heard=self._said[1 - me] if self._said is not None else None,
        )

    def facts(self) -> dict[str, Any]:
        """rounds: how many were paid; played: in how many both chose; names: action -> what it was called."""
        names = dict(zip(self.labels, self._wording.names, strict=True))
        forfeits = list(self._forfeits)
        return {"rounds": self._rounds, "played": self.clock, "names": names, "forfeits": forfeits}

    def clone(self) -> MatrixGame:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._moves = (self._moves[0].copy(), self._moves[1].copy())
        return twin

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """What was played, replaced unreadable choices included; `seats` limits all but welfare to these seats.

        cooperation: rate of action 0. cooperation_after_first: the same without the first round. p_c_cc, p_c_cd,
        p_c_dc, p_c_dd: rate of action 0 after own and the other's last action (c is action 0). return: mean per seat
        and episode. welfare: joint payoff per paid round. invalid: share of unreadable choices. The same per seat as
        "seat/name", the return as return_seat.
        """
        return play_metrics(episodes, cls.labels, SEATS, SEATS if seats is None else seats)


class PrisonersDilemma(MatrixGame):
    """C or D."""

    name = "prisoners_dilemma"
    labels = ("C", "D")

    class Options(MatrixOptions):
        payoffs: p.PrisonersDilemma = p.PrisonersDilemma()


class StagHunt(MatrixGame):
    """stag or hare."""

    name = "stag_hunt"
    labels = ("stag", "hare")

    class Options(MatrixOptions):
        payoffs: p.StagHunt = p.StagHunt()


class Chicken(MatrixGame):
    """swerve or straight."""

    name = "chicken"
    labels = ("swerve", "straight")

    class Options(MatrixOptions):
        payoffs: p.Chicken = p.Chicken()


class BattleOfSexes(MatrixGame):
    """opera, alice's favourite, or football, bob's."""

    name = "battle_of_sexes"
    labels = ("opera", "football")

    class Options(MatrixOptions):
        payoffs: p.BattleOfSexes = p.BattleOfSexes()


class MatchingPennies(MatrixGame):
    """heads or tails."""

    name = "matching_pennies"
    labels = ("heads", "tails")

    class Options(MatrixOptions):
        payoffs: p.MatchingPennies = p.MatchingPennies()


class Coordination(MatrixGame):
    """left or right."""

    name = "coordination"
    labels = ("left", "right")

    class Options(MatrixOptions):
        payoffs: p.Coordination = p.Coordination()
