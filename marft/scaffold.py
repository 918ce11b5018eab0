"""A new game: `marft new-game NAME` writes a game that works and its test, to be changed bit by bit.

The two files come from marft/templates/. Nothing that exists is overwritten, and names that would hide a module or
another game are refused.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from string import Template

from marft.errors import RecipeError
from marft.files import write_text
from marft.games import GAMES


def new_game(name: str, folder: Path) -> tuple[Path, Path, str]:
    """Write `folder`/NAME.py and `folder`/test_NAME.py; their paths, and the name of the class.

    Raises RecipeError where the name is no good, a file is there already, or the folder cannot be written.
    """
    check_name(name)
    game, test = folder / f"{name}.py", folder / f"test_{name}.py"
    for path in (game, test):
        if path.exists():
            raise RecipeError(f"new-game: {path} is there already; choose another NAME, or another folder by --out")
    words = {"name": name, "cls": class_name(name), "title": name.replace("_", " ").capitalize()}
    try:
        for path, template in ((game, "game.py.txt"), (test, "test.py.txt")):
            text = files("marft").joinpath("templates", template).read_text(encoding="utf-8")
            write_text(path, Template(text).substitute(words))
    except OSError as error:
        raise RecipeError(f"new-game: {folder} cannot be written: {error.strerror}; choose --out") from None
    return game, test, words["cls"]


def check_name(name: str) -> None:
    """Refuse what is no name of a game, or is taken."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or name.endswith("_") or "__" in name:
        raise RecipeError(f"new-game: {name!r:.80} must be lower-case words joined by _, such as coin_flip")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise RecipeError(f"new-game: {name!r} is a word of Python; choose another")
    if name.startswith("test_") or name == "conftest":
        raise RecipeError(f"new-game: {name!r} would be taken for a test by pytest; choose another")
    if name in GAMES:
        raise RecipeError(f"new-game: {name!r} is a game of marft already; choose another")
    if name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None:
        raise RecipeError(f"new-game: {name}.py would hide the module {name!r}; choose another")


def class_name(name: str) -> str:
    """coin_flip -> CoinFlip."""
    return "".join(part.capitalize() for part in name.split("_"))
