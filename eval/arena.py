"""Playing an evaluation: the same instances for all, seats swapped, shard by shard to disk; then scored from there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from marft import __version__
from marft.engines.remote import check_keys
from marft.episode import Episode
from marft.eval.evaluation import Evaluation, load_evaluation, spec_of
from marft.eval.folder import PLAN, EvalFolder
from marft.eval.matches import Pair, Schedule, schedule_of
from marft.eval.score import score
from marft.eval.teams import Team, load_teams
from marft.files import write_text
from marft.games import make_game
from marft.train.folder import versions

Tell = Callable[[int, int], None]
"""Told of progress: episodes that are on disk or just ended, and how many there are to be."""


def evaluate(
    teams: Mapping[str, Any],
    out: Path,
    *,
    suite: str = "own",
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Play a suite with these teams (name -> source) into the folder `out`; the results.

    settings: keys of `Evaluation`, such as against="TFT,AllD", episodes=64, seed=0, recipe=PATH.
    """
    flags = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
    sources = {name: spec_of(str(one)) if isinstance(one, str | Path) else one for name, one in teams.items()}
    evaluation = load_evaluation(suite, {**flags, "teams": sources, "out": str(out)})
    return run(evaluation, resume=resume, overwrite=overwrite)


def evaluate_once(teams: Mapping[str, Any], out: Path, **settings: Any) -> Path:
    """`evaluate`, gone on with where it was stopped, unless `out` holds its results already; returns `out`."""
    if not (out / "results.json").is_file():
        evaluate(teams, out, resume=True, **settings)
    return out


def run(
    evaluation: Evaluation, *, resume: bool = False, overwrite: bool = False, tell: Tell | None = None
) -> dict[str, Any]:
    """Play what is missing of an evaluation, then score all of it."""
    teams = load_teams(evaluation)
    schedule = schedule_of(evaluation, teams)
    _check_endpoints(teams, schedule)
    folder = EvalFolder(Path(evaluation.out))
    folder.open(resume=resume, overwrite=overwrite)
    try:
        plan = folder.begin(evaluation, plan_of(evaluation, teams, schedule), overwrite=overwrite)
        schedule = Schedule.from_dict(plan["schedule"])
        play(evaluation, teams, schedule, folder, tell)
        return score(folder, evaluation.resamples)
    finally:
        folder.close()


def rescore(out: Path, resamples: int | None = None) -> dict[str, Any]:
    """results.json of a finished evaluation again, from its episodes alone."""
    return score(EvalFolder(out), resamples)


def plan_of(evaluation: Evaluation, teams: Sequence[Team], schedule: Schedule) -> dict[str, Any]:
    """plan.json: everything that scoring needs beside the episodes."""
    settings: dict[str, Any] = {
        "episodes": evaluation.instances,
        "seeds": evaluation.seeds,
        "seed": evaluation.seed,
        "split": evaluation.split,
        "resamples": evaluation.resamples,
        "interval": 0.95,
    }
    if evaluation.limit is not None:
        settings["limit"] = evaluation.limit
    plan = {
        "plan": PLAN,
        "marft": __version__,
        "suite": evaluation.suite,
        "summary": evaluation.summary,
        "settings": settings,
        "teams": {team.name: team.facts() for team in teams},
        "versions": versions(),
        "entries": [one.model_dump(mode="json", by_alias=True) for one in evaluation.games],
        "schedule": schedule.to_dict(),
    }
    return json.loads(json.dumps(plan))  # tuples become lists, as they are when read back


def play(
    evaluation: Evaluation, teams: Sequence[Team], schedule: Schedule, folder: EvalFolder, tell: Tell | None
) -> None:
    """The missing shards, one after the other; models are loaded only where any is missing."""
    missing = folder.missing(schedule)
    exact = [pair for pair in _exact_pairs(evaluation, teams, schedule) if not folder.exact(pair.group).exists()]
    total = sum(match.episodes for match in schedule.matches)
    done = total - sum(shard.episodes for shard in missing)
    if tell is not None:
        tell(done, total)
    if not missing and not exact:
        return
    from marft.eval.cast import Cast

    cast = Cast(teams, schedule, evaluation.seed)

    def ended(episode: Episode) -> None:
        nonlocal done
        done += not episode.failed
        if tell is not None:
            tell(done, total)

    for shard in missing:
        rollout = cast.rollout([schedule.matches[group] for group, _, _ in shard.parts], ended)
        plans = [plan for part in shard.parts for plan in schedule.plans(part[0], evaluation.seed, *part[1:])]
        folder.add(shard, asyncio.run(rollout.play(plans)))
    for pair in exact:
        write_text(folder.exact(pair.group), json.dumps({"nash_conv": cast.nash_conv(pair)}) + "\n")


def _exact_pairs(evaluation: Evaluation, teams: Sequence[Team], schedule: Schedule) -> list[Pair]:
    """Those whose game is asked for NashConv, and whose team has probabilities to ask for."""
    able = {team.name for team in teams if team.recipe is not None}
    return [
        pair
        for pair in schedule.pairs
        if pair.kind == "self"
        and evaluation.games[pair.entry].exact
        and pair.team in able
        and len(pair.seats[0]) == len(make_game(*_game(schedule, pair)).seats)
    ]


def _game(schedule: Schedule, pair: Pair) -> tuple[str, dict[str, Any]]:
    match = schedule.matches[pair.group]
    return match.game, match.options


def _check_endpoints(teams: Sequence[Team], schedule: Schedule) -> None:
    """Two teams may not mean different endpoints by one name, and every key must be there."""
    from marft.eval.cast import remotes_of

    check_keys(remotes_of(teams, schedule.policies))
