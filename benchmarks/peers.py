"""marft beside its peers at the same job, in processes of their own that take turns.

    python benchmarks/peers.py --only trl --rounds 3

What a peer is given, and how, stands in `library.py`; the job in `job.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Annotated

import typer
from job import Job, write_model

HERE = Path(__file__).parent
Rows = list[tuple[str, str]]

JOB = Job()
TREE = Job(prompts=4, samples=2, turns=4)
WIDE = Job(prompts=2, samples=4, vocabulary=151_936)
HEAVY = Job(prompts=2, samples=2, tokens=16, hidden=768, layers=26, budget=96)
"""About 200 million parameters, 0.75 GiB; as many tokens in a backward pass as CoMLRL has there, a prompt's samples."""
LONG = {10: 16, 20: 8, 40: 4}
"""Rounds of a play -> prompts, for equally many trained tokens."""
DEADLINE = 900


class Library:
    """A process that makes one update of its job whenever it is asked to."""

    def __init__(self, name: str, job: Job, model: Path, threads: int, *, peaks: bool = False) -> None:
        self.name, self.job = name, job
        command = [sys.executable, str(HERE / "library.py"), name, json.dumps(asdict(job)), str(model)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        if peaks:  # large blocks straight from the system, which is slow: a peak then is what was in use
            environment["MALLOC_MMAP_THRESHOLD_"] = "65536"
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self._line("ready")

    def __enter__(self) -> Library:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def update(self) -> dict[str, float]:
        """The figures of one update; it is an error if the library trained on anything but the job's answers."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        figures = json.loads(self._line('{"wall"'))
        if figures["answers"] != self.job.answers:
            raise RuntimeError(f"{self.name} trained on {figures['answers']:.0f} answers and not {self.job.answers}")
        return figures

    def _line(self, start: str) -> str:
        for line in self._process.stdout:
            if line.startswith(start):
                return line
        raise RuntimeError(f"{self.name} ended with {self._process.wait()}: run library.py by hand to see why")


def figures(libraries: dict[str, Library], rounds: int, key: str = "wall") -> dict[str, float]:
    """Median of a figure of each library's updates, which take turns."""
    found = {name: [] for name in libraries}
    for _ in range(rounds):
        for name, library in libraries.items():
            found[name].append(library.update()[key])
    return {name: median(values) for name, values in found.items()}


def against(
    ours: str, peer: str, job: Job, rounds: int, threads: tuple[int, ...] = (1, 2), *, key: str = "wall"
) -> Rows:
    """Trained tokens a second of both, with so many threads each. key: `wall`, or `cpu` for processor time."""
    rows = []
    with TemporaryDirectory() as folder:
        model = write_model(Path(folder), job)
        for count in threads:
            with ExitStack() as stack:
                libraries = {name: stack.enter_context(Library(name, job, model, count)) for name in (ours, peer)}
                seconds = figures(libraries, rounds, key)
            rates = {name: job.answers * job.tokens / taken for name, taken in seconds.items()}
            text = ", ".join(f"{name.split()[0]} {rate:,.0f}" for name, rate in rates.items())
            times = rates[ours] / rates[peer]
            rows.append((f"{count} thread{'s' * (count > 1)}", f"{text} tokens/s: {times:.1f} times as fast"))
    return rows


def memory(rounds: int) -> Rows:
    """Peaks of processes that make two updates of 2 or 8 agents."""
    rows = []
    with TemporaryDirectory() as folder:
        model = write_model(Path(folder), HEAVY)
        for agents in (2, 8):
            job, peaks = replace(HEAVY, agents=agents), {}
            for name in ("marft", "comlrl"):
                with Library(name, job, model, 2, peaks=True) as library:
                    peaks[name] = library.update()["peak"] / 2**20
            text = ", ".join(f"{name} {peak:,.0f} MiB" for name, peak in peaks.items())
            rows.append((f"{agents} agents", f"{text}: {peaks['marft'] / peaks['comlrl']:.2f} of its memory"))
    return rows


def growth(rounds: int) -> Rows:
    """Seconds per trained token as plays grow longer, and as the same tokens are spread over more agents."""
    seconds, rows = {}, []
    with TemporaryDirectory() as folder, ExitStack() as stack:
        model = write_model(Path(folder), JOB)
        lengths = {length: Job(prompts=n, samples=4, tokens=8, turns=length, tree=False) for length, n in LONG.items()}
        libraries = {
            str(length): stack.enter_context(Library("marft reinforce", job, model, 1))
            for length, job in lengths.items()
        }
        seconds = figures(libraries, rounds, "cpu")
        for length, job in lengths.items():
            each = 1e6 * seconds[str(length)] / (job.answers * job.tokens)
            first = seconds[str(length)] / seconds["10"]
            due = first / (attended(job) / attended(lengths[10]))
            text = f"{each:.0f} µs a token, {first:.2f} times that of 10; {due:.2f} beyond attention's own growth"
            rows.append((f"{length} rounds", text))
    with TemporaryDirectory() as folder, ExitStack() as stack:
        model = write_model(Path(folder), JOB)
        spread = {2: replace(JOB, agents=2), 16: replace(JOB, agents=16, prompts=JOB.prompts // 8)}
        libraries = {
            str(agents): stack.enter_context(Library("marft", job, model, 1)) for agents, job in spread.items()
        }
        seconds = figures(libraries, rounds, "cpu")
        rows.append(("16 agents : 2 agents, as many tokens in all", f"{seconds['16'] / seconds['2']:.2f} of the time"))
    return rows


def attended(job: Job) -> float:
    """Multiplications of a token's way through the model, attention to half the longest context included."""
    layer = 4 * job.hidden**2 + 9 * job.hidden**2
    context = job.turns * (32 + 1 + job.tokens) / 2
    return job.layers * (layer + 2 * job.hidden * context) + job.hidden * job.vocabulary


SECTIONS: dict[str, tuple[str, str | None, Callable[[int], Rows]]] = {
    "comlrl": (
        "CoMLRL's MAGRPO: 2 agents, 32 prompts, 8 samples of 64 tokens, rollout and update",
        "comlrl",
        partial(against, "marft", "comlrl", JOB),
    ),
    "tree": (
        "CoMLRL's MAGRPO: trees of 4 turns with 2 samples each, 2 agents, 4 prompts, processor time",
        "comlrl",
        lambda rounds: against("marft", "comlrl", TREE, min(rounds, 3), (1,), key="cpu"),
    ),
    "vocabulary": (
        "CoMLRL's MAGRPO: the update alone, vocabulary 151,936, 16 answers of 64 tokens",
        "comlrl",
        lambda rounds: against("marft update", "comlrl update", WIDE, min(rounds, 3), (1,)),
    ),
    "memory": ("CoMLRL's MAGRPO: peak memory, 200 million parameters, rank-8 adapters", "comlrl", memory),
    "trl": (
        "TRL's GRPOTrainer: 1 agent, 32 prompts, 8 samples of 64 tokens, rollout and update",
        "trl",
        partial(against, "marft grpo", "trl", replace(JOB, agents=1)),
    ),
    "growth": ("marft by rounds of a play and by agents, processor time of one thread", None, growth),
}
INSTALL = {"comlrl": "--no-deps comlrl==1.4.3, and pip install wandb", "trl": "trl==1.16.0"}


def tables(rounds: int, only: str | None = None) -> list[tuple[str, Rows]]:
    """The sections; a peer that is not installed is said to be missing."""
    found = []
    for name, (title, package, measure) in SECTIONS.items():
        if only not in (None, "peers", name):
            continue
        missing = package is not None and find_spec(package) is None
        found.append(
            (title, [(package, f"not measured: pip install {INSTALL[package]}")] if missing else measure(rounds))
        )
    return found


def main(
    only: Annotated[str | None, typer.Option(help=f"one of {', '.join(SECTIONS)}")] = None,
    rounds: Annotated[int, typer.Option(help="counted rounds of each measurement")] = 3,
) -> None:
    """Measure against the peers that are installed, and print the tables."""
    if only is not None and only not in SECTIONS:
        raise typer.BadParameter(f"{only!r} is none of {', '.join(SECTIONS)}", param_hint="--only")
    for title, rows in tables(rounds, only):
        print(f"{title}\n" + "".join(f"  {what}: {figure}\n" for what, figure in rows), flush=True)


if __name__ == "__main__":
    typer.run(main)
