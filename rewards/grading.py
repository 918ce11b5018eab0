"""What graders of texts share: whose texts are read, who is paid for them and when, and what cannot be graded.

A grader judges texts, and knows nothing of who is paid; `@text_reward`, `@batch_reward` and `@group_reward` make a
reward of it, which has four options beside the grader's own:

of: which turns of a seat are read: its `last`, its `first`, or `every` one, each paid at its own step.
seats, roles: only the turns of these; a role is the turn's mark, or the seat's in the episode's facts.
share: `seat`, each seat is paid for its own texts; `team`, what the seats read earned on average goes to every seat of
the episode, at its last step.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from marft.answers import final_answer
from marft.rewards.workers import Verdict

if TYPE_CHECKING:
    from marft.episode import Episode, Turn

Of = Literal["last", "first", "every"]
Share = Literal["seat", "team"]
NOT_READ = Verdict()
"""Neither a value nor a cause: the text is nobody's business, as the judge's own."""


class Ungraded(NamedTuple):
    """Stands in an episode's place among the results of a reward: why it could not be graded."""

    cause: str


class Paid(dict[str, Any]):
    """Seat -> what it is paid, where something went wrong on the way and was paid for all the same."""

    def __init__(self, paid: Mapping[str, Any], failures: Sequence[str]) -> None:
        super().__init__(paid)
        self.failures = tuple(failures)


class Case(NamedTuple):
    """A text to be graded, where it stands."""

    turn: Turn
    episode: Episode


@dataclass(frozen=True)
class Reading:
    """Whose texts are read and who is paid, see the top of this file."""

    of: Of = "last"
    seats: Sequence[str] | None = None
    roles: Sequence[str] | None = None
    share: Share = "seat"

    def turns(self, episode: Episode) -> list[Turn]:
        """The turns that are read. Raises ValueError for a seat or role that the episode does not know."""
        _known("seats", self.seats, set(episode.seats), episode)
        given = episode.facts.get("roles") or {}
        roles = {id(turn): str(turn.marks.get("role", given.get(turn.seat, turn.seat))) for turn in episode.turns}
        _known("roles", self.roles, {*roles.values(), *map(str, given.values())}, episode)
        found: dict[str, list[Turn]] = {}
        for turn in episode.turns:
            if self._wanted(turn.seat, self.seats) and self._wanted(roles[id(turn)], self.roles):
                found.setdefault(turn.seat, []).append(turn)
        if self.of == "last":
            return [turns[-1] for turns in found.values()]
        if self.of == "first":
            return [turns[0] for turns in found.values()]
        return [turn for turns in found.values() for turn in turns]

    def pay(self, episode: Episode, graded: Sequence[tuple[Turn, float]]) -> dict[str, Any]:
        """Each seat's pay from what its turns are worth; seats that nothing was read of get 0 where they could."""
        paid = {seat: [0.0] * len(episode.rewards) for seat in episode.seats if self._wanted(seat, self.seats)}
        for turn, value in graded:
            paid[turn.seat][turn.step] += value
        if self.share == "seat":
            return paid
        read = {turn.seat for turn, _ in graded}
        mean = sum(sum(paid[seat]) for seat in read) / len(read) if read else 0.0
        return dict.fromkeys(episode.seats, mean)

    @staticmethod
    def _wanted(name: str, names: Sequence[str] | None) -> bool:
        return names is None or name in names


def _known(option: str, names: Sequence[str] | None, known: set[str], episode: Episode) -> None:
    for name in names or ():
        if name not in known:
            raise ValueError(f"{option}: there is no {name!r} in {episode.game}, but {', '.join(sorted(known))}")


def text_reward(grade: Callable[..., float]) -> Callable[..., dict[str, Any]]:
    """A reward of a grader `(turn, episode, **options) -> number`."""

    @functools.wraps(grade)
    def reward(episode: Episode, **options: Any) -> dict[str, Any]:
        reading, own = _split(options)
        return reading.pay(episode, [(turn, grade(turn, episode, **own)) for turn in reading.turns(episode)])

    return _signed(reward, "episode", grade, 2)


def batch_reward(grade: Callable[..., Sequence[Verdict]]) -> Callable[..., list[Mapping[str, Any] | Ungraded]]:
    """A reward of a grader `(cases, **options) -> verdicts` that takes many texts at once.

    One more option. failed: what a text earns that the grader did not come to an end with; none: such an episode is not
    graded at all, and the recipe's `on_error` says what then. It is counted either way.
    """
    kind = inspect.Parameter.KEYWORD_ONLY
    failed = inspect.Parameter("failed", kind, default=None, annotation="float | None")
    services = [name for name in inspect.signature(grade).parameters if name == "ask"]

    @functools.wraps(grade)
    def reward(episodes: Sequence[Episode], *given: Any, failed: float | None = None, **options: Any) -> list[Any]:
        named = dict(zip(services, given, strict=True))
        return _graded(lambda cases, **own: grade(cases, **named, **own), episodes, failed, options)

    reward.unit = "episode"
    return _signed(reward, "episodes", grade, 1, [failed])


def group_reward(grade: Callable[..., Sequence[float]]) -> Callable[..., list[Mapping[str, Any]]]:
    """A reward of a grader `(cases, **options) -> numbers` that compares the texts of a group, all of its episodes."""

    @functools.wraps(grade)
    def reward(episodes: Sequence[Episode], **options: Any) -> list[Any]:
        def by_group(cases: Sequence[Case], **own: Any) -> list[Verdict]:
            groups: dict[int, list[int]] = {}
            for number, case in enumerate(cases):
                groups.setdefault(case.episode.group, []).append(number)
            found = [Verdict(0.0)] * len(cases)
            for numbers in groups.values():
                values = grade([cases[number] for number in numbers], **own)
                for number, value in zip(numbers, values, strict=True):
                    found[number] = Verdict(value)
            return found

        return _graded(by_group, episodes, None, options)

    reward.unit = "group"
    return _signed(reward, "episodes", grade, 1)


def _graded(grade: Any, episodes: Sequence[Episode], failed: float | None, options: Mapping[str, Any]) -> list[Any]:
    reading, own = _split(options)
    cases, places = [], []
    for number, episode in enumerate(episodes):
        turns = reading.turns(episode)
        cases += [Case(turn, episode) for turn in turns]
        places += [number] * len(turns)
    held: list[list[tuple[Turn, Verdict]]] = [[] for _ in episodes]
    for number, case, verdict in zip(places, cases, grade(cases, **own), strict=True):
        held[number].append((case.turn, verdict))
    return [_settled(episode, reading, one, failed) for episode, one in zip(episodes, held, strict=True)]


def _settled(
    episode: Episode, reading: Reading, held: Sequence[tuple[Turn, Verdict]], failed: float | None
) -> Mapping[str, Any] | Ungraded:
    held = [(turn, verdict) for turn, verdict in held if verdict != NOT_READ]
    causes = [f"{turn.seat}: {verdict.cause}" for turn, verdict in held if verdict.cause is not None]
    values = [(turn, failed if verdict.value is None else float(verdict.value)) for turn, verdict in held]
    if any(value is None for _, value in values):
        return Ungraded("; ".join(causes))
    paid = reading.pay(episode, values)
    return Paid(paid, causes) if causes else paid


def _split(options: Mapping[str, Any]) -> tuple[Reading, dict[str, Any]]:
    names = Reading.__dataclass_fields__
    own = {name: value for name, value in options.items() if name not in names}
    return Reading(**{name: value for name, value in options.items() if name in names}), own


def _signed(reward: Any, first: str, grade: Callable[..., Any], skip: int, more: Sequence[Any] = ()) -> Any:
    """The signature of a reward: the grader's own options, then those that all share."""
    kind = inspect.Parameter.KEYWORD_ONLY
    given = list(inspect.signature(grade).parameters.values())[skip:]
    services = [one for one in given if one.name == "ask"]
    own = [one.replace(kind=kind) for one in given if one.name != "ask"]
    shared = [
        inspect.Parameter(name, kind, default=one.default, annotation=one.type)
        for name, one in Reading.__dataclass_fields__.items()
    ]
    head = inspect.Parameter(first, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    reward.__signature__ = inspect.Signature([head, *services, *own, *more, *shared])
    return reward


def said(turn: Turn) -> str | None:
    """The final answer of a turn: what the game read, else what stands in the text's last mark."""
    if isinstance(turn.action, dict) and isinstance(turn.action.get("answer"), str | None) and "answer" in turn.action:
        return turn.action["answer"]
    return final_answer(turn.text)


def fact(episode: Episode, key: str) -> Any:
    """What the episode's facts, or the columns of its task, hold under a name. Raises ValueError without any."""
    found, names = _find(episode, key)
    if found is None:
        raise ValueError(f"neither the episode's facts nor its task's columns hold {key!r}, but {names}")
    return found


def truth(episode: Episode, key: str) -> str:
    """The true answer, a text. Raises ValueError where there is none."""
    found, _ = _find(episode, key)
    if not isinstance(found, str) or not found:
        held = f"{episode.facts}"[:300]
        raise ValueError(f"the episode's facts hold no text under {key!r}, the true answer; facts: {held}")
    return found


def _find(episode: Episode, key: str) -> tuple[Any, str]:
    """What stands there, None without any; and the names of all there is."""
    columns = episode.facts.get("columns")
    held = {**(columns if isinstance(columns, Mapping) else {}), **episode.facts}
    return held.get(key), ", ".join(sorted(held)) or "nothing"
