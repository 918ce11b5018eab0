"""Split information: each seat holds a part of the input, and only talk can bring the parts together.

A ladder, easy to hard: `digits` (a digit each; the sum), `numbers` (longer ones), `facts` (some of the facts of a small
deduction each) and `maze` (each place is shown to one seat only, and a step is made where all name the same one; The
Collaboration Gap, arXiv 2511.02687, with an exact rule where the paper has a model read off what was agreed). An answer
stands between the answer marks or in a box. Each seat earns 1 for its own right answer; where one seat answers for
all, and in the maze, all earn 1 if it is right or the goal is reached.

With `channel` false the messages do not arrive and all else is equal: what is then solved was not solved by talk.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import ConfigDict, Field, model_validator

from marft.answers import final_answer, plain, same_answer
from marft.game import Options, StepResult
from marft.games import maze
from marft.games.split_players import PLAYERS
from marft.games.split_puzzles import NAMES, PUZZLES
from marft.games.table import PAIR, TableGame, many_seats
from marft.games.tally import Seen, tally
from marft.games.text import answer, count, quotable

if TYPE_CHECKING:
    from marft.episode import Episode

Kind = Literal["digits", "numbers", "facts", "maze"]
OF_ONE_KIND = {
    "digits": "digits",
    "length": "numbers",
    "people": "facts",
    "side": "maze",
    "walls": "maze",
    "path": "maze",
    "moves": "maze",
}
WHAT = {
    "digits": "one digit from 0 to {0.last}",
    "numbers": "one number of {0.length} digits",
    "facts": "some of the facts",
    "maze": "a part of one map",
}


class SplitInfoOptions(Options):
    """kind: what is split, see the game. seats: how many hold a part.

    rounds: of talk before the answers, or before each step in the maze. message_limit: characters of a message that are
        shown. in_turn: whether seats talk one after the other, not at once. channel: whether messages arrive.
    answering: whether `each` seat answers, or `one`, the first. digits: how many there are, from 0 on. length: digits
        of a number. people: on the ladder.
    side: places of the maze from side to side. walls: share of them that is a wall. path: least and most moves of its
        shortest way. moves: steps that may be tried.
    """

    model_config = ConfigDict(defer_build=True)

    kind: Kind = "digits"
    seats: int = Field(2, ge=2, le=8, strict=True)
    rounds: int = Field(1, ge=1, le=20, strict=True)
    message_limit: int = Field(200, ge=1, le=4000, strict=True)
    in_turn: bool = False
    channel: bool = True
    answering: Literal["each", "one"] = "each"
    digits: int = Field(10, ge=2, le=10, strict=True)
    length: int = Field(4, ge=1, le=12, strict=True)
    people: int = Field(5, ge=3, le=len(NAMES), strict=True)
    side: int = Field(6, ge=2, le=20, strict=True)
    walls: float = Field(0.3, ge=0, le=0.9, strict=True)
    path: tuple[int, int] = (7, 9)
    moves: int = Field(16, ge=1, le=400, strict=True)

    @model_validator(mode="after")
    def _fits(self) -> SplitInfoOptions:
        for name in sorted(self.model_fields_set & set(OF_ONE_KIND)):
            if OF_ONE_KIND[name] != self.kind:
                raise ValueError(f"{name} belongs to kind {OF_ONE_KIND[name]}, and kind is {self.kind}")
        if self.kind == "maze" and self.answering == "one":
            raise ValueError("answering one has no meaning in a maze, where all name the step: leave it out")
        if self.kind == "facts" and self.people <= self.seats:
            raise ValueError(f"people must be more than seats, got {self.people} and {self.seats}: a fact is for two")
        if not 1 <= self.path[0] <= self.path[1] <= self.moves:
            raise ValueError(f"path must be [least, most] with 1 <= least <= most <= moves, got {list(self.path)}")
        return self

    @property
    def last(self) -> int:
        return self.digits - 1


class SplitInfo(TableGame):
    """See the module. Phases: "talk"; "answer", or in a maze "step"."""

    name = "split_info"
    Options: ClassVar[type[SplitInfoOptions]] = SplitInfoOptions
    players = PLAYERS

    def __init__(self, options: SplitInfoOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self.seats = PAIR if o.seats == 2 else many_seats(o.seats)
        self._answering = self.seats if o.answering == "each" else self.seats[:1]
        who = "you" if o.answering == "each" else self.seats[0]
        talk = f"You talk for {count(o.rounds, 'round')}, messages of at most {o.message_limit} characters, then"
        if o.kind == "maze":
            end = (
                f"{talk} each names a step: {', '.join(map(answer, maze.STEPS))}. It is made if all name the same and "
                f"no wall is there. So it goes on until the goal is reached, at most {o.moves} times. Rows and columns "
                f"count from 1, row 1 is at the top; {maze.FREE} is free, {maze.WALL} a wall, {maze.HIDDEN} is seen by "
                "another."
            )
        else:
            end = f"{talk} {who} answer{'s' * (who != 'you')} like this: {answer('...')}."
        self._rules = f"one of {', '.join(self.seats)}. Each holds {WHAT[o.kind].format(o)}. {end}"

    def _start(self, rng: random.Random) -> None:
        o = self.options
        if o.kind == "maze":
            self._maze = maze.draw(rng, o.side, o.walls, *o.path)
            self._copies = maze.copies(rng, self._maze.rows, o.seats)
            self._parts = tuple("/".join(copy) for copy in self._copies)
            start, goal = _named(self._maze.start), _named(self._maze.goal)
            self._question, self._answer = f"You stand at {start}. Reach {goal}.", None
        else:
            self._question, self._answer, self._parts = PUZZLES[o.kind].deal(rng, o.seats, o)
        self._at = self._maze.start if o.kind == "maze" else None
        self._places = (self._at,)
        self._said: tuple[tuple[str, str], ...] = ()
        for seat in self.seats:
            self.tell(f"You are {seat}, {self._rules}\n{self._question}\n{self.private(seat)}", seat)
        self._talk()

    def _talk(self) -> None:
        self.phase, self._left = "talk", self.options.rounds * (self.options.seats if self.options.in_turn else 1)
        self._turn = self.seats[:1] if self.options.in_turn else self.seats

    def _ask(self, seat: str) -> str:
        return {"talk": "Your message?", "answer": "Your answer?", "step": "Your step?"}[self.phase]

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        act = {"talk": self._talked, "answer": self._answered, "step": self._stepped}[self.phase]
        result = act(texts)
        self.clock += 1
        return result

    def _talked(self, texts: Mapping[str, str]) -> StepResult:
        said = {seat: quotable(texts[seat], self.options.message_limit) for seat in self._turn}
        for seat, text in said.items():
            heard = f'{seat} says: "{text}"' if self.options.channel else f"Nothing is heard of {seat}."
            self.tell_others(heard, seat)
        self._said += tuple(said.items())
        self._left -= 1
        if not self._left:
            self.phase = "step" if self.options.kind == "maze" else "answer"
            self._turn = self._answering
        elif self.options.in_turn:
            self._turn = (self.seats[-self._left % len(self.seats)],)
        return StepResult({}, {seat: {"say": text} for seat, text in said.items()})

    def _answered(self, texts: Mapping[str, str]) -> StepResult:
        said = {seat: final_answer(texts[seat]) for seat in self._turn}
        right = {seat: float(same_answer(text, self._answer)) for seat, text in said.items()}
        rewards = right if self.options.answering == "each" else dict.fromkeys(self.seats, right[self.seats[0]])
        self.past.append({"right": right})
        self._turn = ()
        unread = tuple(seat for seat, text in said.items() if text is None)
        return StepResult(rewards, {seat: {"answer": text} for seat, text in said.items()}, unread)

    def _stepped(self, texts: Mapping[str, str]) -> StepResult:
        steps = {seat: _step(texts[seat]) for seat in self._turn}
        unread = tuple(seat for seat, step in steps.items() if step is None)
        named = set(steps.values())
        together = named.pop() if len(named) == 1 else None
        if together is None:
            said = ", ".join(f"{seat} {step or 'nothing readable'}" for seat, step in steps.items())
            self.tell(f"No step: {said}. You are at {_named(self._at)}.")
        elif maze.at(self._maze.rows, there := maze.after(self._at, together)) == maze.WALL:
            self.tell(f"No step: {together} is a wall. You are at {_named(self._at)}.")
        else:
            self._at = there
            self.tell(f"You went {together} and are at {_named(self._at)}.")
        self._places += (self._at,)
        solved = self._at == self._maze.goal
        self._talk()
        if solved or len(self._places) > self.options.moves:
            self._turn = ()
            self.past.append({"right": dict.fromkeys(self.seats, float(solved))})
        rewards = dict.fromkeys(self.seats, 1.0) if solved else {}
        return StepResult(rewards, {seat: {"move": step} for seat, step in steps.items()}, unread)

    def private(self, seat: str) -> str | None:
        part = self._parts[self.seats.index(seat)]
        return f"Your map:\n{part.replace('/', chr(10))}" if self.options.kind == "maze" else f"Your part: {part}."

    def choices(self, seat: str) -> Sequence[str]:
        return tuple(maze.STEPS) if self.phase == "step" else ()

    def known(self, seat: str) -> Mapping[str, Any]:
        """options: the game's. part: own. said, heard: own messages, (seat, message) of the others, in order. at, goal:
        places in the maze.
        """
        heard = [(who, text) for who, text in self._said if who != seat] if self.options.channel else []
        return {
            "options": self.options,
            "part": self._parts[self.seats.index(seat)],
            "said": tuple(text for who, text in self._said if who == seat),
            "heard": tuple(heard),
            "at": self._at,
            "goal": self._maze.goal if self.options.kind == "maze" else None,
        }

    def marks(self, seat: str) -> dict[str, str | int | float]:
        return {"role": self._roles()[seat]}

    def _roles(self) -> dict[str, str]:
        return {seat: "answers" if seat in self._answering else "tells" for seat in self.seats}

    def facts(self) -> dict[str, Any]:
        """question, answer (None in a maze), task, roles; columns: parts (per seat), right (1 or 0 per seat that
        answered); and for a maze rows, goal, places (where they stood, the start first), length (of the shortest way)
        and left (of the shortest way from where they ended).
        """
        columns: dict[str, Any] = {
            "parts": dict(zip(self.seats, self._parts, strict=True)),
            "right": dict(self.past[-1]["right"]) if self.past else {},
        }
        if self.options.kind == "maze":
            columns |= {
                "rows": list(self._maze.rows),
                "goal": list(self._maze.goal),
                "places": [list(place) for place in self._places],
                "length": self._maze.length,
                "left": maze.distances(self._maze.rows, self._maze.goal)[self._at],
            }
        return {
            **super().facts(),
            "question": self._question,
            "answer": self._answer,
            "task": f"split_info/{self.options.kind}",
            "columns": columns,
            "roles": self._roles(),
        }

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """exact: share of right answers; in a maze, of episodes that reached the goal. solved: share of episodes in
        which all that answered were right. told: share of episodes in which a seat's messages held its part. path: in
        a maze, share of the shortest way that was made, 0 for those who ended farther off.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            columns = episode.facts["columns"]
            for seat, right in columns["right"].items():
                yield seat, "exact", right
            if columns["right"]:
                yield None, "solved", min(columns["right"].values())
            for seat, part in columns["parts"].items():
                said = [turn.action["say"] for turn in episode.turns if turn.seat == seat and "say" in turn.action]
                yield seat, "told", any(part in text for text in said)
            if "length" in columns:
                yield None, "path", max(0.0, 1 - columns["left"] / columns["length"])

        return tally(episodes, seats, look, ("exact", "told"), ("solved", "path"))


def _named(place: maze.Place) -> str:
    return f"row {place[0] + 1}, column {place[1] + 1}"


def _step(text: str) -> str | None:
    said = final_answer(text)
    return said if said is not None and (said := plain(said)) in maze.STEPS else None


assert set(get_args(Kind)) == set(WHAT) == {*PUZZLES, "maze"}
