"""An evaluation as tables and charts: the comparison that opens the report, and every number with its interval."""

from __future__ import annotations

from collections.abc import Mapping

from marft.eval.results import Measure, Pairing, Results
from marft.report.chart import Figure, Interval, interval_chart
from marft.report.heat import heat_map, rating_figures
from marft.report.names import KNOWN, SHARES, meaning_of, name_of

ITSELF = "itself"


def comparison(results: Results) -> list[tuple[str, list[Measure]]]:
    """Rows with one cell per team: the suite's headlines, how each does with itself, what it gets from opponents."""
    teams = results.played()
    headlines = dict.fromkeys(key for team in teams for key in results.summary.get(team, {}))
    rows = [(name_of(key), [results.summary.get(team, {}).get(key, Measure()) for team in teams]) for key in headlines]
    for game in results.games():
        part = _of_game(results, game)
        metric, of_game = key_metric(part), _suffix(results, game)
        for heading, pairings in _blocks(part):
            of_team = {pairing.team: pairing for pairing in pairings}
            own = heading == ITSELF
            wanted = ["cooperation"] if own and "cooperation" in part.metrics() else []
            for key in wanted + ([metric] if metric is not None and metric not in wanted else []):
                cells = [of_team[team].measure(key) if team in of_team else Measure() for team in teams]
                rows.append((f"{name_of(key)} {'with' if own else 'against'} {heading}{of_game}", cells))
    return rows


def full_table(results: Results) -> tuple[list[str], list[tuple[Pairing, list[Measure]]]]:
    """All metrics (known ones first) of all pairings."""
    found = results.metrics()
    metrics = [key for key in ("return", "opponent_return") if key in found]
    metrics += [key for key in KNOWN if key in found and key not in metrics]
    metrics += [key for key in found if key not in metrics]
    return metrics, [(pairing, [pairing.measure(metric) for metric in metrics]) for pairing in results.pairs]


def opponent_figures(results: Results, hues: Mapping[str, int]) -> list[Figure]:
    """What each team gets from each opponent, and how much it cooperates with it where games tell; game by game."""
    figures = []
    for game in results.games():
        part = _of_game(results, game)
        metrics = dict.fromkeys([key_metric(part), "cooperation"])
        drawn = [
            _opponent_figure(part, game, metric, hues, _suffix(results, game))
            for metric in metrics
            if metric in part.metrics()
        ]
        figures += [figure for figure in drawn if figure is not None]
    return figures


def cross_play_figures(results: Results, hues: Mapping[str, int]) -> list[Figure]:
    """The table of everyone against everyone, and the ratings; empty where the evaluation was no cross-play."""
    figures = []
    if results.matrix is not None and results.matrix.players:
        caption = (
            "What the row's player earns per seat where the column's player fills the others. "
            "On the diagonal each plays with itself; off it with partners it never trained with."
        )
        figures.append(heat_map("Cross-play", caption, results.matrix.players, results.matrix.payoff))
    return figures + (rating_figures(results.ratings, hues) if results.ratings is not None else [])


def _opponent_figure(results: Results, game: str, metric: str, hues: Mapping[str, int], suffix: str) -> Figure | None:
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
    caption = f"{meaning_of(metric, game)} Dots are means, lines their intervals.".lstrip()
    return interval_chart(f"{name_of(metric)} against each opponent{suffix}", caption, groups, unit=metric in SHARES)


def key_metric(results: Results) -> str | None:
    """What teams are compared by: the return, or the first metric of a results file without it."""
    found = results.metrics()
    return "return" if "return" in found else next(iter(found), None)


def _of_game(results: Results, game: str) -> Results:
    return results.model_copy(update={"pairs": [pairing for pairing in results.pairs if pairing.game == game]})


def _suffix(results: Results, game: str) -> str:
    return f" in {game}" if len(results.games()) > 1 else ""


def _blocks(results: Results) -> list[tuple[str, list[Pairing]]]:
    """Pairings by opponent: self-play, scripted players, other teams. Two teams share the block "each other"."""
    order = {"self": 0, "scripted": 1, "team": 2}
    place = {team: number for number, team in enumerate(results.played())}
    blocks: dict[str, list[Pairing]] = {}
    for pairing in sorted(results.pairs, key=lambda one: (order.get(one.kind, 3), place.get(one.opponent, 0))):
        mutual = pairing.kind == "team" and len(results.played()) == 2
        heading = ITSELF if pairing.kind == "self" else "each other" if mutual else pairing.opponent
        blocks.setdefault(heading, []).append(pairing)
    return list(blocks.items())
