"""Word spy: all seats but one hold the same word, the spy a near one, and nobody is told who is the spy.

In turn each gives a clue to its word, for some rounds; who gives a clue first is drawn. Then all vote at once for
another seat. If the spy alone has most votes, all others earn 1 and the spy nothing; else the spy earns 1.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field, model_validator

from marft.game import Options, StepResult
from marft.games.table import TableGame, View, many_seats
from marft.games.tally import Seen, acted, tally
from marft.games.text import answer, between, count, quotable
from marft.games.word_lists import CLUES, PAIRS

if TYPE_CHECKING:
    from marft.episode import Episode

NO_CLUE = "no clue"


class WordSpyOptions(Options):
    """seats: how many play. rounds: clues of each before the vote. message_limit: characters of a clue that are shown.

    pairs: the words, two that are nearly alike each; without, some of the game's own.
    """

    model_config = ConfigDict(defer_build=True)

    seats: int = Field(4, ge=3, le=12, strict=True)
    rounds: int = Field(2, ge=1, le=10, strict=True)
    message_limit: int = Field(80, ge=1, le=4000, strict=True)
    pairs: tuple[tuple[str, str], ...] = Field(PAIRS, min_length=1)

    @model_validator(mode="after")
    def _two_words(self) -> WordSpyOptions:
        for pair in self.pairs:
            one, other = (" ".join(word.lower().split()) for word in pair)
            if not one or not other or one in other or other in one:
                raise ValueError(f"pairs must hold two words of which neither holds the other, got {list(pair)}")
        return self


def of_own_word(view: View, rng: random.Random) -> str:
    """A clue to its word, any of those not yet given."""
    given = {text for _, text in view.now["clues"]}
    left = [clue for clue in CLUES.get(view.now["word"], ()) if clue not in given]
    return rng.choice(left) if left else "nothing new"


def of_both(view: View, rng: random.Random) -> str:
    """A clue that fits the most words, of those to its own."""
    own = CLUES.get(view.now["word"], ("nothing new",))
    return max(own, key=lambda clue: (sum(clue in clues for clues in CLUES.values()), rng.random()))


def suspected(view: View, rng: random.Random) -> str:
    """Whose clues fit the own word least, and another word most; of several any."""
    own, others = set(CLUES.get(view.now["word"], ())), {clue for clues in CLUES.values() for clue in clues}
    odd = dict.fromkeys(view.choices, 0)
    for seat, clue in view.now["clues"]:
        if seat in odd:
            odd[seat] += clue in others - own
    return max(odd, key=lambda seat: (odd[seat], rng.random()))


def _player(clue: Any, vote: Any, doc: str) -> Any:
    def play(view: View, rng: random.Random) -> str:
        return clue(view, rng) if view.phase == "talk" else answer(vote(view, rng))

    play.__doc__ = doc
    return play


def _any_clue(view: View, rng: random.Random) -> str:
    clues = sorted({clue for word, clues in CLUES.items() if word != view.now["word"] for clue in clues})
    return rng.choice(clues)


def _any_seat(view: View, rng: random.Random) -> str:
    return rng.choice(view.choices)


def _next_seat(view: View, rng: random.Random) -> str:
    place = view.seats.index(view.seat)
    return view.seats[(place + 1) % len(view.seats)]


class WordSpy(TableGame):
    """See the module. Phases: "talk", in turn; "vote", at once."""

    name = "word_spy"
    Options: ClassVar[type[WordSpyOptions]] = WordSpyOptions
    players = {
        "plain": _player(of_own_word, suspected, "Gives any clue to its word; votes for who gave clues to another."),
        "wary": _player(of_both, suspected, "Gives clues that fit most words; votes for who gave clues to another."),
        "idle": _player(lambda view, rng: NO_CLUE, _next_seat, "Gives no clue, and votes for the seat after it."),
        "random": _player(_any_clue, _any_seat, "Gives a clue to any other word, and votes for anybody."),
    }

    def __init__(self, options: WordSpyOptions | None = None) -> None:
        super().__init__(options)
        self.seats = many_seats(self.options.seats)

    def _start(self, rng: random.Random) -> None:
        common, odd = rng.sample(rng.choice(self.options.pairs), 2)
        self._spy = rng.choice(self.seats)
        self._words = {seat: odd if seat == self._spy else common for seat in self.seats}
        first = rng.randrange(len(self.seats))
        self._order = self.seats[first:] + self.seats[:first]
        self._clues: tuple[tuple[str, str], ...] = ()
        self._votes: dict[str, str] = {}
        self._out: str | None = None
        for seat in self.seats:
            self.tell(
                f"You are {seat}, one of {', '.join(self.seats)}. Each holds a word: all the same one but a spy, whose "
                f"word is a near one. Nobody knows who is the spy. In turn, from {self._order[0]} on, each gives "
                f"{count(self.options.rounds, 'clue')} to its word without saying it, of at most "
                f"{self.options.message_limit} characters. Then all vote at once, for one other seat: "
                f"{answer(self._neighbour(seat))}. If the spy alone has most votes, all others earn 1, else the spy "
                f"does.\n{self.private(seat)}",
                seat,
            )
        self.phase, self._turn = "talk", self._order[:1]

    def _neighbour(self, seat: str) -> str:
        return self.seats[(self.seats.index(seat) + 1) % len(self.seats)]

    def _ask(self, seat: str) -> str:
        return "Your clue?" if self.phase == "talk" else "Your vote?"

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        result = self._clue(texts) if self.phase == "talk" else self._vote(texts)
        self.clock += 1
        return result

    def _clue(self, texts: Mapping[str, str]) -> StepResult:
        (seat,) = self._turn
        clue = quotable(texts[seat], self.options.message_limit)
        spoilt = not clue.strip() or says(clue, self._words[seat])
        if spoilt:
            clue = NO_CLUE
            self.tell("Your clue was empty or held your word, and was not shown.", seat)
        self.tell_others(f'{seat}: "{clue}"', seat)
        self._clues += ((seat, clue),)
        if len(self._clues) == self.options.rounds * len(self.seats):
            self.phase, self._turn = "vote", self.seats
        else:
            self._turn = (self._order[len(self._clues) % len(self.seats)],)
        return StepResult({}, {seat: {"say": clue}}, (seat,) if spoilt else ())

    def _vote(self, texts: Mapping[str, str]) -> StepResult:
        """Who cannot be read votes for nobody."""
        for seat in self.seats:
            said = between(texts[seat])
            if said in self.choices(seat):
                self._votes[seat] = said
        ranked = Counter(self._votes.values()).most_common(2)
        alone = bool(ranked) and (len(ranked) == 1 or ranked[0][1] > ranked[1][1])
        self._out = ranked[0][0] if alone else None
        caught = self._out == self._spy
        self.past.append({"votes": dict(self._votes), "caught": caught})
        self._turn = ()
        unread = tuple(seat for seat in self.seats if seat not in self._votes)
        actions = {seat: {"vote": self._votes.get(seat)} for seat in self.seats}
        return StepResult({seat: float((seat != self._spy) == caught) for seat in self.seats}, actions, unread)

    def choices(self, seat: str) -> Sequence[str]:
        return tuple(other for other in self.seats if other != seat) if self.phase == "vote" else ()

    def known(self, seat: str) -> Mapping[str, Any]:
        """word: own. clues: (seat, clue) so far."""
        return {"word": self._words[seat], "clues": self._clues}

    def private(self, seat: str) -> str | None:
        return f"Your word: {self._words[seat]}."

    def marks(self, seat: str) -> dict[str, str | int | float]:
        return {"role": self._roles()[seat]}

    def _roles(self) -> dict[str, str]:
        return {seat: "spy" if seat == self._spy else "citizen" for seat in self.seats}

    def facts(self) -> dict[str, Any]:
        """question, answer (the spy's seat), task, roles; columns: words (per seat), order (of the clues), votes, and
        out, the seat that alone had most votes, if any.
        """
        return {
            **super().facts(),
            "question": "Who is the spy?",
            "answer": self._spy,
            "task": "word_spy",
            "roles": self._roles(),
            "columns": {
                "words": dict(self._words),
                "order": list(self._order),
                "votes": dict(self._votes),
                "out": self._out,
            },
        }

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """found: share of the others' votes that are for the spy. caught: share of episodes in which the spy is voted
        out. spoilt: share of clues that were empty or held the own word.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            spy = episode.facts["answer"]
            for turn, vote in acted(episode, "vote"):
                if turn.seat != spy:
                    yield turn.seat, "found", vote == spy
            for turn, _ in acted(episode, "say"):
                yield turn.seat, "spoilt", turn.invalid
            if episode.facts["played"]:
                yield None, "caught", episode.facts["columns"]["out"] == spy

        return tally(episodes, seats, look, ("found", "spoilt"), ("caught",))


def says(clue: str, word: str) -> bool:
    """Whether a clue holds the word, whatever its case and the spaces between."""
    return "".join(word.lower().split()) in "".join(clue.lower().split())
