"""Which curves a report shows: the main ones in a fixed order, conditional cooperation, and whatever else was recorded.

Metrics are keys of metrics.jsonl; a pattern's `*` stands for an agent or a seat, each of which becomes a line. Among
several runs the colour says the run and the pattern of the line the agent; in a single run the colour says the agent.
Seeds of one recipe are one `Group`: a line in the middle of a band.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from marft.eval.results import Measure
from marft.report.chart import Figure, Series, bar_chart, line_chart
from marft.report.groups import Group
from marft.report.names import CONDITIONAL, KNOWN, POSITIVE, SHARES, label_of, meaning_of, name_of
from marft.report.runs import Run, mean
from marft.report.text import one_line, short

MAIN = (
    ("game/cooperation",),
    ("game/return_*", "game/return"),
    ("agent/*/kl",),
    ("agent/*/entropy",),
    ("agent/*/grad_norm",),
    ("game/invalid",),
    ("agent/*/gap",),
)
"""One chart each, drawn from the first pattern that any run has."""

OWN = 6
"""Most charts of metrics that only one game has that stand in front; the others follow under "More curves"."""

PARTS = ("rollout", "credit", "update", "store", "save")


Curves = Run | Group


def main_figures(runs: Sequence[Curves]) -> list[Figure]:
    """The charts everyone looks at first, those of the game's own metrics after the ones all games share."""
    chosen = [next((pattern for pattern in patterns if _found(runs, pattern)), None) for patterns in MAIN]
    game, agents = chosen[:2], chosen[2:]
    return [_figure(runs, pattern) for pattern in (*game, *_own_patterns(runs), *agents) if pattern is not None]


def conditional_figures(runs: Sequence[Curves]) -> list[Figure]:
    """P(C | own last move, the other's) over training, empty for games without it."""
    return [_figure(runs, f"game/{key}") for key in CONDITIONAL if _found(runs, f"game/{key}")]


def other_figures(runs: Sequence[Curves]) -> tuple[list[Figure], list[tuple[str, str]]]:
    """Every remaining metric: those that vary as charts, the others as (heading, value)."""
    figures, constants = [], []
    own = _own_patterns(runs)
    for pattern in _other_patterns(runs):
        values = _values(runs, pattern)
        if len(values) == 1:
            constants.append((_title(pattern), short(values.pop())))
        elif values and pattern not in own:
            figures.append(_figure(runs, pattern))
    return figures, constants


def recent_rows(runs: Sequence[Group]) -> list[tuple[str, list[Measure]]]:
    """Rows of the table of recent means: the game's own metrics, then what moved in the agents."""
    keys = dict.fromkeys(key for run in runs for key in run.metrics())
    game = [key for key in keys if key.startswith("game/") and key.count("/") == 1]
    agents = [
        key for key in keys if key.startswith("agent/") and key.endswith(("/kl", "/entropy", "/grad_norm", "/gap"))
    ]
    agents.sort(key=lambda key: ("kl", "entropy", "grad_norm", "gap").index(key.rpartition("/")[2]))
    seats = {f"game/return_{seat}": f"{name_of('return')}, {seat}" for run in runs for seat in run.seats()}
    return [(seats.get(key, label_of(key)), [run.recent(key) for run in runs]) for key in [*game, *agents]]


def time_figure(runs: Sequence[Curves]) -> tuple[Figure, list[tuple[str, list[float]]]]:
    """Seconds an update takes, by part, as a chart and as the rows of its table."""
    keys = dict.fromkeys(key for run in runs for key in run.metrics() if key.startswith("seconds/"))
    names = [key.removeprefix("seconds/") for key in keys]
    parts = [name for name in PARTS if name in names] + [name for name in names if name not in PARTS]
    spent = {part: [_per_update(run, f"seconds/{part}") for run in runs] for part in parts}
    bars = [(run.name, [spent[part][place] for part in parts]) for place, run in enumerate(runs) if run.lines]
    caption = "Mean over all updates of a run. Rollout is the play itself, update the gradient and its publication."
    figure = bar_chart("Seconds per update, by part", caption, bars, parts)
    return figure, [(part, spent[part]) for part in parts]


def _per_update(run: Curves, key: str) -> float:
    """Parts that do not happen in every update (saving) count as nothing where they did not."""
    return mean([value if math.isfinite(value) else 0.0 for value in run.column(key)]) if run.lines else 0.0


def _figure(runs: Sequence[Curves], pattern: str) -> Figure:
    members = list(dict.fromkeys(member for run in runs for _, member in _matches(run, pattern)))
    series = []
    for hue, run in enumerate(runs):
        for key, member in _matches(run, pattern):
            place = members.index(member)
            alone = len(runs) == 1
            name = one_line(run.name, 28)
            label = member if alone and member else f"{name} · {member}" if member else name
            style = {"hue": place} if alone else {"hue": hue, "dash": place}
            x = [float(update) for update in run.updates()]
            series.append(Series(label, x, run.column(key), span=run.span(key), **style))
    metric = _metric(pattern)
    if pattern.startswith("reward/"):
        caption = "What this reward term gave, all seats, per episode."
    else:
        known = next((run for run in runs if _matches(run, pattern)), runs[0])
        caption = meaning_of(metric, known.game() if pattern.startswith("game/") else None)
    return line_chart(_title(pattern), caption, series, unit=metric in SHARES, zero=metric in POSITIVE)


def _title(pattern: str) -> str:
    kind, _, rest = pattern.partition("/")
    metric = _metric(pattern)
    if kind == "reward":
        return f"Reward: {metric}"
    owner = " per agent" if kind == "agent" else " per seat" if "*" in rest else ""
    return name_of(metric) + owner


def _matches(run: Curves, pattern: str) -> list[tuple[str, str]]:
    """(key, member) of the run's keys under the pattern; a member of the game is one of its seats."""
    before, star, after = pattern.partition("*")
    found = []
    for key in run.metrics():
        member = key[len(before) : len(key) - len(after)] if star else ""
        if key != before + member + after or "/" in member or (star and not member):
            continue
        if star and pattern.startswith("game/") and member not in run.seats():
            continue
        found.append((key, member))
    return found


def _found(runs: Sequence[Curves], pattern: str) -> bool:
    return any(_matches(run, pattern) for run in runs)


def _values(runs: Sequence[Curves], pattern: str) -> set[float]:
    return {v for run in runs for key, _ in _matches(run, pattern) for v in run.column(key) if math.isfinite(v)}


def _own_patterns(runs: Sequence[Curves]) -> list[str]:
    """Metrics that only this game has and that vary: the first few of them are worth a chart in front."""
    own = [
        pattern for pattern in _other_patterns(runs) if pattern.startswith("game/") and _metric(pattern) not in KNOWN
    ]
    return [pattern for pattern in own if len(_values(runs, pattern)) > 1][:OWN]


def _metric(pattern: str) -> str:
    return pattern.partition("/")[2].removeprefix("*/").removesuffix("_*")


def _other_patterns(runs: Sequence[Curves]) -> list[str]:
    shown = {pattern for patterns in MAIN for pattern in patterns} | {f"game/{key}" for key in CONDITIONAL}
    terms = {key for run in runs for key in run.metrics() if key.startswith("reward/")}
    patterns: dict[str, None] = {}
    for run in runs:
        for key in run.metrics():
            kind, _, rest = key.partition("/")
            owner, slash, metric = rest.partition("/")
            if kind == "agent" and slash:
                patterns[f"agent/*/{metric}"] = None
            elif kind == "game" and slash:
                if f"game/{metric}" not in run.metrics():  # else the pooled one says enough
                    patterns[f"game/*/{metric}" if owner in run.seats() else key] = None
            elif kind == "game" or (kind == "reward" and len(terms) > 1) or key == "episodes/failed":
                patterns[key] = None
    covered = {f"game/return_{seat}" for run in runs for seat in run.seats()}
    return [pattern for pattern in patterns if pattern not in shown | covered]
