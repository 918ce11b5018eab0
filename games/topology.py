"""The graph of a pipeline as data: roles, who sees whom, loops with a bound, sub-agents, and whose text is the answer.

It is checked when the recipe is read; every complaint names the key. `Schedule` is what the game plays from: roles in
stages, those of a stage at once, each stage after all that its roles come after.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from marft.lookup import nearest
from marft.prompts import Prompt
from marft.verdict import Verdict

NAMES = ("question", "outputs", "role", "seat", "subtask", "passes")
"""What a role's prompt may say: the question, the texts it sees by role, its role and seat, what it was called for, and
which time it speaks, from 1."""
MOST_SEATS = 64
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Role(_Part):
    """after: the roles it waits for. sees: whose texts it is shown, as far as there are any; default those it comes
    after. question: whether it is shown the question. seats: how many do this at once, each by itself.

    system, template: its prompts (jinja2), the first message of all and the one after; default, a line of its own.
    again: the prompt when it speaks once more; default what is new to it. answer: whether its text must hold a final
    answer; default where it is the pipeline's. calls: the role whose seats it may hand sub-tasks to. max_calls: at
    once. call_rounds: how often. group: the functional group that credit sees, default the role's name. says: what
    scripted players may say in it, beside an answer; default what the task's column `says`, {role or seat: texts},
    holds.
    """

    after: tuple[str, ...] = ()
    sees: tuple[str, ...] | None = None
    question: bool = True
    seats: int = Field(1, ge=1, le=20, strict=True)
    system: str | None = None
    template: str | None = None
    again: str | None = None
    answer: bool | None = None
    calls: str | None = None
    max_calls: int = Field(4, ge=1, le=32, strict=True)
    call_rounds: int = Field(1, ge=1, le=20, strict=True)
    group: str | None = Field(None, min_length=1)
    says: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_name(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            return {
                key: [value] if key in ("after", "sees", "says") and isinstance(value, str) else value
                for key, value in data.items()
            }
        return {} if data is None else data


class Loop(_Part):
    """back_to: the role where it begins again after `end` has spoken, until it has been gone through `repeat` times.

    until: a word, or /a pattern/, in the end of the text of `end` that ends it sooner; with several seats, in all.
    """

    end: str
    back_to: str
    repeat: int = Field(2, ge=1, le=50, strict=True)
    until: str | None = Field(None, min_length=1, max_length=200)


class Topology(_Part):
    """roles: by name. loops: parts of the graph that are gone through several times. final: the roles whose texts are
    the answers; default the one role that nobody comes after.
    """

    roles: dict[str, Role] = Field(min_length=1)
    loops: tuple[Loop, ...] = ()
    final: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_final(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("final"), str):
            return {**data, "final": [data["final"]]}
        return data

    @model_validator(mode="after")
    def _can_be_played(self) -> Topology:
        Schedule(self)
        return self


class Schedule:
    """A topology as it is played. ValueError, with the key, for one that cannot be.

    stages: roles that speak at once, in order. seats: role -> its seats. role_of: the other way. called: roles that
    only speak when called. final: the roles of the answers. loop_at: role that ends a loop -> its number. inside: loop
    number -> its roles. prompts: (role, which) -> prompt. sees: role -> whose texts it is shown.
    """

    def __init__(self, topology: Topology) -> None:
        self.roles = topology.roles
        self.loops = topology.loops
        self._check_names()
        self.called = frozenset(role.calls for role in self.roles.values() if role.calls is not None)
        self._check_calls()
        self.stages = self._in_stages()
        self.final = self._finals(topology.final)
        self.seats = self._name_seats()
        self.role_of = {seat: name for name, seats in self.seats.items() for seat in seats}
        self.inside: list[frozenset[str]] = []
        for number, loop in enumerate(self.loops):
            self.inside.append(self._between(number, loop))
        self.loop_at = {loop.end: number for number, loop in enumerate(self.loops)}
        self.untils = [self._until(number, loop) for number, loop in enumerate(self.loops)]
        self.sees = {name: self._seen(name) for name in self.roles}
        self.prompts = {
            (name, which): self._prompt(name, which, text)
            for name, role in self.roles.items()
            for which in ("system", "template", "again")
            if (text := getattr(role, which)) is not None
        }

    def stage_of(self, role: str) -> int:
        return next(number for number, stage in enumerate(self.stages) if role in stage)

    def _check_names(self) -> None:
        for name, role in self.roles.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"roles.{name}: a role's name is small letters, digits and _, at most 32")
            for key in ("after", "sees"):
                for other in getattr(role, key) or ():
                    self._known(other, f"roles.{name}.{key}")
            if role.calls is not None:
                self._known(role.calls, f"roles.{name}.calls")
        for number, loop in enumerate(self.loops):
            self._known(loop.end, f"loops[{number}].end")
            self._known(loop.back_to, f"loops[{number}].back_to")

    def _known(self, name: str, key: str) -> None:
        if name not in self.roles:
            raise ValueError(f"{key}: no role {name!r}{nearest(name, self.roles)}")

    def _check_calls(self) -> None:
        for name, role in self.roles.items():
            if role.calls == name:
                raise ValueError(f"roles.{name}.calls: a role cannot call itself")
            if name in self.called and (role.after or role.calls):
                key = "after" if role.after else "calls"
                raise ValueError(f"roles.{name}.{key}: it speaks when it is called, so it may have no {key}")
            for other in role.after:
                if other in self.called:
                    raise ValueError(f"roles.{name}.after: {other} speaks only when it is called; name who calls it")

    def _in_stages(self) -> tuple[tuple[str, ...], ...]:
        left = {name: set(role.after) for name, role in self.roles.items() if name not in self.called}
        stages: list[tuple[str, ...]] = []
        while left:
            ready = tuple(name for name, waits in left.items() if not waits)
            if not ready:
                cycle = self._cycle(left)
                raise ValueError(
                    f"roles.{cycle[0]}.after: {' -> '.join(cycle)} is a cycle without a bound; take one `after` out "
                    "and say it as loops: [{end: …, back_to: …, repeat: …}]"
                )
            stages.append(ready)
            left = {name: waits - set(ready) for name, waits in left.items() if name not in ready}
        if not stages:
            raise ValueError("roles: every role only speaks when it is called; one must begin")
        return tuple(stages)

    def _cycle(self, left: Mapping[str, Collection[str]]) -> list[str]:
        path = [next(iter(left))]
        while path[-1] not in path[:-1]:
            path.append(next(name for name in self.roles[path[-1]].after if name in left))
        return path[path.index(path[-1]) :]

    def _finals(self, named: tuple[str, ...]) -> tuple[str, ...]:
        for name in named:
            self._known(name, "final")
            if name in self.called:
                raise ValueError(f"final: {name} speaks only when it is called; name a role of the graph")
        if named:
            return named
        waited = {other for role in self.roles.values() for other in role.after}
        ends = [name for name in self.roles if name not in waited | self.called]
        if len(ends) != 1:
            raise ValueError(
                f"final: no final role is named, and {', '.join(ends)} all end the graph; name one or more"
            )
        return (ends[0],)

    def _name_seats(self) -> dict[str, tuple[str, ...]]:
        seats = {
            name: (name,) if role.seats == 1 else tuple(f"{name}{i + 1}" for i in range(role.seats))
            for name, role in self.roles.items()
        }
        names = [seat for of_role in seats.values() for seat in of_role]
        twice = sorted({seat for seat in names if names.count(seat) > 1})
        if twice:
            raise ValueError(f"roles: two seats are called {twice[0]!r}; rename a role")
        if len(names) > MOST_SEATS:
            raise ValueError(f"roles: {len(names)} seats in all, at most {MOST_SEATS} are possible")
        return seats

    def _between(self, number: int, loop: Loop) -> frozenset[str]:
        """The roles of a loop: what comes after its first and before its last."""
        for key in ("end", "back_to"):
            if getattr(loop, key) in self.called:
                raise ValueError(f"loops[{number}].{key}: {getattr(loop, key)} speaks only when it is called")
        inside = self._reach(loop.end, lambda name: self.roles[name].after)
        onward = lambda name: (other for other, role in self.roles.items() if name in role.after)  # noqa: E731
        inside &= self._reach(loop.back_to, onward)
        if loop.back_to not in inside:
            raise ValueError(f"loops[{number}].back_to: {loop.end} does not come after {loop.back_to}")
        for earlier, others in enumerate(self.inside):
            if inside & others:
                raise ValueError(f"loops[{number}]: a role can be in one loop only, and loops[{earlier}] shares one")
        return inside

    def _reach(self, start: str, step: Any) -> frozenset[str]:
        found, todo = {start}, [start]
        while todo:
            for other in step(todo.pop()):
                if other not in found:
                    found.add(other)
                    todo.append(other)
        return frozenset(found)

    def _until(self, number: int, loop: Loop) -> Verdict | None:
        try:
            return None if loop.until is None else Verdict(loop.until)
        except ValueError as error:
            raise ValueError(f"loops[{number}].until: {error}") from None

    def _seen(self, name: str) -> tuple[str, ...]:
        role = self.roles[name]
        if role.sees is not None:
            return role.sees
        back = tuple(loop.end for loop in self.loops if loop.back_to == name and loop.end != name)
        return tuple(dict.fromkeys((*role.after, *back)))

    def _prompt(self, name: str, which: str, text: str) -> Prompt:
        role = self.roles[name]
        hidden = {"question"} if not role.question else set()
        hidden |= {"subtask"} if name not in self.called else set()
        try:
            return Prompt(text, [one for one in NAMES if one not in hidden], {"outputs": self.sees[name]})
        except ValueError as error:
            raise ValueError(f"roles.{name}.{which}: {error}") from None


@lru_cache(maxsize=1)
def presets() -> dict[str, Any]:
    """The topologies by name, as a recipe would write them."""
    return yaml.safe_load(files("marft.games").joinpath("topologies.yaml").read_text(encoding="utf-8"))


def known_preset(name: str) -> str:
    """The name, if a topology has it; ValueError with the nearest where none has."""
    if name not in presets():
        raise ValueError(f"no topology {name!r}{nearest(name, presets())}")
    return name


def topology_of(given: Topology | str) -> Topology:
    """A topology as it is, or the one of this name."""
    return given if isinstance(given, Topology) else _preset(given)


@lru_cache(maxsize=64)
def _preset(name: str) -> Topology:
    return Topology.model_validate(presets()[known_preset(name)])


@lru_cache(maxsize=64)
def _planned(text: str) -> Schedule:
    return Schedule(Topology.model_validate_json(text))


def schedule_of(topology: Topology) -> Schedule:
    """The topology's schedule, worked out once."""
    return _planned(topology.model_dump_json())
