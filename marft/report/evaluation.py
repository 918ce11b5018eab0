"""An evaluation as tables and a chart: the comparison that opens the report, and every number with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from marft.report.chart import Figure, Interval, interval_chart
from marft.report.names import KNOWN, name_of
from marft.report.results import Measure, Pairing, Results


@dataclass(frozen=True)
class Column:
    """One column of the comparison: a metric against an opponent."""

    heading: str
    opponent: str
    metric: str


def comparison(results: Results) -> tuple[list[Column], list[tuple[str, list[Measure]]]]:
    """One row per team: how it does with itself, then what it earns against each opponent."""
    metric = key_metric(results)
    columns = []
    for opponent in results.opponents():
        own = any(pairing.kind == "self" and pairing.opponent == opponent for pairing in results.pairs)
        if own and any(pairing.measure("cooperation").known for pairing in results.pairs):
            columns.append(Column("Cooperation with itself", opponent, "cooperation"))
        if metric is not None:
            with_whom = "with itself" if own else f"against {opponent}"
            columns.append(Column(f"{name_of(metric)} {with_whom}", opponent, metric))
    rows = []
    for team in results.teams():
        found = [results.pairing(team, column.opponent) for column in columns]
        cells = [_measure(pairing, column.metric) for pairing, column in zip(found, columns, strict=True)]
        rows.append((team, cells))
    return columns, rows


def full_table(results: Results) -> tuple[list[str], list[tuple[Pairing, list[Measure]]]]:
    """All metrics (known ones first) of all pairings, in the order of the file."""
    found = results.metrics()
    metrics = [key for key in ("return", "opponent_return") if key in found]
    metrics += [key for key in KNOWN if key in found and key not in metrics]
    metrics += [key for key in found if key not in metrics]
    return metrics, [(pairing, [pairing.measure(metric) for metric in metrics]) for pairing in results.pairs]


def return_figure(results: Results, hues: Mapping[str, int]) -> Figure | None:
    """What each team gets against each opponent; None where nothing is known."""
    metric = key_metric(results)
    groups: list[tuple[str, Sequence[Interval]]] = []
    for opponent in results.opponents() if metric is not None else ():
        rows = []
        for team in results.teams():
            measure = _measure(results.pairing(team, opponent), metric)
            if measure.known:
                ends = (measure.low, measure.high) if measure.bounded else (None, None)
                rows.append(Interval(team, hues[team], measure.mean, *ends))
        if rows:
            groups.append(("itself" if opponent == "self" else opponent, rows))
    if not groups:
        return None
    caption = "Dots are means, lines their intervals. Further to the right the team gets more from that opponent."
    return interval_chart(f"{name_of(metric)} against each opponent", caption, groups)


def key_metric(results: Results) -> str | None:
    """What teams are compared by: the return, or the first metric of a results file without it."""
    found = results.metrics()
    return "return" if "return" in found else next(iter(found), None)


def _measure(pairing: Pairing | None, metric: str) -> Measure:
    return pairing.measure(metric) if pairing is not None else Measure()
