"""The user's own questions: JSONL, Parquet, or a folder that `datasets` saved, through a map of columns."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from marft.errors import RecipeError
from marft.lookup import nearest, short
from marft.tasks.options import TaskOptions
from marft.tasks.taskset import Task, json_able, same_question

log = logging.getLogger(__name__)

Row = tuple[str, Mapping[str, Any]]
"""Where it stands ("data.jsonl, line 3"), and what it holds."""


def questions(options: TaskOptions) -> tuple[Iterable[Task], bool]:
    """The file's tasks, and whether both splits are among them. RecipeError for whatever cannot be read as asked."""
    if isinstance(options.path, str):
        found = _splits(Path(options.path))
        if found is None:
            return _tasks(_rows(Path(options.path)), options), True
        rows = found
    else:
        rows = {split: _rows(Path(path)) for split, path in options.path.items()}
    test = {same_question(task.question) for task in _tasks(rows["test"], options)}
    if options.split == "test":
        return _tasks(_again(options, "test"), options), False
    train = list(_tasks(rows["train"], options))
    kept = [task for task in train if same_question(task.question) not in test]
    if len(kept) < len(train):
        log.warning(
            "task.path: %d rows of the train split ask what the test split asks; left out", len(train) - len(kept)
        )
    return kept, False


def _again(options: TaskOptions, split: str) -> Iterator[Row]:
    """A split's rows from the start."""
    if isinstance(options.path, str):
        return _splits(Path(options.path))[split]
    return _rows(Path(options.path[split]))


def _tasks(rows: Iterable[Row], options: TaskOptions) -> Iterator[Task]:
    question, answer = (options.columns.get(key, key) for key in ("question", "answer"))
    for where, row in rows:
        for key, column in (("question", question), ("answer", answer)):
            if column not in row and (key == "question" or key in options.columns):
                raise RecipeError(f"task.columns.{key}: {where} has no column {column!r}{nearest(column, row)}")
        asked, true = row[question], row.get(answer)
        if not isinstance(asked, str) or not asked.strip():
            raise RecipeError(
                f"task.path: {where}: the question (column {question!r}) must be a text, got {short(asked)}"
            )
        if isinstance(true, bool) or not isinstance(true, str | int | float | None):
            raise RecipeError(
                f"task.path: {where}: the answer (column {answer!r}) must be a text or a number, got {short(true)}"
            )
        try:
            columns = json_able({key: value for key, value in row.items() if key not in (question, answer)})
        except ValueError as error:
            raise RecipeError(f"task.path: {where}: its further columns cannot be kept: {error}") from None
        yield Task(asked, None if true is None else str(true), options.source, columns)


def _rows(path: Path) -> Iterator[Row]:
    if not path.exists():
        raise RecipeError(f"task.path: there is no {path} (paths are relative to the working directory)")
    if path.is_dir():
        return _table_rows(_saved(path), path)
    if path.suffix == ".jsonl":
        return _json_rows(path)
    if path.suffix == ".parquet":
        try:
            return _table_rows(pq.read_table(path).to_pylist(), path)
        except (pa.ArrowException, OSError) as error:
            raise RecipeError(f"task.path: {path} is not readable as Parquet: {error}") from None
    raise RecipeError(f"task.path: {path} must end in .jsonl or .parquet, or be a folder that `datasets` saved")


def _json_rows(path: Path) -> Iterator[Row]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}, line {number}", _mapping(line, f"{path}, line {number}")
    except UnicodeDecodeError as error:
        raise RecipeError(f"task.path: {path} is not UTF-8: {error}") from None


def _mapping(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"task.path: {where} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise RecipeError(f"task.path: {where} must be an object with columns, got {short(row)}")
    return row


def _table_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> Iterator[Row]:
    for number, row in enumerate(rows):
        yield f"{path}, row {number}", row


def _saved(path: Path) -> Any:
    try:
        from datasets import load_from_disk
    except ImportError:
        raise RecipeError(f"task.path: the folder {path} needs `datasets`; pip install 'marft[offline]'") from None
    try:
        return load_from_disk(str(path))
    except (FileNotFoundError, ValueError) as error:
        raise RecipeError(f"task.path: {path} is no folder that `datasets` saved: {error}") from None


def _splits(path: Path) -> dict[str, Iterator[Row]] | None:
    """The rows by split, where the path is a saved dataset that has splits; RecipeError where one is missing."""
    if not path.is_dir():
        return None
    saved = _saved(path)
    if not isinstance(saved, dict):
        return None
    for split in ("train", "test"):
        if split not in saved:
            raise RecipeError(f"task.path: {path} has no split {split!r}{nearest(split, saved)}")
    return {split: _table_rows(saved[split], path) for split in ("train", "test")}
