"""SVG by hand: escaped elements, readable ticks, scales. Pure.

Colours and fonts are classes that the page's style gives a meaning to, so one drawing serves light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from markupsafe import Markup

from marft.report.text import short, visible

Scale = Callable[[float], float]


def tag(name: str, *content: str | Markup, **attributes: object) -> Markup:
    """One element. What is not Markup is made visible and escaped; `class_` is class, x_y is x-y, floats are cut."""
    written = [
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), coordinate(value) if isinstance(value, float) else visible(value)
        )
        for key, value in attributes.items()
        if value is not None
    ]
    inside = Markup("").join(part if isinstance(part, Markup) else visible(part) for part in content)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(written), inside)


def coordinate(value: float) -> str:
    """A length in a drawing: two decimals, no more than needed."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Maps low..high to start..end."""
    return lambda value: start + (value - low) / (high - low) * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Maps low..high, both positive, to start..end by their logarithms."""
    bottom, span = math.log10(low), math.log10(high) - math.log10(low)
    return lambda value: start + (math.log10(value) - bottom) / span * (end - start)


def ticks(low: float, high: float, count: int = 4, whole: bool = False) -> list[float]:
    """Round numbers that cover low..high, about `count` steps apart; `whole`: integers only."""
    if not high > low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def decades(low: float, high: float, count: int = 4) -> list[float]:
    """Powers of ten that cover low..high."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    last = max(last, first + 1)
    step = max(1, math.ceil((last - first) / count))
    last = first + math.ceil((last - first) / step) * step
    return [10.0**exponent for exponent in range(first, last + 1, step)]


def axis_y(values: Sequence[float], scale: Scale, left: float, right: float) -> Iterable[Markup]:
    """A grid line and a label per tick."""
    for value in values:
        y = scale(value)
        yield tag("line", class_="grid", x1=left, x2=right, y1=y, y2=y)
        yield tag("text", short(value), class_="tick", x=left - 6, y=y + 4, text_anchor="end")


def axis_x(values: Sequence[float], scale: Scale, top: float, bottom: float, grid: bool = False) -> Iterable[Markup]:
    """A small mark (or a grid line) and a label per tick."""
    for value in values:
        x = scale(value)
        yield tag("line", class_="grid" if grid else "axis", x1=x, x2=x, y1=top if grid else bottom, y2=bottom + 4)
        yield tag("text", short(value), class_="tick", x=x, y=bottom + 17, text_anchor="middle")


def path(points: Sequence[tuple[float, float] | None]) -> str:
    """Path data through the points; None breaks the line."""
    moves = ["M" if place == 0 or points[place - 1] is None else "L" for place in range(len(points))]
    pairs = zip(moves, points, strict=True)
    return "".join(f"{move}{coordinate(point[0])} {coordinate(point[1])}" for move, point in pairs if point is not None)


def lone(points: Sequence[tuple[float, float] | None]) -> str:
    """Path data of a dot (under round line ends) for each point that has no neighbour and so no line."""
    around = [None, *points, None]
    alone = [
        p for before, p, after in zip(around, points, around[2:], strict=False) if before is None and after is None
    ]
    return "".join(f"M{coordinate(point[0])} {coordinate(point[1])}h0" for point in alone if point is not None)


def band(lows: Sequence[tuple[float, float] | None], highs: Sequence[tuple[float, float] | None]) -> str:
    """Path data of the area between two lines, piece by piece where they are broken."""
    pieces, piece = [], []
    for low, high in [*zip(lows, highs, strict=True), (None, None)]:
        if low is not None and high is not None:
            piece.append((low, high))
        elif piece:
            pieces.append([*(high for _, high in piece), *(low for low, _ in reversed(piece))])
            piece = []
    return "".join(path(corners) + "Z" for corners in pieces)
