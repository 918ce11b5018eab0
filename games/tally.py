"""Metrics of the table games: means of what was seen, pooled and per seat, with the names all games share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import fsum, nan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marft.episode import Episode, Turn

Seen = tuple[str | None, str, float]
"""(seat, or None for the table as a whole; name; value)."""


def tally(
    episodes: Sequence[Episode],
    seats: Sequence[str] | None,
    look: Callable[[Episode], Iterable[Seen]],
    own: Sequence[str] = (),
    joint: Sequence[str] = (),
    counts: Callable[[Turn], bool] | None = None,
) -> dict[str, float]:
    """Means of all that `look` sees in the finished episodes.

    own, joint: the names `look` gives for seats and for the table; NaN stands where nothing was seen. `seats` limits
    what is counted for seats: pooled under the name, and each as "seat/name". Added for every game: invalid (share of
    unreadable decisions; free talk is none, `counts` may say otherwise), return (mean per seat and episode),
    return_<seat>, welfare (joint payoff per round played).
    """
    live = [episode for episode in episodes if not episode.failed]
    known = list(dict.fromkeys(seat for episode in episodes for seat in episode.seats))
    chosen = known if seats is None else list(seats)
    for seat in chosen:
        if known and seat not in known:
            raise ValueError(f"no seat {seat!r}: the seats are {', '.join(known)}")
    values: dict[str, list[float]] = {name: [] for name in (*own, "invalid", *joint, "return", "welfare")}
    values.update((f"return_{seat}", []) for seat in chosen)
    values.update((f"{seat}/{name}", []) for seat in chosen for name in (*own, "invalid"))
    among = set(chosen)
    for episode in live:
        for seat, name, value in _all(episode, look, counts or decides):
            if seat is None:
                values[name].append(value)
            elif seat in among:
                values[name].append(value)
                values[f"return_{seat}" if name == "return" else f"{seat}/{name}"].append(value)
    return {name: fsum(seen) / len(seen) if seen else nan for name, seen in values.items()}


def _all(episode: Episode, look: Callable[[Episode], Iterable[Seen]], counts: Callable[[Turn], bool]) -> Iterator[Seen]:
    yield from look(episode)
    for turn in episode.turns:
        if counts(turn):
            yield turn.seat, "invalid", turn.invalid
    returns = episode.returns()
    for seat, value in returns.items():
        yield seat, "return", value
    yield None, "welfare", fsum(returns.values()) / max(1, episode.facts["played"])


def decides(turn: Turn) -> bool:
    """Whether a turn is a decision and not free talk."""
    return not (isinstance(turn.action, dict) and "say" in turn.action)


def acted(episode: Episode, key: str) -> Iterator[tuple[Turn, Any]]:
    """The turns whose action has `key`, with what it holds."""
    for turn in episode.turns:
        if isinstance(turn.action, dict) and key in turn.action:
            yield turn, turn.action[key]
