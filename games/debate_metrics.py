"""Numbers of a debate: who was right first and last, who changed, what the vote was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from marft.answers import number, plain, same_answer
from marft.games.tally import Seen, tally

if TYPE_CHECKING:
    from marft.episode import Episode, Turn

FLIPS = ("right_right", "right_wrong", "wrong_right", "wrong_wrong")
OWN = ("first_accuracy", "final_accuracy", *FLIPS, "corrected", "misled")
JOINT = ("majority_accuracy", "agreement", "judge_accuracy", "truth_wins")


def answers_of(turn: Turn) -> bool:
    """Whether a turn was asked for a final answer."""
    return isinstance(turn.action, dict) and "answer" in turn.action


def majority(answers: Sequence[str | None]) -> str | None:
    """The most frequent answer, however written; of equally frequent ones the earliest; None where nobody answered."""
    counts: dict[object, int] = {}
    written: dict[object, str] = {}
    for answer in answers:
        if answer is not None:
            value = number(answer)
            key = plain(answer) if value is None else value
            counts[key] = counts.get(key, 0) + 1
            written.setdefault(key, answer)
    return written[max(counts, key=counts.__getitem__)] if counts else None


def measure(episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
    """The metrics that `Debate.metrics` describes."""
    return tally(episodes, seats, _look, OWN, JOINT, counts=answers_of)


def _look(episode: Episode) -> Iterator[Seen]:
    truth, roles = episode.facts["answer"], episode.facts["roles"]
    given: dict[str, list[str | None]] = {}
    for turn in episode.turns:
        if answers_of(turn):
            given.setdefault(turn.seat, []).append(turn.action["answer"])
    debaters = {seat: answers for seat, answers in given.items() if roles[seat] == "debater"}
    if truth is not None:
        yield from _right(debaters, truth)
    last = [answers[-1] for answers in debaters.values()]
    for one, other in combinations(last, 2):
        yield None, "agreement", same_answer(one, other)
    if debaters and truth is not None:
        yield None, "majority_accuracy", same_answer(majority(last), truth)
    for seat, answers in given.items():
        if roles[seat] == "judge" and truth is not None:
            yield None, "judge_accuracy", same_answer(answers[-1], truth)
            defended = list(episode.facts["defends"].values())
            if any(same_answer(answers[-1], one) for one in defended):
                yield None, "truth_wins", same_answer(answers[-1], truth)


def _right(debaters: Mapping[str, Sequence[str | None]], truth: str) -> Iterator[Seen]:
    for seat, answers in debaters.items():
        first, last = same_answer(answers[0], truth), same_answer(answers[-1], truth)
        yield seat, "first_accuracy", first
        yield seat, "final_accuracy", last
        if len(answers) > 1:
            for flip in FLIPS:
                yield seat, flip, flip == f"{'right' if first else 'wrong'}_{'right' if last else 'wrong'}"
            yield seat, *(("misled", not last) if first else ("corrected", last))
