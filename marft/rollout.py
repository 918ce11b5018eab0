"""Playing groups of episodes concurrently against engines.

`Player` is the pure part: it turns a game's messages into requests and completions into turns, and owns no clock, no
task and no engine. `play` drives many of them at once. A failed episode is recorded with its cause and played again
from the same instance with fresh randomness; one that fails `attempts` times stops the run.

Where the recipe's plan branches, one episode grows into a tree: at a decision several joint answers are drawn from the
same state, each is played on a copy of the game, and every path from the root is an episode. A path that is not played
on is `partial`. Turns carry their place in `marks`: node, parent, and the number of the sample.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from marft.branching import combinations, going_on
from marft.chat import Chats, Conversation
from marft.config import Branching, Recipe, Sampling
from marft.credit.columns import RESERVED
from marft.engines.base import Completion, Engine, Request
from marft.engines.route import REMOTE, WITHOUT_TOKENS, complete, first_error
from marft.episode import Episode, Turn
from marft.errors import EngineError, GameError, MarftError
from marft.game import Game
from marft.seeds import derive

if TYPE_CHECKING:
    from marft.engines.remote import RemoteEngine

PAST = "past:{}@{}"
"""An earlier version of an agent, as episodes record it: past:alice@20."""
FLAT = Branching()
NEVER_ENDS = 10_000
"""Decisions after which an episode is taken to be without end."""
TAKEN = RESERVED - {"role", "observation", "call", "attempt", "reflect"}
"""Columns of the turn table that a game's marks may not overwrite."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One episode to play. Episodes of a group share the instance seed and differ in `index`."""

    group: int
    index: int
    instance: int
    team: Mapping[str, str]
    update: int = 0

    @property
    def group_name(self) -> str:
        """How the names of all the group's episodes, and of their sessions, begin."""
        return f"u{self.update:06d}-g{self.group:04d}-"

    def name(self, attempt: int) -> str:
        return f"{self.group_name}e{self.index:03d}" + (f"+{attempt}" if attempt else "")


def plan_update(recipe: Recipe, update: int, versions: Mapping[str, int] | None = None) -> list[Plan]:
    """The episodes of one update: `groups` instances, `group_size` plays of each.

    versions: how far each agent has come, for seats that its past versions may fill.
    """
    groups = range(recipe.rollout.groups)
    return [plan for group in groups for plan in plan_group(recipe, update, group, versions or {})]


def plan_group(recipe: Recipe, update: int, group: int, versions: Mapping[str, int]) -> list[Plan]:
    """The episodes of one group."""
    team, instance = draw_team(recipe, update, group, versions), derive(recipe.seed, "instance", update, group)
    return [Plan(group, index, instance, team, update) for index in range(recipe.rollout.group_size)]


def draw_team(recipe: Recipe, update: int, group: int, versions: Mapping[str, int]) -> dict[str, str]:
    """seat -> policy for one group: drawn where a seat has a pool, then rotated.

    By one seat from group to group with `swap_seats`; by one more after every `swap_every` updates, as CORY swaps roles
    (2410.06101). Only the seats change: adapters and optimizer states belong to agents.
    """
    rng = random.Random(derive(recipe.seed, "team", update, group))
    names = []
    for seat in recipe.team.values():
        policy = seat.choices[0]
        if len(seat.choices) > 1:
            (policy,) = rng.choices(seat.choices, [choice.weight for choice in seat.choices])
        name = str(policy)
        if policy.past is not None:
            name = PAST.format(policy.past, rng.choice(recipe.past.versions(versions.get(policy.past, 0))))
        names.append(name)
    seats = list(recipe.team)
    shift = group if recipe.rollout.swap_seats else 0
    shift += update // recipe.rollout.swap_every if recipe.rollout.swap_every else 0
    return {seat: names[(number + shift) % len(seats)] for number, seat in enumerate(seats)}


def drawable(recipe: Recipe, versions: Mapping[str, int]) -> set[str]:
    """Every policy that `draw_team` may seat at these versions."""
    policies = list(recipe.policies.values())
    past = [(one.past, n) for one in policies if one.past for n in recipe.past.versions(versions.get(one.past, 0))]
    return {str(one) for one in policies if one.past is None} | {PAST.format(*one) for one in past}


class Player:
    """One episode in play. Ask for `requests`, hand back the completions, until `done`."""

    def __init__(
        self, game: Game, plan: Plan, chat: Chats, sampling: Sampling, learners: Sequence[str], seed: int, attempt: int
    ) -> None:
        self.game, self.chat, self.sampling, self.learners = game, chat, sampling, frozenset(learners)
        self.seed = derive(seed, plan.update, plan.group, plan.index, attempt)
        self.episode = Episode(
            id=plan.name(attempt),
            game=game.name,
            seats=(),
            team=dict(plan.team),
            seed=plan.instance,
            group=plan.group,
            index=plan.index,
            attempt=attempt,
            update=plan.update,
        )
        self._conversations: dict[str, Conversation] = {}
        self._histories: dict[str, list[tuple[str, str]]] = {}
        self._sessions: dict[str, str] = {}
        self._asked: list[Turn] = []
        self._decisions = 0
        self._node: str | None = None

    @property
    def decisions(self) -> int:
        """How many decisions have been taken."""
        return self._decisions - bool(self._asked)

    @property
    def asked(self) -> list[Turn]:
        """The turns that wait for an answer, in the order of the requests."""
        return self._asked

    def start(self) -> None:
        self.game.reset(self.episode.seed)
        self.episode.game = self.game.played
        self.episode.seats = tuple(self.game.seats)

    def requests(self) -> list[Request]:
        """One request per acting seat; empty when the episode is over."""
        self._asked = []
        requests = []
        for order, seat in enumerate(self.game.acting()):
            policy = self.episode.team[seat]
            messages = self.game.observe(seat)
            turn = Turn(seat, self.game.clock, order, policy, "", messages=[tuple(message) for message in messages])
            turn.marks = self._marks(seat)
            request = Request(policy, derive(self.seed, seat, self._decisions))
            if policy.startswith(REMOTE):
                history = self._histories.setdefault(seat, [])
                _hear(history, turn.messages)
                request.messages = list(history)
            elif policy.startswith(WITHOUT_TOKENS):
                request.view = self.game.view(seat)
            else:
                conversation = self._conversations.get(seat)
                if conversation is None:
                    conversation = self._conversations[seat] = self.chat.of(policy).conversation()
                turn.prompt_ids, turn.fresh = conversation.hear(messages)
                request.prompt_ids = list(conversation.ids)
                request.sampling = self.sampling
                request.session = self._sessions.setdefault(seat, f"{self.episode.id}/{seat}")
                turn.agent = policy if policy in self.learners else None
            self._asked.append(turn)
            requests.append(request)
        self._decisions += 1
        if self._decisions > NEVER_ENDS:
            raise GameError(f"{self.game.name} has not ended after {NEVER_ENDS} decisions")
        return requests

    def _marks(self, seat: str) -> dict[str, Any]:
        marks = dict(self.game.marks(seat))
        for name in marks:
            if name in TAKEN:
                raise GameError(f"{self.game.name} marks a decision of {seat} with {name!r}, a column of credit's own")
        return marks

    def draw(self, requests: Sequence[Request], sample: int) -> list[Request]:
        """The same requests with the randomness of another sample."""
        return [
            replace(request, seed=derive(request.seed, "sample", sample), session=self._session(turn.seat, sample))
            for request, turn in zip(requests, self._asked, strict=True)
        ]

    def _session(self, seat: str, sample: int) -> str:
        """The first sample goes on in the seat's session, where the engine has kept what came before."""
        return self._sessions.get(seat, "") if sample == 0 else f"{self._id(sample)}/{seat}"

    def fork(self, number: int, samples: Sequence[int], tree: int) -> Player:
        """A copy that receives joint action `number` of this decision, made of these samples of the acting seats.

        tree: which of an instance's trees this is; all start from the same state.
        """
        other = copy.copy(self)
        other.game = self.game.clone()
        rewards = [dict(step) for step in self.episode.rewards]
        fresh = {"turns": list(self.episode.turns), "rewards": rewards, "terms": {}, "facts": {}}
        other.episode = replace(self.episode, id=self._id(number), **fresh)
        other.seed = derive(self.seed, "branch", number)
        own = {turn.seat: self._session(turn.seat, sample) for turn, sample in zip(self._asked, samples, strict=True)}
        other._sessions = self._sessions | own
        other._conversations = {seat: conversation.fork() for seat, conversation in self._conversations.items()}
        other._histories = {seat: list(history) for seat, history in self._histories.items()}
        other._node, first = f"{self._node or tree}.{number}", self._node is None
        marks = {"node": other._node, "parent": "root" if first else self._node}
        offset = tree * NEVER_ENDS if first else 0
        other._asked = [
            replace(turn, marks={**turn.marks, **marks, "sample": offset + sample})
            for turn, sample in zip(self._asked, samples, strict=True)
        ]
        return other

    def cut(self) -> Episode:
        """The episode of a path that is not played on."""
        self.episode.status = "partial"
        return self.episode

    def _id(self, number: int) -> str:
        return f"{self.episode.id}{'.' if self._node else '~'}{number}"

    def receive(self, completions: Sequence[Completion]) -> Mapping[str, float]:
        """Take the answers to the last requests, in their order, and let the game advance; what that paid."""
        for turn, completion in zip(self._asked, completions, strict=True):
            turn.version, turn.finish_reason = completion.version, completion.finish_reason
            if completion.text is not None:
                # half a surrogate pair is no text, and could not be stored
                turn.text = completion.text.encode("utf-8", "replace").decode("utf-8")
                if turn.policy.startswith(REMOTE):
                    self._histories[turn.seat].append(("assistant", turn.text))
                continue
            if not completion.token_ids or len(completion.token_ids) != len(completion.logprobs):
                raise EngineError(
                    f"engine: {turn.policy} was answered with {len(completion.token_ids)} token ids and "
                    f"{len(completion.logprobs)} log-probabilities"
                )
            turn.completion_ids, turn.logprobs = completion.token_ids, completion.logprobs
            turn.text = self._conversations[turn.seat].answer(completion.token_ids)
        result = self.game.act({turn.seat: spoken(turn.text) for turn in self._asked})
        for turn in self._asked:
            turn.action = result.actions.get(turn.seat)
            turn.invalid = turn.seat in result.invalid
        step = self._asked[0].step
        rewards = self.episode.rewards
        while len(rewards) <= step:
            rewards.append({})
        for seat, value in result.rewards.items():
            rewards[step][seat] = rewards[step].get(seat, 0.0) + value
        self.episode.turns.extend(self._asked)
        self._asked = []
        return result.rewards

    def finish(self) -> Episode:
        self.episode.facts = self.game.facts()
        return self.episode


@dataclass
class Rollout:
    """What `play` needs beside the plans.

    make_game: a new, unstarted game. model, scripted, remote: the engines that answer, see `marft.engines`; remote may
    be None where no seat is remote.
    seed: of all sampling. on_episode: called with each episode, failed ones included, as it ends.
    """

    make_game: Callable[[], Game]
    chat: Chats
    model: Engine
    scripted: Engine
    sampling: Sampling
    learners: Sequence[str]
    seed: int
    attempts: int = 3
    deadline: float = 3600.0
    on_episode: Callable[[Episode], None] | None = None
    plan: Branching = FLAT
    remote: RemoteEngine | None = None

    async def play(self, plans: Sequence[Plan], *, sessions: str = "") -> list[Episode]:
        """All planned episodes in the plans' order, none failed; the failures that were replaced stand at the end.

        A plan that branches brings several episodes, the paths of its tree, one after the other. sessions: how the
        names of those begin that the engine may forget afterwards, where other play goes on beside this one.
        Raises GameError where an episode failed `attempts` times, EngineError when the deadline passes.
        """
        failures: list[Episode] = []
        try:
            async with self.remote or nullcontext(), asyncio.timeout(self.deadline), asyncio.TaskGroup() as tasks:
                playing = [tasks.create_task(self._play_until_done(plan, failures)) for plan in plans]
        except TimeoutError:
            over = sum(task.done() and not task.cancelled() for task in playing)
            raise EngineError(
                f"rollout: {over} of {len(plans)} episodes were over after {self.deadline:g} s; raise "
                "rollout.deadline or play fewer episodes"
            ) from None
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        finally:
            self.model.end_sessions(sessions)
        failures.sort(key=lambda episode: episode.id)
        return [episode for task in playing for episode in task.result()] + failures

    async def _play_until_done(self, plan: Plan, failures: list[Episode]) -> list[Episode]:
        for attempt in range(self.attempts):
            player = Player(self.make_game(), plan, self.chat, self.sampling, self.learners, self.seed, attempt)
            try:
                guard(player.start)
                episodes = await self._play_on(player, plan)
            except _Failed as failed:
                episodes = [failed.episode]
            except GameError as error:
                episodes = [_failed(player, error)]
            if self.on_episode is not None:
                for episode in episodes:
                    self.on_episode(episode)
            if not episodes[0].failed:
                return episodes
            failures.append(episodes[0])
        raise GameError(
            f"episode {plan.name(0)} (instance seed {plan.instance}) failed {self.attempts} times, "
            f"the last time: {episodes[0].cause}"
        )

    async def _play_on(self, player: Player, plan: Plan) -> list[Episode]:
        """The episode to its end; or, where it branches, all paths from here."""
        try:
            while requests := guard(player.requests):
                samples = self.plan.samples_at(player.decisions)
                if self.plan.branches:
                    return await self._branch(player, plan, requests, samples)
                guard(player.receive, await self._answers(requests))
            return [guard(player.finish)]
        except GameError as error:
            raise _Failed(_failed(player, error)) from error

    async def _branch(self, player: Player, plan: Plan, requests: list[Request], samples: int) -> list[Episode]:
        """Draw joint answers to one decision, play each on a copy, and go on from those the plan says."""
        drawn = [request for sample in range(samples) for request in player.draw(requests, sample)]
        answers = await self._answers(drawn)
        seats = len(requests)
        forks, paid = [], []
        for number, chosen in enumerate(combinations(self.plan, seats, samples)):
            fork = guard(player.fork, number, chosen, plan.index)
            forks.append(fork)
            try:
                paid.append(guard(fork.receive, [answers[sample * seats + seat] for seat, sample in enumerate(chosen)]))
            except GameError as error:
                raise _Failed(_failed(fork, error)) from error
        on = going_on(self.plan, paid, player.seed)
        try:
            async with asyncio.TaskGroup() as tasks:
                played = {number: tasks.create_task(self._play_on(forks[number], plan)) for number in on}
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        return [
            episode
            for number, fork in enumerate(forks)
            for episode in (played[number].result() if number in played else [fork.cut()])
        ]

    async def _answers(self, requests: Sequence[Request]) -> list[Completion]:
        return await complete(requests, self.model, self.scripted, self.remote)


def _hear(history: list[tuple[str, str]], messages: Sequence[tuple[str, str]]) -> None:
    """Add new messages; neighbours of one role are joined, as in a conversation in tokens."""
    for role, text in messages:
        if history and history[-1][0] == role:
            text = f"{history.pop()[1]}\n\n{text}"
        history.append((role, text))


class _Failed(Exception):
    """An episode, or a path of a tree, that the game broke."""

    def __init__(self, episode: Episode) -> None:
        self.episode = episode


def _failed(player: Player, error: GameError) -> Episode:
    player.episode.status, player.episode.cause = "failed", str(error)
    return player.episode


def spoken(text: str) -> str:
    """What the game is told of an answer: what comes after its thinking, or all of it where there is none."""
    _, mark, said = text.rpartition("</think>")
    return said.lstrip() if mark else text


def guard(call: Callable[..., Any], *arguments: Any) -> Any:
    """Run a piece of the game; whatever it raises becomes a GameError that says what and where."""
    try:
        return call(*arguments)
    except MarftError:
        raise
    except Exception as error:  # the boundary to a user's game
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})" if frame is not None else ""
        raise GameError(f"the game raised {type(error).__name__}: {error}{where}") from error
