"""Recorded episodes for the offline stages: what was played together, from runs, folders and files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from marft.config import Recipe
from marft.episode import Episode
from marft.errors import RecipeError, RunFolderError
from marft.store import read_jsonl, read_parquet
from marft.train.folder import run_recipe

KINDS = (".parquet", ".jsonl")


@dataclass(frozen=True)
class Batch:
    """Episodes whose group numbers belong together: one update of one run, or one file. `source` names it."""

    source: str
    episodes: list[Episode]


def read_batches(paths: Sequence[Path], recipe: Recipe | None = None) -> list[Batch]:
    """The episodes of run folders, of folders of .parquet and .jsonl files, and of such files.

    A run with another base than the recipe's is refused, since its token ids mean something else. Without a recipe any
    run will do: only its texts are used then.
    """
    found: dict[str, list[Episode]] = {}
    for path in dict.fromkeys(paths):
        if recipe is not None:
            check_base(path, recipe)
        for file in _files(path):
            together = re.fullmatch(r"(update-\d+)(-\d+)?", file.stem)  # one file for each process of a launch
            name = file.parent / together[1] if together else file
            found.setdefault(str(name), []).extend(_read(file))
    return [Batch(source, episodes) for source, episodes in found.items()]


def check_base(path: Path, recipe: Recipe) -> None:
    """Compare the recipe of a run folder; a folder or file without one is taken as it is."""
    if not (path / "recipe.yaml").is_file():
        return
    recorded = run_recipe(path)
    if _base(recorded) != _base(recipe):
        other = "its tiny model was made for another game or by other settings"
        if recorded.model.name != recipe.model.name:
            other = f"it was played on {recorded.model.name}, and the recipe's model is {recipe.model.name}"
        raise RecipeError(
            f"--episodes {path}: {other}, so the token ids differ; set model and game as in {path / 'recipe.yaml'}, or "
            f"give {path / 'episodes'} where it is the same tokenizer all the same"
        )


def _base(recipe: Recipe) -> tuple:
    """What decides which text a token id stands for."""
    model = recipe.model
    if model.name == "tiny":
        return ("tiny", model.tiny, recipe.game)
    return (str(Path(model.name).resolve()) if Path(model.name).is_dir() else model.name, model.revision)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in KINDS:
            raise RunFolderError(f"episodes: {path}: neither a folder nor a .parquet or .jsonl file")
        return [path]
    if not path.is_dir():
        raise RunFolderError(f"episodes: {path}: does not exist")
    folder = path / "episodes" if (path / "episodes").is_dir() else path
    files = sorted(file for file in folder.iterdir() if file.suffix in KINDS and not file.name.startswith("."))
    if not files:
        raise RunFolderError(f"episodes: {path}: holds no episodes (.parquet or .jsonl files)")
    return files


def _read(file: Path) -> list[Episode]:
    try:
        return read_parquet(file) if file.suffix == ".parquet" else read_jsonl(file)
    except (ValueError, TypeError, KeyError) as error:
        raise RunFolderError(f"episodes: {file}: holds no episodes: {type(error).__name__}: {error}") from None
