"""Numbers of a pipeline: who was right, what changed from the first answer to the final one, how long it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from marft.answers import same_answer
from marft.games.debate_metrics import answers_of, majority
from marft.games.tally import Seen, tally

if TYPE_CHECKING:
    from marft.episode import Episode

JOINT = ("final_accuracy", "majority_accuracy", "changed_right", "changed_wrong", "turns", "calls")


def measure(episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
    """The metrics that `Pipeline.metrics` describes."""
    return tally(episodes, seats, _look, ("accuracy",), JOINT, counts=answers_of)


def _look(episode: Episode) -> Iterator[Seen]:
    truth, final = episode.facts["answer"], episode.facts["final"]
    yield None, "turns", len(episode.turns)
    yield None, "calls", sum(len(turn.action.get("calls", ())) for turn in episode.turns)
    if truth is None:
        return
    answered = [turn for turn in episode.turns if answers_of(turn)]
    right = [(turn.seat, same_answer(turn.action["answer"], truth)) for turn in answered]
    for seat, one in right:
        yield seat, "accuracy", one
    last = dict(right)
    if not any(seat in last for seat in final):
        return
    yield None, "final_accuracy", all(last.get(seat, False) for seat in final)
    ends = {turn.seat: turn.action["answer"] for turn in answered}
    yield None, "majority_accuracy", same_answer(majority([ends.get(seat) for seat in final]), truth)
    first, ended = right[0][1], any(last.get(seat, False) for seat in final)
    yield None, "changed_right", ended and not first
    yield None, "changed_wrong", first and not ended
