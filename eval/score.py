"""From the episodes on disk to results.json. Nothing is played and no model is loaded, so it can be done again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from marft.episode import Episode
from marft.errors import RunFolderError
from marft.eval.cross import matrix_of, ratings_of
from marft.eval.evaluation import Entry
from marft.eval.folder import EvalFolder
from marft.eval.matches import Match, Pair, Schedule
from marft.eval.measure import Measured, attacked, measure, ways_of
from marft.eval.results import SCHEMA, write_results
from marft.eval.summaries import summary_of
from marft.eval.votes import look_at_answers, look_at_votes
from marft.seeds import derive

OWN_METRICS = ("social", "gama", "cross_play")
"""Summaries that need the joint return and how it is shared."""


def score(folder: EvalFolder, resamples: int | None = None) -> dict[str, Any]:
    """Compute and write results.json. resamples: in the place of the stored number."""
    plan = folder.plan()
    settings = plan["settings"] | ({"resamples": resamples} if resamples is not None else {})
    schedule = Schedule.from_dict(plan["schedule"])
    entries = [Entry.model_validate(one) for one in plan["entries"]]
    seed, summary = derive(settings["seed"], "bootstrap"), plan["summary"]
    of_group: dict[int, list[int]] = {}
    for number, pair in enumerate(schedule.pairs):
        of_group.setdefault(pair.group, []).append(number)
    found: dict[int, Measured] = {}
    budget: dict[tuple[str, int], float] = {}
    for group, episodes in _team_first(folder, schedule):
        match = schedule.matches[group]
        for number in of_group[group]:
            pair = schedule.pairs[number]
            one = measure(pair, match, episodes, settings["resamples"], seed, social=summary in OWN_METRICS)
            if summary == "reasoning":
                _answers(one, episodes, budget, settings, seed)
            if summary == "safety" and pair.kind == "scripted":
                one.exact |= attacked(ways_of(pair, match, episodes), entries[pair.entry].demands)
            if pair.kind == "self" and entries[pair.entry].exact and folder.exact(group).exists():
                one.exact |= _exact(folder, group)
            found[number] = one
    measured = [found[number] for number in range(len(schedule.pairs))]
    results = {
        "schema": SCHEMA,
        "marft": plan["marft"],
        "suite": plan["suite"],
        "teams": plan["teams"],
        "settings": settings,
        "versions": plan["versions"],
        "pairs": [_row(one) for one in measured if one.pair.kind != "reference"],
        "summary": summary_of(summary, measured, entries),
    }
    if summary == "cross_play":
        results["matrix"] = matrix_of(measured)
        results["ratings"] = ratings_of(measured, settings["resamples"], seed)
    write_results(results, folder.path / "results.json")
    return results


def _team_first(folder: EvalFolder, schedule: Schedule) -> Sequence[tuple[int, list[Episode]]]:
    """Matches of single agents last: how many of their votes count depends on what the teams spent."""
    votes = {pair.group for pair in schedule.pairs if pair.kind == "votes"}
    if not votes:
        return folder.episodes(schedule)
    return sorted(folder.episodes(schedule), key=lambda one: one[0] in votes)


def _answers(one: Measured, episodes: Sequence[Episode], budget: dict, settings: dict[str, Any], seed: int) -> None:
    """Accuracy and cost, the team's or those of one agent's votes."""
    key = (one.pair.team, one.pair.entry)
    if one.pair.kind == "votes":
        whole, draws = look_at_votes(one, episodes, budget[key], settings, seed)
    elif one.pair.kind == "self":
        whole, draws = look_at_answers(one, episodes, settings, seed)
        budget[key] = whole["tokens"]
    else:
        return
    one.whole |= whole
    for own, drawn in zip(one.draws, draws, strict=True):
        own |= drawn


def _exact(folder: EvalFolder, group: int) -> dict[str, Any]:
    try:
        data = json.loads(folder.exact(group).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{folder.exact(group)} cannot be read: {error}") from None
    return {key: {"mean": value, "low": value, "high": value} for key, value in data.items()}


def _row(one: Measured) -> dict[str, Any]:
    pair: Pair = one.pair
    match: Match = one.match
    return {
        "team": pair.team,
        "opponent": pair.opponent,
        "kind": pair.kind,
        "game": match.game,
        "options": match.options,
        "group": pair.group,
        "instances": match.instances,
        "ways": len(match.tables),
        "episodes": match.episodes,
        "seats": [seat for seats in pair.seats for seat in seats],
        "metrics": one.metrics(),
    }
