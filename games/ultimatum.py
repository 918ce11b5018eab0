"""The ultimatum game (Güth, Schmittberger and Schwarze 1982), repeated: offer a part, and get nothing if it is refused.

One offers the other a part of the coins; the other accepts, and both have what was offered, or rejects, and both have
nothing. Offer and answer share the round's clock.
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

ANSWERS = ("accept", "reject")
LOW = 0.3
"""Offers under this share count as low: most people refuse them."""


class UltimatumOptions(RolesOptions):
    """endowment: coins that are split each round."""

    endowment: int = Field(10, ge=1, le=100_000, strict=True)


def _player(offer: Callable[[View], float], least: float, doc: str) -> Player:
    """Offers `offer`, accepts offers from `least` of the coins on."""

    def choose(view: View, rng: random.Random) -> Any:
        if view.phase == "offer":
            return round(offer(view))
        return ANSWERS[view.now["offer"] < least * view.now["endowment"]]

    choose.__doc__ = doc
    return player(choose)


def _last_offered(view: View) -> float:
    offers = [record["offer"] for record in view.past if record["first"] != view.seat]
    return offers[-1] if offers else view.now["endowment"] / 2


class Ultimatum(RolesGame):
    """See the module. Phases: "offer", "answer"."""

    name = "ultimatum"
    Options: ClassVar[type[UltimatumOptions]] = UltimatumOptions
    phases = ("offer", "answer")
    players = {
        "selfish": _player(lambda view: 1, 0.0, "Offers 1 and accepts whatever it is offered."),
        "fair": _player(lambda view: view.now["endowment"] / 2, LOW, "Offers half, refuses low offers."),
        "generous": _player(lambda view: view.now["endowment"] * 0.6, 0.0, "Offers 60 %, accepts anything."),
        "strict": _player(lambda view: view.now["endowment"] * 0.4, 0.5, "Offers 40 %, refuses less than half."),
        "tit_for_tat": _player(_last_offered, 0.2, "Offers what it was last offered, at first half."),
        "random": uniform,
    }

    def _rules(self) -> str:
        o = self.options
        return (
            f"You play {count(o.rounds, 'round')}. In each, one of you offers "
            f"the other a part of {o.endowment} coins. If the other accepts, it gets the offer and the first keeps the "
            f"rest; if it rejects, both get nothing. {'Roles change every round. ' * (o.roles == 'alternate')}Offer "
            f"a whole number from 0 to {o.endowment}, as {answer(o.endowment // 2)}. Answer an offer by "
            f"{answer('accept')} or {answer('reject')}."
        )

    def _opening(self) -> tuple[str, str]:
        return f"{self._place()}. You offer.", f"{self._place()}. {self.first} offers."

    def _ask(self, seat: str) -> str:
        return "Your offer?" if self.phase == "offer" else "Accept or reject?"

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        seat = self._turn[0]
        moves, unread = self.moves(texts, self.choices(seat))
        move = moves[seat]
        if self.phase == "offer":
            self.offer = move
            self._pass_on(f"You are offered {move} of {self.options.endowment} coins.")
            return StepResult({}, {seat: {"offer": move}}, unread)
        taken = move == "accept"
        kept = self.options.endowment - self.offer
        rewards = {self.first: float(taken * kept), self.second: float(taken * self.offer)}
        self.tell(f"{self.second} {'accepted' if taken else 'rejected'} your offer of {self.offer}.", self.first)
        self._close({"offer": self.offer, "accepted": taken})
        return StepResult(rewards, {seat: {"accept": taken}}, unread)

    def choices(self, seat: str) -> Sequence[Any]:
        return range(self.options.endowment + 1) if self.phase == "offer" else ANSWERS

    def known(self, seat: str) -> Mapping[str, Any]:
        """endowment; offer: that stands, None before it is made."""
        return {"endowment": self.options.endowment, "offer": self.offer if self.phase == "answer" else None}

    def facts(self) -> dict[str, Any]:
        """offers: per round."""
        return {**super().facts(), "endowment": self.options.endowment, "offers": [r["offer"] for r in self.past]}

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """offer_share: mean offer over endowment. acceptance: share of offers a seat accepts. acceptance_low: the same
        of offers under 30 %.
        """

        def look(episode: Episode) -> Iterator[Seen]:
            for turn, number in acted(episode, "offer"):
                yield turn.seat, "offer_share", number / episode.facts["endowment"]
            for turn, taken in acted(episode, "accept"):
                yield turn.seat, "acceptance", taken
                if episode.facts["offers"][turn.step] < LOW * episode.facts["endowment"]:
                    yield turn.seat, "acceptance_low", taken

        return tally(episodes, seats, look, ("offer_share", "acceptance", "acceptance_low"))
