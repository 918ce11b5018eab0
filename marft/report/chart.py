"""Three kinds of figure: curves over updates, intervals in rows, parts in stacked bars. Pure: numbers in, SVG out.

A drawing is about as wide as a phone, so that its labels stay readable where it is not enlarged. Curves carry their
scale as a data attribute, from which the page reads values back when someone points at them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from marft.report.runs import mean
from marft.report.svg import axis_x, axis_y, band, decades, linear, logarithmic, lone, path, tag, ticks
from marft.report.text import number, one_line

WIDTH, HEIGHT = 400.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 390.0, 10.0, 186.0
POINTS = 200
"""Most points a line is drawn with; a longer run's updates are averaged in equal bins."""


@dataclass(frozen=True)
class Series:
    """One line: `hue` and `dash` number its colour and its pattern. `span`: the ends of the band around it."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    hue: int = 0
    dash: int = 0
    span: tuple[Sequence[float], Sequence[float]] | None = None

    @property
    def style(self) -> str:
        return f"c{self.hue % 8} d{self.dash % 4}"


@dataclass(frozen=True)
class Figure:
    """A drawing with what stands around it; `legend` pairs labels with style classes."""

    title: str
    caption: str
    svg: Markup
    legend: Sequence[tuple[str, str]] = ()


def line_chart(title: str, caption: str, series: Sequence[Series], *, unit: bool = False, zero: bool = False) -> Figure:
    """Values over updates. `unit`: the axis is 0 to 1; `zero`: it starts at 0. Many decades of positive numbers are
    drawn on a logarithmic axis, and the caption says so."""
    longest = max((len(one.x) for one in series), default=0)
    bins = math.ceil(longest / POINTS) or 1
    drawn = [_binned(one, bins) for one in series]
    columns = [column for one in drawn for column in (one.y, *(one.span or ()))]
    values = [value for column in columns for value in column if math.isfinite(value)]
    updates = [value for one in drawn for value in one.x]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    decimal = not (low > 0 and high / low > 300 and not unit)
    if decimal:
        marks = ticks(0.0 if unit or (zero and low >= 0) else low, 1.0 if unit else high)
        y = linear(marks[0], marks[-1], BOTTOM, TOP)
    else:
        marks = decades(low, high)
        y = logarithmic(marks[0], marks[-1], BOTTOM, TOP)
        caption += " Logarithmic axis."
    if bins > 1:
        caption += f" Each point is the mean of {bins} updates."
    first, last = (min(updates), max(updates)) if updates else (0.0, 1.0)
    last = last if last > first else first + 1
    x = linear(first, last, LEFT, RIGHT)
    shown = [tick for tick in ticks(first, last, 5, whole=True) if first <= tick <= last]
    bands, lines = [], []

    def points_of(one: Series, column: Sequence[float]) -> list[tuple[float, float] | None]:
        return [(x(u), y(v)) if math.isfinite(v) else None for u, v in zip(one.x, column, strict=True)]

    for one in drawn:
        ends = [points_of(one, column) for column in one.span or ()]
        if ends:
            bands.append(tag("path", class_=f"band {one.style}", d=band(*ends)))
        points = points_of(one, one.y)
        span = {"data_low": path(ends[0]), "data_high": path(ends[1])} if ends else {}
        lines.append(tag("path", class_=f"line {one.style}", d=path(points), **span))
        if dots := lone(points):
            lines.append(tag("path", class_=f"lone {one.style}", d=dots))
    scale = f"{first!r} {last!r} {marks[0]!r} {marks[-1]!r} {LEFT} {RIGHT} {BOTTOM} {TOP} {'lin' if decimal else 'log'}"
    svg = tag(
        "svg",
        *axis_y(marks, y, LEFT, RIGHT),
        tag("line", class_="axis", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM),
        *axis_x(shown, x, TOP, BOTTOM),
        tag("text", "update", class_="tick", x=RIGHT, y=HEIGHT - 2, text_anchor="end"),
        *([] if values else [_nothing()]),
        *bands,
        *lines,
        class_="chart curves",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=f"{title}. {_in_words(series)}",
        tabindex="0",
        data_scale=scale,
    )
    return Figure(title, caption, svg, [(one.label, f"line {one.style}") for one in series])


@dataclass(frozen=True)
class Interval:
    """A mean with its interval (None: none known), in a row of its own. `hue` numbers its colour."""

    label: str
    hue: int
    mean: float
    low: float | None
    high: float | None


def interval_chart(
    title: str, caption: str, groups: Sequence[tuple[str, Sequence[Interval]]], *, unit: bool = False
) -> Figure:
    """Dots with whiskers, one block of rows per group, read from left to right. `unit`: the axis is 0 to 1."""
    row, gap, left, top = 13.0, 12.0, 112.0, 8.0
    members = [one for _, group in groups for one in group]
    ends = [end for one in members for end in (one.mean, one.low, one.high) if end is not None]
    marks = ticks(0.0, 1.0) if unit else ticks(min(ends, default=0.0), max(ends, default=1.0))
    bottom = top + sum(len(group) * row + gap for _, group in groups)
    x = linear(marks[0], marks[-1], left, RIGHT)
    drawn, y = [], top
    for name, group in groups:
        middle = y + len(group) * row / 2 + 4
        drawn.append(tag("text", one_line(name, 16), class_="label", x=left - 10, y=middle, text_anchor="end"))
        for one in group:
            style, centre = f"c{one.hue % 8}", y + row / 2
            words = f"{one.label} against {name}: {number(one.mean)}"
            if one.low is not None and one.high is not None:
                words += f" ({number(one.low)} to {number(one.high)})"
                whisker = tag("line", class_=f"line {style}", x1=x(one.low), x2=x(one.high), y1=centre, y2=centre)
            else:
                whisker = Markup("")
            dot = tag("circle", class_=f"dot {style}", cx=x(one.mean), cy=centre, r=4)
            drawn.append(tag("g", tag("title", words), whisker, dot))
            y += row
        y += gap
        drawn.append(tag("line", class_="grid", x1=6.0, x2=RIGHT, y1=y - gap / 2, y2=y - gap / 2))
    svg = _rows_svg(title, [*axis_x(marks, x, top, bottom, grid=True), *drawn], bottom + 26)
    labels = dict.fromkeys((one.label, one.hue) for one in members)
    return Figure(title, caption, svg, [(label, f"fill c{hue % 8}") for label, hue in labels])


def bar_chart(title: str, caption: str, bars: Sequence[tuple[str, Sequence[float]]], parts: Sequence[str]) -> Figure:
    """One bar per name, split into `parts`."""
    row, top = 38.0, 4.0
    longest = max((math.fsum(values) for _, values in bars), default=0.0) or 1.0
    marks = ticks(0.0, longest)
    bottom = top + row * len(bars)
    x = linear(0.0, marks[-1], 8.0, RIGHT)
    drawn = []
    for place, (name, values) in enumerate(bars):
        y, reached = top + row * place, 0.0
        drawn.append(tag("text", one_line(name, 48), class_="label", x=8.0, y=y + 12))
        for part, value in enumerate(values):
            box = {"x": x(reached), "width": x(reached + value) - x(reached), "y": y + 17, "height": 14.0}
            words = tag("title", f"{name}, {parts[part]}: {number(value)} s")
            drawn.append(tag("rect", words, class_=f"part p{part % 6}", **box))
            reached += value
    svg = _rows_svg(title, [*axis_x(marks, x, top, bottom, grid=True), *drawn], bottom + 24)
    return Figure(title, caption, svg, [(name, f"part p{place % 6}") for place, name in enumerate(parts)])


def _rows_svg(title: str, drawn: Sequence[Markup], height: float) -> Markup:
    """A chart of rows, whose numbers a table beside it has for those who cannot see it."""
    view, words = f"0 0 {WIDTH:g} {height:g}", f"{title}. The numbers are in the table."
    return tag("svg", *drawn, class_="chart", viewBox=view, role="img", aria_label=words)


def _binned(series: Series, size: int) -> Series:
    if size == 1:
        return series
    starts = range(0, len(series.x), size)

    def means(column: Sequence[float]) -> list[float]:
        return [mean(column[start : start + size]) for start in starts]

    span = None if series.span is None else (means(series.span[0]), means(series.span[1]))
    return replace(series, x=means(series.x), y=means(series.y), span=span)


def _in_words(series: Sequence[Series]) -> str:
    """First and last value of each line, for those who cannot see it."""
    told = []
    for one in series:
        found = [value for value in one.y if math.isfinite(value)]
        told.append(f"{one.label}: {number(found[0])} to {number(found[-1])}" if found else f"{one.label}: no values")
    return "; ".join(told)


def _nothing() -> Markup:
    return tag("text", "no values yet", class_="tick", x=(LEFT + RIGHT) / 2, y=(TOP + BOTTOM) / 2, text_anchor="middle")
