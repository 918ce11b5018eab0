"""From a suite and its teams to matches and pairs. Pure: the same evaluation gives the same ones, in the same order.

A match is what is played: a game, the ways of sitting at it, instances and sampling seeds. A pair is what is measured:
one team's seats in a match. Two teams at a game of two seats share one match, since each way of sitting seats both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from marft.config import Game
from marft.engines.route import SCRIPTED
from marft.errors import RecipeError
from marft.eval.evaluation import ALL, Entry, Evaluation
from marft.eval.heldout import on_split
from marft.eval.teams import Team
from marft.games import make_game
from marft.games.openspiel import SpielGame
from marft.recipe import load_player
from marft.rollout import Plan
from marft.seeds import derive

SOLVER = "solver"
"""The seat of a single agent that answers a question alone."""
Table = dict[str, str]


@dataclass(frozen=True)
class Match:
    """tables: seat -> policy, one per way of sitting. Episodes are counted by way, sampling seed, and instance."""

    game: str
    options: dict[str, Any]
    tables: tuple[Table, ...]
    instances: int
    seeds: int

    @property
    def episodes(self) -> int:
        return len(self.tables) * self.seeds * self.instances

    @property
    def policies(self) -> set[str]:
        return {policy for table in self.tables for policy in table.values()}


@dataclass(frozen=True)
class Pair:
    """A team measured in the match `group`. seats: the team's, one tuple per way of sitting. entry: of the suite.

    kind: self, scripted or team; votes, one agent alone; or reference, the ends of a dilemma's scale.
    """

    team: str
    opponent: str
    kind: str
    group: int
    seats: tuple[tuple[str, ...], ...]
    entry: int


@dataclass(frozen=True)
class Schedule:
    """All that is played, and all that is measured."""

    matches: tuple[Match, ...]
    pairs: tuple[Pair, ...]

    @property
    def policies(self) -> set[str]:
        """All that sit in any seat."""
        return {policy for match in self.matches for policy in match.policies}

    def plans(self, group: int, seed: int, start: int, stop: int) -> list[Plan]:
        """The episodes `start` to `stop` (not included) of a match. Instances are the same in all matches."""
        match = self.matches[group]
        each = match.seeds * match.instances
        return [
            Plan(group, index, derive(seed, "eval-instance", index % match.instances), match.tables[index // each], 0)
            for index in range(start, stop)
        ]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schedule:
        matches = [Match(**{**one, "tables": tuple(one["tables"])}) for one in data["matches"]]
        pairs = [Pair(**{**one, "seats": tuple(tuple(seats) for seats in one["seats"])}) for one in data["pairs"]]
        return cls(tuple(matches), tuple(pairs))


def schedule_of(evaluation: Evaluation, teams: Sequence[Team]) -> Schedule:
    """Every entry of the suite, at its game, or at the own game of each group of teams that have the same one."""
    if evaluation.summary == "cross_play" and len(evaluation.games) > 1:
        raise RecipeError(f"games: a table of cross-play is of one game, and there are {len(evaluation.games)}")
    made = _Making(evaluation)
    for number, entry in enumerate(evaluation.games):
        for game, players in _at(entry, evaluation, teams):
            made.entry(number, entry, game, players)
    return Schedule(tuple(made.matches), tuple(made.pairs))


def _at(entry: Entry, evaluation: Evaluation, teams: Sequence[Team]) -> Iterator[tuple[Game, list[Team]]]:
    game = entry.game or evaluation.game
    if game is not None:
        yield game, list(teams)
        return
    own: dict[str, Game] = {team.game.model_dump_json(): team.game for team in teams if team.game is not None}
    if not own:
        raise RecipeError("eval: none of the teams has a game of its own; name one, --set game=NAME")
    if evaluation.summary in ("cross_play", "reasoning") and len(own) > 1:
        names = ", ".join(one.name for one in own.values())
        raise RecipeError(f"eval: the teams were trained on different games ({names}); say which, --set game=NAME")
    for key, one in own.items():
        yield one, [team for team in teams if team.game is None or team.game.model_dump_json() == key]


class _Making:
    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.matches: list[Match] = []
        self.pairs: list[Pair] = []

    def entry(self, number: int, entry: Entry, game: Game, teams: Sequence[Team]) -> None:
        """All its pairs, team after team."""
        game = self._changed(on_split(game, self.evaluation.split))
        rules = make_game(game.name, game.options)
        against = entry.against if self.evaluation.against is None else self.evaluation.against
        players = list(rules.players) if against == (ALL,) else list(against)
        for player in (*players, *entry.intruders, *filter(None, (entry.kind, entry.greedy, entry.control))):
            load_player(rules, player, "--against")
        for team in teams:
            if team.kind == "script":
                load_player(rules, team.player, f"teams.{team.name}")
        if entry.control is not None and entry.control not in players:
            players.append(entry.control)
        if entry.exact and (not isinstance(rules, SpielGame) or rules.options.invalid != "random"):
            raise RecipeError(
                f"games[{number}].exact: needs a game of OpenSpiel's with invalid: random, not {game.name}"
            )
        seats, mutual = rules.seats, {}
        for team in teams:
            everywhere = team.seated(game.name, seats)
            own = team.measured(everywhere)
            if entry.votes:
                self._votes(number, entry, game, team)
            if entry.self_play:
                self._add(number, game, team.name, "self", "self", [(own, everywhere)])
            if len(seats) < 2:
                continue
            for player in players:
                table = dict.fromkeys(seats, f"{SCRIPTED}{player}")
                ways = [((seat,), table | {seat: everywhere[seat]}) for seat in own]
                self._add(number, game, team.name, player, "scripted", ways)
            for player in entry.intruders if len(seats) > 2 and set(own) == set(seats) else ():
                ways = [
                    (tuple(other for other in seats if other != seat), everywhere | {seat: f"{SCRIPTED}{player}"})
                    for seat in seats
                ]
                self._add(number, game, team.name, f"one {player}", "scripted", ways)
            for other in teams if entry.others else ():
                if other is team:
                    continue
                known = mutual.get((other.name, team.name))
                if known is not None:
                    self.pairs.append(Pair(team.name, other.name, "team", known, _swapped(seats), number))
                    continue
                theirs = other.seated(game.name, seats)
                ways = [((seat,), theirs | {seat: everywhere[seat]}) for seat in own]
                group = self._add(number, game, team.name, other.name, "team", ways)
                if len(seats) == 2 and set(own) == set(other.measured(theirs)) == set(seats):
                    mutual[team.name, other.name] = group
        self._references(number, entry, game, seats)

    def _references(self, number: int, entry: Entry, game: Game, seats: Sequence[str]) -> None:
        """The two ends of a dilemma's scale: all kind, all greedy, and one kind among the greedy."""
        if entry.kind is None or entry.greedy is None:
            return
        kind, greedy = f"{SCRIPTED}{entry.kind}", f"{SCRIPTED}{entry.greedy}"
        for policy in (kind, greedy):
            self._add(number, game, policy, "self", "reference", [(tuple(seats), dict.fromkeys(seats, policy))])
        among = [((seat,), dict.fromkeys(seats, greedy) | {seat: kind}) for seat in seats]
        self._add(number, game, kind, greedy, "reference", among)

    def _votes(self, number: int, entry: Entry, game: Game, team: Team) -> None:
        """The team's first agent answers the same questions alone, `votes` times each."""
        task = game.options.get("task", {})
        if not hasattr(make_game(game.name, game.options).options, "task"):
            raise RecipeError(
                f"eval: {game.name} asks no questions of a task set, so that nobody can answer them alone; name a "
                "dialogue game, --set game=debate, or another suite"
            )
        alone = Game(name="pipeline", task=task, topology={"roles": {SOLVER: {}}})
        table = {SOLVER: team.models()[0]}
        self._add(number, alone, team.name, "alone", "votes", [((SOLVER,), table)], entry.votes)

    def _add(
        self,
        entry: int,
        game: Game,
        team: str,
        opponent: str,
        kind: str,
        ways: Sequence[tuple[tuple[str, ...], Table]],
        repeat: int = 1,
    ) -> int:
        group = len(self.matches)
        tables = tuple(dict(table) for _, table in ways)
        seeds = self.evaluation.seeds * repeat
        self.matches.append(Match(game.name, game.options, tables, self.evaluation.instances, seeds))
        self.pairs.append(Pair(team, opponent, kind, group, tuple(own for own, _ in ways), entry))
        return group

    def _changed(self, game: Game) -> Game:
        """With those of the evaluation's changes that are options of this game."""
        known = type(make_game(game.name, game.options).options).model_fields
        changes = {key: value for key, value in self.evaluation.options.items() if key in known}
        return Game(name=game.name, **game.options | changes) if changes else game


def _swapped(seats: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Where the second of two teams sits when the first takes each seat in turn."""
    first, second = seats
    return ((second,), (first,))
