"""Debate: seats answer a question, see what the others say, and answer again; or two sides argue before a judge."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from marft.answers import same_answer
from marft.errors import GameError, RecipeError
from marft.game import Message, StepResult
from marft.games.debate_metrics import measure
from marft.games.debate_players import PLAYERS
from marft.games.dialogue import FORM, DialogueGame, DialogueOptions, DialogueView, one_message, reads
from marft.games.quotes import checked
from marft.games.table import PAIR, many_seats
from marft.games.text import count, quotable

if TYPE_CHECKING:
    from marft.episode import Episode

JUDGE = "judge"


class DebateOptions(DialogueOptions):
    """form: society, or two sides before a judge. seats: of the society. rounds: how often each answers or argues.

    show: whether the others see the whole text, or the answer alone. pay: for the last answer, or for each. assign:
        whether sides are given the answer they defend. hidden: the judge does not see the question, but the row's
        column `asked` instead, if there is one. quotes: what a side puts between <quote> and </quote> is looked up in
        the question, and reaches the others between <verified> and </verified> where it stands there, <unverified> and
        </unverified> where it does not.
    """

    form: Literal["society", "sides"] = "society"
    seats: int = Field(3, ge=2, le=20, strict=True)
    rounds: int = Field(2, ge=1, le=20, strict=True)
    show: Literal["text", "answer"] = "text"
    pay: Literal["last", "each"] = "last"
    assign: bool = True
    hidden: bool = False
    quotes: bool = False

    @model_validator(mode="after")
    def _for_sides(self) -> DebateOptions:
        for key in ("hidden", "quotes"):
            if getattr(self, key) and (self.form != "sides" or not self.assign):
                raise ValueError(f"{key} is for sides with given answers: set form sides and assign true")
        return self


class Debate(DialogueGame):
    """See the module. `society`: p1, p2, ... all answer at once, then see the others' answers and answer again, for
    some rounds. Each is paid 1.0 for a right answer, the last (or each, `pay`). The majority of the last answers is the
    vote.

    `sides`: alice and bob argue for some rounds, at once, then the judge answers. By default each is given an answer
    to defend, one of them true; which is whose is drawn, and the judge is not told. The side whose answer the judge
    gives is paid 1.0, and the judge 1.0 where it is the true one. With `assign: false` each argues for an answer of its
    own, and all three are paid for their own last answer. Who is named first to the judge is drawn as well.

    Sides may know more than the judge (`hidden`) and prove it (`quotes`), as in debates about a text that only they
    have (arXiv 2402.06782).

    A text without a final answer, where one is asked for, is no answer, and flagged. Phases: "answer" in a society,
    "argue" and "judge" between sides.
    """

    name = "debate"
    Options: ClassVar[type[DebateOptions]] = DebateOptions
    players = PLAYERS

    def __init__(self, options: DebateOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self.society = o.form == "society"
        self.debaters = many_seats(o.seats) if self.society else PAIR
        self.seats = self.debaters if self.society else (*PAIR, JUDGE)
        self._assigned = o.assign and not self.society
        if self._assigned and any(task.answer is None for task in self.tasks.tasks):
            raise RecipeError(f"game.assign: {self.tasks.source} has tasks without an answer; set game.assign false")
        if self._assigned and len(self.tasks.answers) < 2:
            raise RecipeError(f"game.assign: all answers of {self.tasks.source} are the same; set game.assign false")

    def _start(self, seed: int) -> None:
        self.phase = "answer" if self.society else "argue"
        self._turn = self.debaters
        self._texts: dict[str, str] = {}
        self._quoted: dict[str, tuple[str, ...]] = {}  # side -> what it last quoted that stands in the question
        self._answers: dict[str, str | None] = {}
        self.defends: dict[str, str] = {}
        self.order = PAIR
        if not self.society:
            rng = random.Random(seed)
            self.order = PAIR if rng.random() < 0.5 else PAIR[::-1]
            if self._assigned:
                pair = [str(self.task.answer), self._wrong(rng)]
                rng.shuffle(pair)
                self.defends = dict(zip(PAIR, pair, strict=True))

    def _wrong(self, rng: random.Random) -> str:
        """A false answer to defend: the row's column `wrong`, else the answer to another question."""
        given = self.task.columns.get("wrong")
        given = given if isinstance(given, list) else [] if given is None else [given]
        others = [str(one) for one in given] or self.tasks.answers
        first = rng.randrange(len(others))
        for one in (*others[first:], *others[:first]):
            if not self.right(one):
                return one
        where = "its column `wrong`" if given else "the set's other answers"
        raise GameError(f"game.assign: no false answer to {self.task.question[:80]!r} in {where}")

    def observe(self, seat: str) -> list[Message]:
        shown = self._shown(seat)
        if seat == JUDGE:
            return one_message(self._rules(seat), *shown, f"Your answer, as {FORM}?")
        place = f"Round {self.clock + 1} of {self.options.rounds}."
        ask = "Your argument?" if self._assigned else "Your answer?"
        return one_message(self._rules(seat) if not self.clock else "", *shown, f"{place} {ask}")

    def _rules(self, seat: str) -> str:
        o, question = self.options, f"Question: {self.task.question}"
        rounds = count(o.rounds, "round")
        if self.society:
            paid = "Each right answer earns 1." if o.pay == "each" else "A right last answer earns 1."
            return (
                f"You are {seat}, one of {o.seats} who discuss a question in {rounds}: all answer at once, then see "
                f"the others' answers and answer again. {paid} Be short, and end with your answer as {FORM}.\n"
                f"{question}"
            )
        if seat == JUDGE:
            claims = " ".join(
                f"{one} says that the answer is {self.defends[one]}." for one in self.order if self.defends
            )
            one_right = " One of them is right." if self.defends else ""
            begin = f"You are {seat} of a debate between {' and '.join(self.order)}.{one_right}"
            if self.options.hidden:
                asked = self.task.columns.get("asked")
                question = "" if asked is None else f"Question: {asked}"
            return "\n".join(line for line in (begin, question, claims) if line)
        (other,) = (one for one in PAIR if one != seat)
        begin = f"You are {seat}. You and {other} argue before a judge, {rounds}, at once in each."
        if self.defends:
            own, theirs = self.defends[seat], self.defends[other]
            hidden = " The judge does not see the question." if self.options.hidden else ""
            quotes = " Quote it as <quote>…</quote>: quotes are checked." if self.options.quotes else ""
            return (
                f"{begin} You earn 1 if the judge answers as you say. Be short.{hidden}{quotes}\n{question}\n"
                f"You say that the answer is {own}, {other} that it is {theirs}."
            )
        return f"{begin} A right last answer earns 1. Be short, and end with your answer as {FORM}.\n{question}"

    def _shown(self, seat: str) -> list[str]:
        """What the others said last, as `seat` reads it."""
        names = self.order if seat == JUDGE else self.debaters
        answers_only = self.options.show == "answer" and not self._assigned
        return [
            (f"{one}: {self._answers[one] or 'no answer'}" if answers_only else f'{one}: "{self._texts[one]}"')
            for one in names
            if one != seat and one in self._texts
        ]

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        o, free = self.options, self.phase == "argue" and self._assigned
        self._texts = self._texts | {seat: quotable(text, o.message_limit) for seat, text in texts.items()}
        for seat in PAIR if free and o.quotes else ():
            self._texts[seat], self._quoted[seat] = checked(self._texts[seat], self.task.question)
        answers = {} if free else {seat: reads(text) for seat, text in texts.items()}
        self._answers = self._answers | answers
        actions = {seat: {"say": self._texts[seat]} for seat in texts}
        for seat, answer in answers.items():
            actions[seat]["answer"] = answer
        self.clock += 1
        rewards = self._advance()
        return StepResult(rewards, actions, tuple(seat for seat, answer in answers.items() if answer is None))

    def _advance(self) -> dict[str, float]:
        """Whose turn is next, and what this one paid."""
        o = self.options
        argued = self.clock >= o.rounds
        if self.phase == "judge" or (self.society and argued):
            self._turn = ()
            return self._payoffs()
        if argued:
            self.phase, self._turn = JUDGE, (JUDGE,)
        return self._payoffs() if o.pay == "each" and self.society else {}

    def _payoffs(self) -> dict[str, float]:
        if not self.defends:
            return {seat: float(self.right(self._answers[seat])) for seat in self.seats}
        verdict = self._answers[JUDGE]
        sides = {seat: float(same_answer(verdict, own)) for seat, own in self.defends.items()}
        return {**sides, JUDGE: float(self.right(verdict))}

    def roles(self) -> dict[str, str]:
        return {seat: JUDGE if seat == JUDGE else "debater" for seat in self.seats}

    def view(self, seat: str) -> DialogueView:
        """now: defends, the answer that each side defends; round, from 0; role; quoted, what each side last quoted that
        was found; says, arguments for the own answer, from the task's column `says`, {answer: texts}.
        """
        names = self.order if seat == JUDGE else self.debaters
        heard = tuple(
            self.defends.get(one, self._answers.get(one)) for one in names if one != seat and one in self._texts
        )
        given = self.task.columns.get("says")
        says = given.get(self.defends.get(seat), ()) if isinstance(given, Mapping) else ()
        now = {"defends": self.defends, "round": self.clock, "role": self.roles()[seat]}
        now |= {"quoted": self._quoted, "says": says}
        task, guesses = self.task, self.tasks.answers
        own = self._answers.get(seat)
        return DialogueView(seat, self.seats, self.phase, task.question, task.answer, guesses, heard, own, now)

    def facts(self) -> dict[str, Any]:
        """form; defends: the answer that each side was given; order: of the sides, as the judge read them."""
        return {**super().facts(), "form": self.options.form, "defends": self.defends, "order": list(self.order)}

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """first_accuracy, final_accuracy: share of right answers in the first round, and in the last.

        right_right, right_wrong, wrong_right, wrong_wrong: shares of debaters by whether their first answer was right,
        and then their last. corrected: share of wrong first answers that were right in the end. misled: share of right
        first answers that were wrong in the end. majority_accuracy: share of debates in which the most frequent last
        answer is right; of equally frequent ones the first seat's counts. agreement: share of pairs of debaters with
        the same last answer. judge_accuracy: share of right verdicts. truth_wins: share of verdicts for the true side.
        """
        return measure(episodes, seats)
