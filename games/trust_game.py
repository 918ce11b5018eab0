"""The trust game (Berg, Dickhaut and McCabe 1995), repeated: what is sent grows, and the other may give some back.

One sends any part of its coins; that part is multiplied for the other, who returns as much of it as it likes. Both
moves share the round's clock. Where nothing was sent there is nothing to return, and the round is over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from marft.game import StepResult
from marft.games.roles import RolesGame, RolesOptions
from marft.games.table import View, player, uniform
from marft.games.tally import Seen, acted, tally
from marft.games.text import answer, count

if TYPE_CHECKING:
    from marft.episode import Episode
    from marft.game import Player


class TrustGameOptions(RolesOptions):
    """endowment: the sender's coins each round. multiplier: of what is sent."""

    endowment: int = Field(10, ge=1, le=100_000, strict=True)
    multiplier: int = Field(3, ge=2, le=100, strict=True)


def _player(send: float | Callable[[View], float], give_back: float, doc: str) -> Player:
    """Sends a share of its coins, returns a share of what came of those it was sent."""

    def choose(view: View, rng: random.Random) -> int:
        share = give_back if view.phase == "return" else send(view) if callable(send) else send
        return int(share * view.choices[-1])

    choose.__doc__ = doc
    return player(choose)


def _earned(view: View) -> float:
    """All at first; later all if the last that was sent came back in full, none if not."""
    sent = [record for record in view.past if record["first"] == view.seat and record["sent"]]
    return float(not sent or sent[-1]["returned"] >= sent[-1]["sent"])


class TrustGame(RolesGame):
    """See the module. Phases: "send", "return"."""

    name = "trust_game"
    Options: ClassVar[type[TrustGameOptions]] = TrustGameOptions
    phases = ("send", "return")
    players = {
        "fair": _player(1.0, 0.5, "Sends all, returns half."),
        "distrustful": _player(0.0, 0.0, "Sends nothing, returns nothing."),
        "taker": _player(1.0, 0.0, "Sends all, returns nothing."),
        "cautious": _player(0.5, 0.4, "Sends half, returns a little more than was sent at the usual factor of three."),
        "generous": _player(1.0, 0.7, "Sends all, returns most."),
        "reciprocal": _player(_earned, 0.5, "Sends all as long as it is repaid, returns half."),
        "random": uniform,
    }

    def _rules(self) -> str:
        o = self.options
        return (
            f"You play {count(o.rounds, 'round')}. In each, one of you has "
            f"{o.endowment} coins and sends any part of them to the other, who gets {o.multiplier} times that, "
            f"and may return any part of that. {'Roles change every round. ' * (o.roles == 'alternate')}Answer with a "
            f"whole number of coins, as {answer(o.endowment // 2)}."
        )

    def _opening(self) -> tuple[str, str]:
        coins = f"{self._place()}. You have {self.options.endowment} coins to send from."
        return coins, f"{self._place()}. {self.first} sends."

    def _ask(self, seat: str) -> str:
        return "How many do you send?" if self.phase == "send" else "How many do you return?"

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        o, seat = self.options, self._turn[0]
        moves, unread = self.moves(texts, self.choices(seat))
        number = moves[seat]
        if self.phase == "send":
            self.sent = number
            if number:
                self._pass_on(f"You are sent {number} coins, which makes {o.multiplier * number}.")
                return StepResult({}, {seat: {"send": number}}, unread)
            self.tell("You are sent nothing.", self.second)
            self._close({"sent": 0, "returned": 0})
            return StepResult({seat: float(o.endowment)}, {seat: {"send": 0}}, unread)
        rewards = {
            self.first: float(o.endowment - self.sent + number),
            self.second: float(o.multiplier * self.sent - number),
        }
        self.tell(f"You sent {self.sent}; {number} came back.", self.first)
        self._close({"sent": self.sent, "returned": number})
        return StepResult(rewards, {seat: {"return": number}}, unread)

    def choices(self, seat: str) -> Sequence[int]:
        o = self.options
        return range((o.endowment if self.phase == "send" else o.multiplier * self.sent) + 1)

    def facts(self) -> dict[str, Any]:
        """sent: per round."""
        o = self.options
        sent = [record["sent"] for record in self.past]
        return {**super().facts(), "endowment": o.endowment, "multiplier": o.multiplier, "sent": sent}

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """sent_share: mean share of the endowment that is sent. returned_share: mean share that is returned of what
        could be. repaid: share of returns of at least what was sent. efficiency: joint payoff over that of sending all.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            facts = episode.facts
            for turn, number in acted(episode, "send"):
                yield turn.seat, "sent_share", number / facts["endowment"]
            for turn, number in acted(episode, "return"):
                sent = facts["sent"][turn.step]
                yield turn.seat, "returned_share", number / (facts["multiplier"] * sent)
                yield turn.seat, "repaid", number >= sent
            best = facts["played"] * facts["endowment"] * facts["multiplier"]
            yield None, "efficiency", sum(episode.returns().values()) / best

        return tally(episodes, seats, look, ("sent_share", "returned_share", "repaid"), ("efficiency",))
