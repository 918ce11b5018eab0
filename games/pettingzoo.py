"""A PettingZoo environment as a game: `env: module:function` names what makes it, AEC or parallel.

Seats are the environment's possible agents. Observations are texts of a Text space, or what `render` makes of them.
Actions are texts of a Text space, taken as they are said, or numbers of a Discrete space between the answer marks; an
action mask beside the observation or in the info is kept. A clone is the episode played again from seed and actions.

The other way, any game as a PettingZoo environment, is `marft.games.as_pettingzoo`. Nothing of PettingZoo is imported
here: the environment brings it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from marft.errors import RecipeError
from marft.game import Game, Message, Options, StepResult
from marft.games.isolation import OwnChance
from marft.games.tally import tally
from marft.games.text import answer, between, whole
from marft.lookup import load_object

if TYPE_CHECKING:
    from marft.episode import Episode


class PettingZooOptions(Options):
    """env: "module:function" or "path/to/file.py:function" that makes the environment. arguments: it is called with.

    render: "module:function" that makes a text of (observation, seat), where observations are none. rules: a text told
    to each seat at first. max_decisions: after so many the episode ends, finished or not.
    invalid: an unreadable or illegal answer becomes a `random` action of those allowed.
    """

    env: str = Field(min_length=1)
    arguments: dict[str, Any] = {}
    render: str | None = None
    rules: str = ""
    max_decisions: int = Field(1000, ge=1)
    invalid: Literal["random"] = "random"


class PettingZooView(NamedTuple):
    """What a scripted player knows. choices: the legal numbers; None where the answer is free text.

    lengths: of the shortest and longest free text. letters: that it may hold.
    """

    seat: str
    observation: str
    choices: tuple[int, ...] | None
    lengths: tuple[int, int]
    letters: str


def uniform_action(view: PettingZooView, rng: random.Random) -> Any:
    """What is allowed, all alike; of free texts a short one of any letters."""
    if view.choices is not None:
        return rng.choice(view.choices)
    least, most = view.lengths
    return "".join(rng.choices(view.letters, k=rng.randint(least, min(most, least + 20))))


def uniform(view: PettingZooView, rng: random.Random) -> str:
    """Any of the actions allowed, all alike; of free texts a short one of any letters."""
    action = uniform_action(view, rng)
    return action if view.choices is None else answer(action)


def first(view: PettingZooView, rng: random.Random) -> str:
    """The first of the actions allowed; of free texts the shortest."""
    return view.letters[0] * view.lengths[0] if view.choices is None else answer(view.choices[0])


class PettingZoo(Game):
    """Any PettingZoo environment with texts (`pip install marft[pettingzoo]`)."""

    name = "pettingzoo"
    Options = PettingZooOptions
    players = {"random": uniform, "first": first}

    def __init__(self, options: PettingZooOptions | None = None) -> None:
        super().__init__(options)
        o = self.options
        self._render = load_object(o.render, "game.render") if o.render else None
        self._make = load_object(o.env, "game.env")
        with OwnChance(0).lent():
            self._env = self._make(**o.arguments)
        self._turns = hasattr(self._env, "last")  # only an AEC environment tells of the last agent's turn
        seats = getattr(self._env, "possible_agents", None)
        if not seats or not all(isinstance(seat, str) for seat in seats):
            raise RecipeError(f"game.env: {o.env} must list its possible_agents as texts, not {seats!r:.80}")
        self.seats = tuple(seats)
        for seat in self.seats:
            self._check(seat)

    def _check(self, seat: str) -> None:
        from gymnasium.spaces import Discrete, Text

        seen, acts = self._env.observation_space(seat), self._env.action_space(seat)
        seen = getattr(seen, "spaces", {}).get("observation", seen)
        if self._render is None and not isinstance(seen, Text):
            raise RecipeError(f"game.env: {seat} observes {seen!r:.80}, which is no Text; give game.render")
        if not isinstance(acts, Discrete | Text):
            raise RecipeError(f"game.env: {seat} acts by {acts!r:.80}; a game needs Discrete or Text")

    def reset(self, seed: int) -> None:
        self._seed, self._script, self.clock = seed, [], 0
        self._chance, self._told = OwnChance(seed), dict.fromkeys(self.seats, False)
        with self._chance.lent():
            found = self._env.reset(seed=seed % 2**31)
            if not self._turns:
                self._seen, self._infos = dict(found[0]), dict(found[1])
            self._settle()

    def _settle(self) -> None:
        """Who acts now; agents that are out take their empty steps."""
        env = self._env
        if self.clock >= self.options.max_decisions:
            self._acting: tuple[str, ...] = ()
        elif self._turns:
            while env.agents and (env.terminations[env.agent_selection] or env.truncations[env.agent_selection]):
                env.step(None)
            self._acting = (env.agent_selection,) if env.agents else ()
        else:
            self._acting = tuple(env.agents)

    def acting(self) -> tuple[str, ...]:
        return self._acting

    def observe(self, seat: str) -> list[Message]:
        choices = self._choices(seat)
        ask = (
            "" if choices is None else f"\nAnswer with one of {', '.join(map(str, choices))}, as {answer(choices[0])}."
        )
        rules = f"{self.options.rules}\n" if self.options.rules and not self._told[seat] else ""
        return [Message("user", f"{rules}{self._text(seat)}{ask}")]

    def act(self, texts: Mapping[str, str]) -> StepResult:
        if not self._acting:
            raise RuntimeError("the episode is over: call reset before act")
        actions, unread = {}, []
        for seat in self._acting:
            actions[seat] = self._read(seat, texts[seat])
            if actions[seat] is None:
                actions[seat] = uniform_action(self.view(seat), random.Random(f"{self._seed}/{self.clock}/{seat}"))
                unread.append(seat)
        return StepResult(self._apply(actions), dict(actions), tuple(unread))

    def _read(self, seat: str, text: str) -> Any:
        """The action that a text means, None where it means none that is allowed."""
        choices = self._choices(seat)
        if choices is None:
            return text if self._env.action_space(seat).contains(text) else None
        number = whole(between(text), choices[0], choices[-1])
        return number if number in choices else None

    def _apply(self, actions: Mapping[str, Any]) -> dict[str, float]:
        self._script.append(dict(actions))
        self._told.update(dict.fromkeys(actions, True))
        self.clock += 1
        with self._chance.lent():
            if self._turns:
                self._env.step(next(iter(actions.values())))
                paid = dict(self._env.rewards)
            else:
                seen, paid, _, _, infos = self._env.step(dict(actions))
                self._seen, self._infos = dict(seen), dict(infos)
            self._settle()
        return {seat: float(value) for seat, value in paid.items()}

    def _observation(self, seat: str) -> Any:
        if self._turns:
            with self._chance.lent():
                return self._env.observe(seat)
        return self._seen.get(seat)

    def _text(self, seat: str) -> str:
        seen = self._observation(seat)
        if self._render is not None:
            return str(self._render(seen, seat))
        return str(seen["observation"] if isinstance(seen, dict) else seen)

    def _choices(self, seat: str) -> tuple[int, ...] | None:
        """The legal numbers in order, None where texts are the actions."""
        space, seen = self._env.action_space(seat), self._observation(seat)
        if not hasattr(space, "n"):
            return None
        info = (self._env.infos if self._turns else self._infos).get(seat, {})
        mask = seen["action_mask"] if isinstance(seen, dict) and "action_mask" in seen else info.get("action_mask")
        numbers = range(int(space.start), int(space.start + space.n))
        legal = tuple(n for at, n in enumerate(numbers) if mask is None or mask[at])
        return legal or tuple(numbers)

    def view(self, seat: str) -> PettingZooView:
        space, choices = self._env.action_space(seat), self._choices(seat)
        lengths = (getattr(space, "min_length", 0), getattr(space, "max_length", 0))
        letters = "".join(getattr(space, "character_list", ()))
        return PettingZooView(seat, self._text(seat), choices, lengths, letters)

    def facts(self) -> dict[str, Any]:
        """played: how many decisions were taken. cut: whether max_decisions ended it."""
        return {"played": self.clock, "cut": bool(self._env.agents)}

    def clone(self) -> PettingZoo:
        twin = type(self)(self.options)
        twin.reset(self._seed)
        for actions in self._script:
            twin._apply(actions)
        return twin

    @classmethod
    def metrics(cls, episodes: Sequence[Episode], seats: Sequence[str] | None = None) -> dict[str, float]:
        """return: mean per seat and episode. welfare: joint return per decision. invalid: share of replaced answers."""
        return tally(episodes, seats, lambda episode: ())
