"""An evaluation as tables and a chart: the comparison that opens the report, and every number with its interval."""

from __future__ import annotations

from collections.abc import Mapping

from marft.eval.results import Measure, Pairing, Results
from marft.report.chart import Figure, Interval, interval_chart
from marft.report.names import KNOWN, SHARES, meaning_of, name_of

ITSELF = "itself"


def comparison(results: Results) -> list[tuple[str, list[Measure]]]:
    """Rows with one cell per team: how each does with itself, then what it gets from each opponent."""
    metric = key_metric(results)
    rows = []
    for heading, pairings in _blocks(results):
        of_team = {pairing.team: pairing for pairing in pairings}
        own = heading == ITSELF
        wanted = ["cooperation"] if own and "cooperation" in results.metrics() else []
        for key in wanted + ([metric] if metric is not None and metric not in wanted else []):
            cells = [of_team[team].measure(key) if team in of_team else Measure() for team in results.played()]
            rows.append((f"{name_of(key)} {'with' if own else 'against'} {heading}", cells))
    return rows


def full_table(results: Results) -> tuple[list[str], list[tuple[Pairing, list[Measure]]]]:
    """All metrics (known ones first) of all pairings."""
    found = results.metrics()
    metrics = [key for key in ("return", "opponent_return") if key in found]
    metrics += [key for key in KNOWN if key in found and key not in metrics]
    metrics += [key for key in found if key not in metrics]
    return metrics, [(pairing, [pairing.measure(metric) for metric in metrics]) for pairing in results.pairs]


def opponent_figures(results: Results, hues: Mapping[str, int]) -> list[Figure]:
    """What each team gets from each opponent, and how much it cooperates with it where games tell."""
    metrics = dict.fromkeys([key_metric(results), "cooperation"])
    drawn = [_opponent_figure(results, metric, hues) for metric in metrics if metric in results.metrics()]
    return [figure for figure in drawn if figure is not None]


def _opponent_figure(results: Results, metric: str, hues: Mapping[str, int]) -> Figure | None:
    groups = []
    for heading, pairings in _blocks(results):
        rows = []
        for pairing in pairings:
            measure = pairing.measure(metric)
            if measure.known:
                ends = (measure.low, measure.high) if measure.bounded else (None, None)
                rows.append(Interval(pairing.team, hues[pairing.team], measure.mean, *ends))
        if rows:
            groups.append((heading, rows))
    if not groups:
        return None
    caption = f"{meaning_of(metric, next(iter(results.games()), ''))} Dots are means, lines their intervals.".lstrip()
    return interval_chart(f"{name_of(metric)} against each opponent", caption, groups, unit=metric in SHARES)


def key_metric(results: Results) -> str | None:
    """What teams are compared by: the return, or the first metric of a results file without it."""
    found = results.metrics()
    return "return" if "return" in found else next(iter(found), None)


def _blocks(results: Results) -> list[tuple[str, list[Pairing]]]:
    """Pairings by opponent: self-play, scripted players, other teams. Two teams share the block "each other"."""
    order = {"self": 0, "scripted": 1, "team": 2}
    blocks: dict[str, list[Pairing]] = {}
    for pairing in sorted(results.pairs, key=lambda pairing: order.get(pairing.kind, 3)):
        mutual = pairing.kind == "team" and len(results.played()) == 2
        heading = ITSELF if pairing.kind == "self" else "each other" if mutual else pairing.opponent
        blocks.setdefault(heading, []).append(pairing)
    return list(blocks.items())
