"""Every recipe of the project, trained and measured, and the table of recipes/README.md.

    python recipes/table.py --out runs/table --write           # all of them, three seeds each
    python recipes/table.py --out runs/table --only rlccf      # one folder; repeat for more

What is run and what must come out stands in the folder's expected.toml:

    [[row]]
    recipe = "grpo.yaml"         # trained with each seed, and played with itself on what it has not seen
    metric = "final_accuracy"    # or METRIC@PLAYER, against a scripted player, as in seeds.py
    at_least = 0.75              # or at_most: the bar, for the median of the seeds
    episodes = 256               # instances of the evaluation
    needs = ["pyspiel"]          # modules without which the row is left out, with a message
    source = "GRPO 2402.03300"

With `script = "run.py"` instead of a recipe that file is called with --out and --seeds and writes OUT/table.json,
{"before": [a number per seed], "after": [...]}; `game` and `algorithm` are then named in the row.

What a row begins from is the same recipe after one update that does not learn: the base after its warm-up. Finished
runs are taken as they are and interrupted ones go on, so the call can be repeated; the table says what is not done yet.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Annotated

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, as in seeds.py

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- what recipes/table.py wrote -->", "<!-- end of what it wrote -->"
log = logging.getLogger(__name__)


class Expected(BaseModel):
    """One row of a folder's expected.toml, see the top of this file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str | None = None
    script: str | None = None
    metric: str
    at_least: float | None = None
    at_most: float | None = None
    episodes: int = Field(64, ge=1)
    needs: tuple[str, ...] = ()
    source: str = ""
    algorithm: str | None = None
    game: str | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Expected:
        for one, other in (("recipe", "script"), ("at_least", "at_most")):
            if (getattr(self, one) is None) == (getattr(self, other) is None):
                raise ValueError(f"give either {one} or {other}")
        if self.script is not None and (self.game is None or self.algorithm is None):
            raise ValueError("a script says its game and its algorithm itself")
        return self

    @property
    def name(self) -> str:
        return Path(self.recipe or self.script).stem

    @property
    def bar(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"

    def met(self, value: float) -> bool:
        return value >= self.at_least if self.at_least is not None else value <= self.at_most


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    row: tuple[Expected, ...] = Field(min_length=1)


class Result(BaseModel):
    """What came out of a row. before: of the base; after: a number per finished seed, seconds as well (None where a run
    went on after an interruption, so that nobody knows). missing: why there is nothing.
    """

    before: float | None = None
    after: tuple[float, ...] = ()
    base_seconds: float | None = None
    seconds: tuple[float | None, ...] = ()
    missing: str | None = None


def main(
    out: Annotated[Path, typer.Option(help="runs and evaluations go here")] = Path("runs/table"),
    only: Annotated[list[str] | None, typer.Option(help="a folder's name; repeat for more")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="how many, from 0 on")] = 3,
    write: Annotated[bool, typer.Option(help="put the table into recipes/README.md")] = False,
    run: Annotated[bool, typer.Option(help="--no-run: only gather what is there")] = True,
) -> None:
    """Run the recipes and gather the table. The exit status is 1 where a row failed or its bar was missed."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    folders = folders_of(HERE)
    for name in only or ():
        if name not in folders:
            raise typer.BadParameter(f"no recipe folder {name!r}, but {', '.join(folders)}", param_hint="--only")
    rows = [(name, one) for name, folder in folders.items() for one in expected_of(folder)]
    chosen = [(name, one) for name, one in rows if not only or name in only]
    bad = []
    for number, (name, one) in enumerate(chosen if run else (), 1):
        place = out / name / one.name
        print(f"{number} of {len(chosen)}: {name}, {one.name}", flush=True)
        try:
            for kept in results(HERE / name, one, place, seeds):
                keep(kept, place, one)
        except Exception as error:  # one recipe that fails must not cost the others their turn; the table tells
            log.warning("%s, %s failed", name, one.name, exc_info=error)
            keep(Result(missing=f"failed: {type(error).__name__}: {error}"), place, one)
        found = kept_at(place, one)
        print(f"  {told(one, found, seeds)}", flush=True)
        failed = found.missing is not None and found.missing.startswith("failed")
        bad += [name] if failed or (found.after and not one.met(median(found.after))) else []
    bare = [name for name, folder in folders.items() if not (folder / "expected.toml").is_file()]
    table = tabulate([(name, one, kept_at(out / name / one.name, one)) for name, one in rows], seeds, bare)
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text(table, encoding="utf-8")
    print(table)
    if write:
        readme = HERE / "README.md"
        readme.write_text(with_table(readme.read_text(encoding="utf-8"), table), encoding="utf-8")
    if bad:
        raise SystemExit(f"not as expected: {', '.join(bad)}")


def folders_of(place: Path) -> dict[str, Path]:
    """The recipe folders: those with a README."""
    return {path.parent.name: path.parent for path in sorted(place.glob("*/README.md"))}


def expected_of(folder: Path) -> tuple[Expected, ...]:
    """The rows of a folder, none without the file. ValueError with the file's name for what is not a row."""
    path = folder / "expected.toml"
    if not path.is_file():
        return ()
    try:
        return _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).row
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ValueError(f"{path}: {error}") from None


def results(folder: Path, one: Expected, place: Path, seeds: int) -> Iterator[Result]:
    """What is known of a row, again after every seed."""
    lacking = [name for name in one.needs if find_spec(name) is None]
    if lacking:
        yield Result(missing=f"needs {', '.join(lacking)}, not installed")
        return
    yield from (of_script if one.script is not None else of_recipe)(folder, one, place, seeds)


def of_script(folder: Path, one: Expected, place: Path, seeds: int) -> Iterator[Result]:
    """A script sees to its runs itself."""
    before = kept_at(place, one)
    began, fresh = time.perf_counter(), not place.exists()
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(folder / str(one.script)), "--out", str(place), "--seeds", str(seeds)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took = (time.perf_counter() - began) / seeds if fresh else None
    told = json.loads((place / "table.json").read_text(encoding="utf-8"))
    known = before.seconds if not fresh and len(before.seconds) == seeds else (took,) * seeds
    yield Result(before=median(told["before"]), after=tuple(told["after"]), seconds=known)


def of_recipe(folder: Path, one: Expected, place: Path, seeds: int) -> Iterator[Result]:
    """One update that does not learn, then a run for each seed."""
    from seeds import evaluated, trained

    from marft.quiet import quiet_libraries
    from marft.recipe import load_recipe

    quiet_libraries()
    metric, _, player = one.metric.partition("@")

    def measured(overrides: Sequence[str], run: Path) -> tuple[float, float | None]:
        recipe = load_recipe(folder / str(one.recipe), overrides)
        began, fresh, clock = time.perf_counter(), not run.exists(), run / "table_seconds.json"
        trained(recipe, run)
        if fresh:
            clock.write_text(json.dumps(time.perf_counter() - began), encoding="utf-8")
        took = json.loads(clock.read_text(encoding="utf-8")) if clock.is_file() else None
        return evaluated(run, [one.metric], one.episodes)[player or "self"][metric], took

    still = ["seed=0", "train.updates=1", "train.learn=false", "train.save_every=1", "rollout.groups=1"]
    before, base_seconds = measured(still, place / "base" / "seed-0")
    found = Result(before=before, base_seconds=base_seconds)
    yield found
    for seed in range(seeds):
        after, took = measured([f"seed={seed}"], place / "runs" / f"seed-{seed}")
        found = found.model_copy(update={"after": (*found.after, after), "seconds": (*found.seconds, took)})
        print(f"  seed {seed}: {after:.2f}, from {before:.2f}", flush=True)
        yield found


def keep(result: Result, place: Path, one: Expected) -> None:
    path = file_of(place, one)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(result.model_dump_json(), encoding="utf-8")
    new.replace(path)


def file_of(place: Path, one: Expected) -> Path:
    """Several rows may measure the same runs."""
    return place / "results" / f"{re.sub(r'[^A-Za-z0-9_@]+', '-', one.metric)}.json"


def kept_at(place: Path, one: Expected) -> Result:
    """What a row came to, in this call or an earlier one."""
    path = file_of(place, one)
    return Result.model_validate_json(path.read_text(encoding="utf-8")) if path.is_file() else Result(missing="not run")


def told(one: Expected, found: Result, seeds: int) -> str:
    """before → after, against the bar, and how many seeds there are where some are missing."""
    if found.missing is not None:
        return found.missing
    if not found.after:
        return f"{found.before:.2f} → not run"
    values = found.after[:seeds]
    spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    short = f", {len(values)} of {seeds} seeds" if len(values) < seeds else ""
    missed = "" if one.met(median(values)) else ", **missed**"
    return f"{found.before:.2f} → {median(values):.2f}{spread}{short}{missed}"


def tabulate(rows: Sequence[tuple[str, Expected, Result]], seeds: int, bare: Sequence[str] = ()) -> str:
    """The table, with a line above it that says how much of it there is."""
    done = sum(found.missing is None and len(found.after) >= seeds for _, _, found in rows)
    partly = "" if done == len(rows) else f" **Not complete: {done} of {len(rows)} rows are done.**"
    drawn = f"Medians of {seeds} seeds (smallest to largest)" if seeds > 1 else "One seed"
    lines = [
        f"{drawn}, on {machine()}.{partly}",
        "",
        "| recipe | game | algorithm | metric | bar | after warm-up → training | seconds: base, a seed | source |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one, found in rows:
        game, algorithm = played(name, one)
        file = one.recipe or one.script
        times = f"{clock(found.base_seconds)}, {clock(middle(found.seconds))}"
        cells = (f"[{name}]({name}) `{file}`", game, algorithm, one.metric, one.bar, told(one, found, seeds), times)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in (*cells, one.source))} |")
    if bare:
        lines += ["", f"Without an expected.toml, and so not in the table: {', '.join(bare)}."]
    return "\n".join(lines) + "\n"


def played(name: str, one: Expected) -> tuple[str, str]:
    """(game, algorithm) as the row or its recipe says."""
    if one.recipe is None:
        return str(one.game), str(one.algorithm)
    from marft.recipe import read_yaml

    data = read_yaml(HERE / name / one.recipe)
    game, algorithm = data["game"], data.get("algorithm", "blocks of its own")
    algorithm = algorithm.get("preset", "blocks of its own") if isinstance(algorithm, dict) else algorithm
    return one.game or (game["name"] if isinstance(game, dict) else game), one.algorithm or algorithm


def middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def clock(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.0f}"


def machine() -> str:
    return f"{os.cpu_count()} {platform.machine()} cores, one thread"


def with_table(text: str, table: str) -> str:
    """A README with the table between its marks. ValueError where the marks are not there."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"recipes/README.md: {BEGIN} and {END} must stand in it once each")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


if __name__ == "__main__":
    typer.run(main)
