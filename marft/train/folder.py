"""The run folder: who may use it, what is in it, what a resumed run must match.

recipe.yaml      the resolved recipe            metrics.jsonl   one line per update
run.json         versions, seed, command        episodes/       Parquet, one file per update (and process)
checkpoints/     to resume from                 adapters/       the newest adapters, plain PEFT folders
spending.json    what remote seats have cost    tokens/         likewise: advantages and log-probs of some episodes
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from marft.config import Recipe
from marft.errors import RunFolderError
from marft.files import write_text
from marft.recipe import dump_recipe, parse_recipe, read_yaml

MAY_CHANGE = (
    "train.updates",
    "train.save_every",
    "train.keep_last",
    "train.token_episodes",
    "rollout.deadline",
    "rollout.attempts",
    "engine.",
    "trackers",
)
"""Recipe keys that may differ when a run is resumed; they change nothing about the updates already made."""

REMOTE_MAY_CHANGE = ("key_env", "spend_limit", "timeout", "retries", "concurrency")
"""The same of each entry under `remotes`."""

VERSIONS = ("marft", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy")


class RunFolder:
    """One run's folder, locked for this process as long as it lives (a killed process frees it)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: Any = None
        self._new = self._overwrite = False

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def spending(self) -> Path:
        return self.path / "spending.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def open(self, recipe: Recipe, *, resume: bool, overwrite: bool) -> None:
        """Lock the folder and check that this recipe may use it; nothing that is there is touched yet."""
        if resume and overwrite:
            raise RunFolderError("--resume goes on with a run and --overwrite removes it; give one of them")
        self._new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "a")  # noqa: SIM115 - held for the life of the run
        except OSError as error:
            raise RunFolderError(f"run folder {self.path} cannot be written: {error.strerror}; choose --out") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise RunFolderError(f"run folder {self.path} is in use by another process; choose another --out") from None
        self._overwrite = overwrite
        if overwrite or not (self.metrics.exists() or self.checkpoints.exists()):
            return  # a run that died before its first update has nothing to lose
        if not resume:
            raise RunFolderError(f"run folder {self.path} holds a run; pass --resume, --overwrite or another --out")
        self._same_recipe(run_recipe(self.path), recipe)

    def begin(self, recipe: Recipe) -> None:
        """Everything is loaded and the run can start: store the recipe and its circumstances."""
        if self._overwrite:
            self._empty()
        write_text(self.path / "recipe.yaml", dump_recipe(recipe))
        write_text(self.path / "run.json", json.dumps(facts(recipe), indent=2) + "\n")

    def abandon(self) -> None:
        """The run could not start: leave no trace of a folder that was not there before."""
        self.close()
        if self._new:
            shutil.rmtree(self.path, ignore_errors=True)

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def keep_until(self, update: int) -> None:
        """Forget what a killed run wrote past `update`: metrics and episodes that will be made again, half files."""
        lines = [line for line in read_metrics(self.metrics) if line["update"] < update]
        if self.metrics.exists():
            write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in lines))
        for path in [*self.path.glob("episodes/update-*.parquet"), *self.path.glob("tokens/update-*.parquet")]:
            if int(path.stem.split("-")[1]) >= update:
                path.unlink()
        for path in list(self.path.rglob(".*")):  # a half checkpoint may hold half an adapter, which goes with it
            if ".tmp-" in path.name or ".old-" in path.name:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def append_metrics(self, line: dict[str, Any]) -> None:
        with open(self.metrics, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())  # the checkpoint that follows must not outlive it

    def _empty(self) -> None:
        for path in self.path.iterdir():
            if path.name == ".lock":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _same_recipe(self, stored: Recipe, recipe: Recipe) -> None:
        before = _flat(yaml.safe_load(dump_recipe(stored)))
        now = _flat(yaml.safe_load(dump_recipe(recipe)))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key) and not _may_change(key):
                raise RunFolderError(
                    f"{key} is {now.get(key)!r} in the recipe but {before.get(key)!r} in the run that {self.path} "
                    "holds; set it back, or start another run with --out"
                )


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def run_recipe(path: Path) -> Recipe:
    """The recipe stored in a run folder."""
    stored = path / "recipe.yaml"
    if not is_run(path):
        raise RunFolderError(f"{path} is no run folder: it holds no recipe.yaml")
    return parse_recipe(read_yaml(stored))


def is_run(path: Path) -> bool:
    """Whether this is a run folder."""
    return (path / "recipe.yaml").is_file()


def versions() -> dict[str, str]:
    """Of marft and of what it stands on."""
    return {name: importlib.metadata.version(name) for name in VERSIONS}


def facts(recipe: Recipe) -> dict[str, Any]:
    """What else the numbers of a run depend on."""
    return {
        "seed": recipe.seed,
        "versions": versions(),
        "python": platform.python_version(),
        "machine": {"system": platform.system(), "processor": platform.machine(), "cpus": os.cpu_count()},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _may_change(key: str) -> bool:
    section, _, rest = key.partition(".")
    return key.startswith(MAY_CHANGE) or (section == "remotes" and rest.partition(".")[2] in REMOTE_MAY_CHANGE)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict) or not data:
        return {prefix.removesuffix("."): data}
    return {key: value for name, below in data.items() for key, value in _flat(below, f"{prefix}{name}.").items()}
