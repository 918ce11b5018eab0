"""Everyone against everyone: a table of coloured cells, and ratings as rows of intervals. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from marft.eval.results import Measure, Ratings
from marft.report.chart import RIGHT, WIDTH, Figure, Interval, interval_chart
from marft.report.svg import tag
from marft.report.text import number, one_line, short

LEVELS = 9
"""Shades of the scale; the page's style gives each a colour, light and dark."""
TOLD = 26.0
"""Smallest cell that has its number written in it; in smaller ones it is told when pointed at."""


def heat_map(title: str, caption: str, players: Sequence[str], payoff: Sequence[Sequence[float | None]]) -> Figure:
    """payoff[i][j]: what players[i] earns where the others are players[j]; None where that was not played."""
    left, top = 116.0, 74.0
    size = min(52.0, (RIGHT - left) / max(1, len(players)))
    height = min(size, 34.0)
    known = [value for row in payoff for value in row if value is not None and math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    drawn = []
    for column, name in enumerate(players):
        x = left + (column + 0.5) * size
        turned = f"rotate(-40 {x:.1f} {top - 8:.1f})"
        drawn.append(tag("text", one_line(name, 14), class_="label", x=x, y=top - 8, transform=turned))
    for line, (name, row) in enumerate(zip(players, payoff, strict=True)):
        y = top + line * height
        middle = y + height / 2 + 4
        drawn.append(tag("text", one_line(name, 16), class_="label", x=left - 8, y=middle, text_anchor="end"))
        for column, value in enumerate(row):
            x = left + column * size
            told = value is not None and math.isfinite(value)
            level = min(LEVELS - 1, int((value - low) / (high - low) * LEVELS)) if told and high > low else 0
            words = f"{name} with {players[column]}: {number(value)}" if told else f"{name} with {players[column]}: –"
            place = {"x": x, "y": y, "width": size - 2, "height": height - 2, "rx": 3}
            box = tag("rect", class_=f"heat h{level}" if told else "heat none", **place)
            text = short(float(f"{value:.3g}")) if told else "–"
            centre = {"x": x + size / 2 - 1, "y": middle - 1, "text_anchor": "middle"}
            inside = tag("text", text, class_=f"cell t{level}" if told else "tick", **centre)
            drawn.append(tag("g", tag("title", words), box, *([inside] if size >= TOLD else [])))
    svg = tag(
        "svg",
        *drawn,
        class_="chart heatmap",
        viewBox=f"0 0 {WIDTH:g} {top + len(players) * height + 4:g}",
        role="img",
        aria_label=f"{title}. {_in_words(players, payoff)}",
    )
    ends = {0: short(float(f"{low:.3g}")), LEVELS // 2: "", LEVELS - 1: short(float(f"{high:.3g}"))}
    return Figure(title, caption, svg, [(text, f"heat h{level}") for level, text in ends.items()])


def rating_figures(ratings: Ratings, hues: Mapping[str, int]) -> list[Figure]:
    """One chart a kind of rating that has players, best first."""
    kinds = (
        ("Bradley–Terry", "Ratings from who earned more: 400 points are odds of ten to one.", ratings.bradley_terry),
        ("OpenSkill", "Plackett–Luce skill, 25 for a newcomer.", ratings.openskill),
        (
            "α-rank",
            "Share of time that evolution by imitation spends with each player.",
            {name: Measure(mean=share) for name, share in ratings.alpha_rank.items()},
        ),
    )
    figures = []
    for title, caption, measures in kinds:
        known = {name: one for name, one in measures.items() if one.known}
        order = sorted(known, key=lambda name, known=known: -known[name].mean)
        groups = [
            (name, [Interval(name, hues.get(name, 7), known[name].mean, known[name].low, known[name].high)])
            for name in order
        ]
        if groups:
            if any(one.bounded for one in known.values()):
                caption += " Dots are means, lines their intervals."
            figure = interval_chart(title, caption, groups)
            figures.append(Figure(figure.title, figure.caption, figure.svg))
    return figures


def _in_words(players: Sequence[str], payoff: Sequence[Sequence[float | None]]) -> str:
    rows = (
        f"{name}: " + ", ".join(f"{other} {number(value)}" for other, value in zip(players, row, strict=True))
        for name, row in zip(players, payoff, strict=True)
    )
    return "; ".join(rows)
