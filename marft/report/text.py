"""Numbers and untrusted text as people may safely see them. Pure.

Models write whatever they like: terminal escapes, characters that turn the reading direction, invisible ones. `visible`
puts a printable sign in the place of each, so that neither a terminal nor a reader is misled.
"""

from __future__ import annotations

import math
import unicodedata
from typing import Any

KEPT = frozenset("\n\t\u200c\u200d")
"""Control and format characters that stay: line breaks, tabs, and the joiners that scripts and emoji are spelt with."""

DASH = "–"


def visible(text: Any) -> str:
    """`text` with every control, format, surrogate and unassigned character replaced by a sign for it.

    ASCII controls become their control pictures (ESC is ␛), all others ⟨U+hex⟩. The result can be encoded, printed and
    put into an attribute; it still has to be escaped for HTML.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(map(_sign, text))


def one_line(text: Any, limit: int) -> str:
    """`visible` text on one line, cut to `limit` characters."""
    line = " ".join(visible(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def number(value: float | None) -> str:
    """A number for a table: three decimals, fewer for larger ones, an exponent for tiny ones; a dash for none."""
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    if 0 < size < 0.001:
        return _exponent(value)
    decimals = 3 if size < 10 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:,.{decimals}f}".replace("-", "−")


def count(value: float) -> str:
    """A whole number, as of episodes or tokens; a dash for none."""
    return f"{value:,.0f}" if math.isfinite(value) else DASH


def short(value: float) -> str:
    """A number without padding, for axes and payoffs: 0.25, 3, −1.5, 20k, 1e−7."""
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-3:
        return _exponent(value).replace(".0e", "e")
    if size >= 1e6:
        text = f"{value / 1e6:g}M"
    elif size >= 1e4:
        text = f"{value / 1e3:g}k"
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−")


def _exponent(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


def _sign(char: str) -> str:
    if char in KEPT or not unicodedata.category(char).startswith(("C", "Zl", "Zp")):
        return char
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"
