"""Pipeline: roles in a graph pass texts on until the last of them answers the question.

The graph is the recipe's `topology`: a name (`generator_verifier_refiner`) or roles written out, see
`marft.games.topology`. Roles that wait for nobody speak first; those that wait for the same speak at once. Each sees
the question, unless it is hidden from it, and the texts of the roles it `sees`, new ones only. A role that `calls`
another writes sub-tasks as <call>…</call>; each is answered by a seat of that role, and then the caller goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Tag

from marft.errors import GameError
from marft.game import Message, StepResult
from marft.games.dialogue import FORM, DialogueGame, DialogueOptions, DialogueView, reads, said
from marft.games.pipeline_metrics import measure
from marft.games.pipeline_players import PLAYERS
from marft.games.text import count
from marft.games.topology import Topology, known_preset, schedule_of, topology_of

if TYPE_CHECKING:
    from marft.episode import Episode

CALL = ("<call>", "</call>")


Graph = Annotated[
    Annotated[Topology, Tag("[roles]")] | Annotated[str, AfterValidator(known_preset), Tag("[name]")],
    Discriminator(lambda value: "[name]" if isinstance(value, str) else "[roles]"),
]
"""A name or the roles. The brackets keep the tags out of error messages, which should name keys of the recipe only."""


class PipelineOptions(DialogueOptions):
    """topology: a name, or {roles, loops, final}. pay: a right final answer pays the team, or its own seat."""

    topology: Graph = "generator_verifier_refiner"
    pay: Literal["team", "own"] = "team"


def calls_in(text: str, most: int, limit: int) -> tuple[str, ...]:
    """The sub-tasks of a text: what stands between closed call marks, the first `most`, none empty."""
    found: list[str] = []
    at = 0
    while len(found) < most:
        begin = text.find(CALL[0], at)
        stop = text.find(CALL[1], begin + len(CALL[0])) if begin >= 0 else -1
        if stop < 0:
            break
        subtask = said(text[begin + len(CALL[0]) : stop], limit)
        found += [subtask] if subtask.strip() else []
        at = stop + len(CALL[1])
    return tuple(found)


class Pipeline(DialogueGame):
    """See the module. 1.0 is paid at the end for each right final answer: to all seats (`pay: team`), or to the seat
    that gave it (`own`). A text without a final answer, where one is asked for, is no answer, and flagged.

    Phases of a view: "answer" where one is asked for, "say" else; "call" where sub-tasks may be handed out.
    """

    name = "pipeline"
    Options: ClassVar[type[PipelineOptions]] = PipelineOptions
    players = PLAYERS

    def __init__(self, options: PipelineOptions | None = None) -> None:
        super().__init__(options)
        self.topology = topology_of(self.options.topology)
        self.plan = schedule_of(self.topology)
        self.seats = tuple(seat for seats in self.plan.seats.values() for seat in seats)
        self._roles = {seat: self.plan.roles[name].group or name for seat, name in self.plan.role_of.items()}
        self._finals = tuple(seat for role in self.plan.final for seat in self.plan.seats[role])

    def _start(self, seed: int) -> None:
        self._texts: dict[str, str] = {}  # seat -> its last text, as others see it
        self._answers: dict[str, str | None] = {}
        self._times: dict[str, int] = {}  # seat -> how often it has spoken
        self._shown: dict[tuple[str, str], int] = {}  # (seat, other) -> which of the other's texts it was shown
        self._gone: dict[int, int] = {}  # loop -> how often it was gone through
        self._inside: frozenset[str] | None = None  # the roles of the loop that is gone through again
        self._waiting: tuple[str, ...] = ()  # seats whose calls are being answered
        self._pending: tuple[tuple[str, str, int], ...] = ()  # (caller, sub-task, its number) not yet handed out
        self._at_work: dict[str, tuple[str, str, int]] = {}  # seat that is called -> its call
        self._results: dict[str, tuple[tuple[str, str], ...]] = {}  # caller -> (sub-task, answer) that are new to it
        self._rounds: dict[str, int] = {}  # caller -> rounds of calls in this turn of its
        self._numbers: dict[str, int] = {}  # role -> calls of it so far
        self._enter(0)

    def _enter(self, stage: int) -> None:
        """Begin a stage, or the next one that has anything to do; past the last the episode is over."""
        self._rounds = {}
        for number in range(stage, len(self.plan.stages)):
            roles = [role for role in self.plan.stages[number] if self._inside is None or role in self._inside]
            if roles:
                self._stage = number
                self._turn = tuple(seat for role in roles for seat in self.plan.seats[role])
                return
        self._turn = ()

    def observe(self, seat: str) -> list[Message]:
        name = self.plan.role_of[seat]
        role = self.plan.roles[name]
        if seat in self._results and seat not in self._at_work:
            return [Message("user", self._called_back(seat))]
        first = not self._times.get(seat)
        messages = [Message("system", self._system(seat, name))] if first else []
        which = "template" if first or seat in self._at_work else "again"
        prompt = self.plan.prompts.get((name, which))
        text = self._filled(prompt, seat, which) if prompt is not None else self._plain(seat, first and role.question)
        return [*messages, Message("user", text)]

    def _system(self, seat: str, name: str) -> str:
        role = self.plan.roles[name]
        prompt = self.plan.prompts.get((name, "system"))
        lines = [self._filled(prompt, seat, "system") if prompt is not None else f"You are {seat} of a team."]
        if role.calls is not None:
            lines.append(f"Write a sub-task as {CALL[0]}…{CALL[1]}, at most {role.max_calls} at once.")
        if self.answers_asked(seat):
            lines.append(f"End with your answer as {FORM}.")
        return " ".join(lines)

    def _filled(self, prompt: Any, seat: str, which: str) -> str:
        name = self.plan.role_of[seat]
        outputs = {other: self._outputs(other) for other in self.plan.sees[name]}
        _, subtask, _ = self._at_work.get(seat, ("", "", 0))
        passes = self._times.get(seat, 0) + 1
        asked = {"question": self.task.question} if self.plan.roles[name].question else {}
        try:
            return prompt.render(**asked, outputs=outputs, role=name, seat=seat, subtask=subtask, passes=passes)
        except ValueError as error:
            raise GameError(f"game.topology.roles.{name}.{which}: {error}") from None

    def _outputs(self, role: str) -> Any:
        texts = [self._texts.get(seat, "") for seat in self.plan.seats[role]]
        return texts[0] if self.plan.roles[role].seats == 1 else texts

    def _plain(self, seat: str, question: bool) -> str:
        """The prompt of a role that has none of its own: the question once, and the texts that are new to it."""
        lines = [f"Question: {self.task.question}"] if question else []
        if seat in self._at_work:
            lines.append(f"Sub-task: {self._at_work[seat][1]}")
        lines += [_quote(other, self._texts[other]) for other in self._new(seat)]
        return "\n".join([*lines, "Your answer?" if self.answers_asked(seat) else "Your text?"])

    def _new(self, seat: str) -> list[str]:
        """The seats whose last texts `seat` may see and was not shown."""
        others = [one for role in self.plan.sees[self.plan.role_of[seat]] for one in self.plan.seats[role]]
        return [one for one in others if self._times.get(one, 0) > self._shown.get((seat, one), 0)]

    def _called_back(self, seat: str) -> str:
        role = self.plan.roles[self.plan.role_of[seat]]
        lines = [_quote(f"Sub-task {subtask!r}", text) for subtask, text in self._results[seat]]
        left = role.call_rounds - self._rounds.get(seat, 0)
        more = f"You may hand out sub-tasks {count(left, 'more time')}." if left > 0 else "No more sub-tasks."
        return "\n".join([*lines, more, "Your answer?" if self.answers_asked(seat) else "Your text?"])

    def answers_asked(self, seat: str) -> bool:
        """Whether the seat's text must hold a final answer; never where the question has none."""
        name = self.plan.role_of[seat]
        wanted = self.plan.roles[name].answer
        return self.task.answer is not None and (name in self.plan.final if wanted is None else wanted)

    def may_call(self, seat: str) -> bool:
        """Whether calls in the seat's next text are answered."""
        role = self.plan.roles[self.plan.role_of[seat]]
        return role.calls is not None and self._rounds.get(seat, 0) < role.call_rounds

    def _play(self, texts: Mapping[str, str]) -> StepResult:
        limit = self.options.message_limit
        actions: dict[str, dict[str, Any]] = {}
        invalid = []
        for seat, text in texts.items():
            role = self.plan.roles[self.plan.role_of[seat]]
            for other in self._new(seat):
                self._shown[seat, other] = self._times[other]
            calls = calls_in(text, role.max_calls, limit) if self.may_call(seat) else ()
            actions[seat] = {"say": said(text, limit)}
            if calls:
                actions[seat]["calls"] = list(calls)
            elif self.answers_asked(seat):
                actions[seat]["answer"] = reads(text)
                invalid += [seat] if actions[seat]["answer"] is None else []
        for seat in texts:  # what is said at once is heard at once
            self._texts[seat] = actions[seat]["say"]
            self._times[seat] = self._times.get(seat, 0) + 1
            self._answers[seat] = actions[seat].get("answer")
            self._results.pop(seat, None)
        self.clock += 1
        self._go_on(actions)
        return StepResult({} if self._turn else self._payoffs(), actions, tuple(invalid))

    def _go_on(self, actions: Mapping[str, Mapping[str, Any]]) -> None:
        """Hand out calls as long as there are any, then go on with the graph."""
        for seat in list(self._at_work):
            caller, subtask, _ = self._at_work[seat]
            self._results[caller] = (*self._results.get(caller, ()), (subtask, self._texts[seat]))
        self._at_work = {}
        callers = tuple(seat for seat, action in actions.items() if "calls" in action)
        for seat in callers:
            self._rounds[seat] = self._rounds.get(seat, 0) + 1
            called = str(self.plan.roles[self.plan.role_of[seat]].calls)
            for subtask in actions[seat]["calls"]:
                self._numbers[called] = self._numbers.get(called, 0) + 1
                self._pending += ((seat, subtask, self._numbers[called]),)
        self._waiting += callers
        if self._pending:
            self._hand_out()
        elif self._waiting:
            self._turn, self._waiting = self._waiting, ()
        else:
            self._leave_stage()

    def _hand_out(self) -> None:
        """As many of the pending calls as there are free seats of the roles they go to."""
        free = {role: list(self.plan.seats[role]) for role in self.plan.called}
        left = []
        for call in self._pending:
            seats = free[str(self.plan.roles[self.plan.role_of[call[0]]].calls)]
            if seats:
                self._at_work[seats.pop(0)] = call
            else:
                left.append(call)
        self._pending = tuple(left)
        self._turn = tuple(seat for seat in self.seats if seat in self._at_work)

    def _leave_stage(self) -> None:
        roles = [role for role in self.plan.stages[self._stage] if self._inside is None or role in self._inside]
        for role in roles:
            number = self.plan.loop_at.get(role)
            if number is None:
                continue
            loop, until = self.plan.loops[number], self.plan.untils[number]
            self._gone[number] = self._gone.get(number, 0) + 1
            over = until is not None and until(self._texts[seat] for seat in self.plan.seats[role])
            if not over and self._gone[number] < loop.repeat:
                self._inside = self.plan.inside[number]
                self._enter(self.plan.stage_of(loop.back_to))
                return
            self._inside = None
        self._enter(self._stage + 1)

    def _payoffs(self) -> dict[str, float]:
        right = {seat: float(self.right(self._answers.get(seat))) for seat in self._finals}
        if self.options.pay == "own":
            return right
        return dict.fromkeys(self.seats, sum(right.values()))

    def roles(self) -> dict[str, str]:
        return self._roles

    def marks(self, seat: str) -> dict[str, str | int | float]:
        """role; call, which of its role's calls this is, from 1, for one that is called."""
        call = {"call": self._at_work[seat][2]} if seat in self._at_work else {}
        return {"role": self._roles[seat], **call}

    def view(self, seat: str) -> DialogueView:
        """now: role; says, texts it may say, the role's or the task's; until, the word that ends its loop; subtask;
        calls, how many; texts, what it was shown of the others.
        """
        name = self.plan.role_of[seat]
        role = self.plan.roles[name]
        back = self._results.get(seat, ())
        seen = [one for other in self.plan.sees[name] for one in self.plan.seats[other] if one in self._texts]
        heard = tuple(reads(text) for _, text in back) or tuple(self._answers.get(one) for one in seen)
        number = self.plan.loop_at.get(name)
        now = {
            "role": name,
            "says": self._lines(seat, name),
            "until": self.plan.loops[number].until if number is not None else None,
            "subtask": self._at_work[seat][1] if seat in self._at_work else None,
            "calls": role.max_calls if self.may_call(seat) else 0,
            "texts": tuple(text for _, text in back) or tuple(self._texts[one] for one in seen),
        }
        phase = "call" if now["calls"] else "answer" if self.answers_asked(seat) else "say"
        question = self.task.question if role.question else ""
        guesses, own = self.tasks.answers, self._answers.get(seat)
        return DialogueView(seat, self.seats, phase, question, self.task.answer, guesses, heard, own, now)

    def _lines(self, seat: str, role: str) -> Sequence[str]:
        """What scripted players may say here: the role's own `says`, else what the task's column `says` holds for the
        seat or the role."""
        given = self.task.columns.get("says")
        given = given if isinstance(given, Mapping) else {}
        return self.plan.roles[role].says or given.get(seat) or given.get(role) or ()

    def facts(self) -> dict[str, Any]:
        """final: the seats of the final answers. asked: the seats whose texts had to hold an answer."""
        asked = [seat for seat in self.seats if self.answers_asked(seat)]
        return {**super().facts(), "final": list(self._finals), "asked": asked}

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """accuracy: share of right answers, where one was asked for. final_accuracy: share of episodes whose final
        answers are all right. majority_accuracy: share of episodes in which the most frequent final answer is right; of
        equally frequent ones the first seat's counts. turns: how many texts an episode has. calls: how many sub-tasks
        are handed out in an episode. changed_right, changed_wrong: share of episodes whose first answer was wrong and a
        final one right, and the other way.
        """
        return measure(episodes, seats)


def _quote(who: str, text: str) -> str:
    return f"{who}:\n{text}" if "\n" in text else f"{who}: {text}"
