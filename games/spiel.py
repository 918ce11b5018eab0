"""OpenSpiel's module and games, loaded when first needed.

OpenSpiel is an optional part: `pip install marft[games]`. Nothing else of this project imports it at module level.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from marft.errors import RecipeError

CHANCE, SIMULTANEOUS = -1, -2
"""OpenSpiel's numbers for "nobody: chance" and "all at once"; players count from 0."""


def import_pyspiel(user: str) -> Any:
    """The module; RecipeError with the way to get it where it is missing. user: what needs it, for the message."""
    try:
        import pyspiel
    except ImportError as error:
        raise RecipeError(f"{user} needs OpenSpiel, which cannot be imported: pip install marft[games]") from error
    return pyspiel


@lru_cache(maxsize=64)
def load_game(text: str) -> Any:
    """The game of an OpenSpiel game string such as "leduc_poker(players=2)"; it never changes, so it is shared."""
    return import_pyspiel(f"game {text!r:.200}").load_game(text)
