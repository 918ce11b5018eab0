"""An evaluation as a log that Inspect's viewer and tools read (inspect_ai, log version 2, the .json form).

A sample is a pair's episode, told by the first of the team's seats: what it heard and said, what it earned. Scores are
the pairs' metrics. Nothing of inspect_ai is needed to write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from marft.episode import Episode
from marft.eval.folder import EvalFolder
from marft.eval.matches import Pair, Schedule
from marft.files import write_text

VERSION = 2
SCORER = "marft"


def write_inspect(out: Path, results: Mapping[str, Any], path: Path) -> None:
    """The evaluation in the folder `out`, whose results these are, as an Inspect log."""
    folder = EvalFolder(out)
    schedule = Schedule.from_dict(folder.plan()["schedule"])
    created = datetime.fromtimestamp((out / "plan.json").stat().st_mtime, UTC).isoformat()
    samples = list(_samples(folder, schedule))
    pairs = [(_name(pair), pair["metrics"]) for pair in results["pairs"]]
    log = {
        "version": VERSION,
        "status": "success",
        "eval": {
            "created": created,
            "task": f"marft/{results['suite']}",
            "dataset": {"name": results["suite"], "samples": len(samples)},
            "model": "/".join(results["teams"]),
            "config": {"epochs": 1},
            "packages": {"marft": results["marft"]},
            "metadata": {"teams": results["teams"], "settings": results["settings"]},
        },
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [
                {
                    "name": name,
                    "scorer": SCORER,
                    "metrics": {
                        key: {"name": key, "value": one["mean"], "metadata": {"low": one["low"], "high": one["high"]}}
                        for key, one in metrics.items()
                        if one["mean"] is not None
                    },
                }
                for name, metrics in pairs
            ],
        },
        "samples": samples,
    }
    write_text(path, json.dumps(log, ensure_ascii=False, allow_nan=False) + "\n")


def _samples(folder: EvalFolder, schedule: Schedule) -> Iterator[dict[str, Any]]:
    of_group: dict[int, list[Pair]] = {}
    for pair in schedule.pairs:
        if pair.kind != "reference":
            of_group.setdefault(pair.group, []).append(pair)
    for group, episodes in folder.episodes(schedule):
        match = schedule.matches[group]
        for pair in of_group.get(group, ()):
            for episode in episodes:
                seats = pair.seats[episode.index // (match.seeds * match.instances)]
                yield _sample(pair, episode, seats)


def _sample(pair: Pair, episode: Episode, seats: tuple[str, ...]) -> dict[str, Any]:
    messages = []
    for turn in episode.turns_of(seats[0]):
        messages += [{"role": role, "content": text} for role, text in turn.messages]
        messages.append({"role": "assistant", "content": turn.text})
    returns = episode.returns()
    own = sum(returns[seat] for seat in seats) / len(seats)
    first = next((one["content"] for one in messages if one["role"] == "user"), "")
    return {
        "id": f"{pair.team}/{pair.opponent}/{episode.game}/{episode.group}-{episode.index}",
        "epoch": 1,
        "input": first,
        "target": "",
        "messages": messages,
        "scores": {"return": {"value": own}},
        "metadata": {
            "game": episode.game,
            "seed": episode.seed,
            "seat": seats[0],
            "policies": episode.team,
            "returns": returns,
            "facts": episode.facts,
            "actions": [[turn.seat, turn.step, turn.action] for turn in episode.turns],
        },
    }


def _name(pair: Mapping[str, Any]) -> str:
    return f"{pair['team']} against {pair['opponent']} at {pair['game']}"
