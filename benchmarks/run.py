"""Speed and memory of rollout, update, token loss and credit, and of marft's peers, written to benchmarks/RESULTS.md.

Every figure is measured in this run: medians over repeated, interleaved rounds after a warm-up. Ratios are what to
read; absolute numbers belong to the machine they were made on.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import asynchronous
import balancing
import credit
import evaluation
import loss
import pages
import peers
import serving
import speed
import torch
import typer
from peak import run_alone

import games
import rewards
from marft.quiet import quiet_libraries

HERE = Path(__file__).parent
ALONE = tuple(peers.SECTIONS)
"""Sections that `peers` measures one after the other."""
Table = list[tuple[str, str]]


def sections(rounds: int) -> dict[str, Callable[[], list[tuple[str, Table]]]]:
    """Name -> what measures it and gives its tables."""
    few = min(rounds, 3)

    def one(title: str, measure: Callable[[], Table]) -> Callable[[], list[tuple[str, Table]]]:
        return lambda: [(title, measure())]

    found = {
        "games": one("Games, one core, text included, random play", lambda: games.decisions(rounds)),
        "training": one(
            "Rollout and update, prisoner's dilemma, 64 episodes, 2 agents", lambda: speed.training(rounds)
        ),
        "outside": one(
            "Time outside generate, forward, backward and optimizer, by phase", lambda: speed.outside(rounds)
        ),
        "asynchronous": one(
            "Play while training, simulated engine, rollout and update equally long", lambda: asynchronous.table(few)
        ),
        "cache": one("Keys and values kept from turn to turn", lambda: speed.cache_reuse(rounds)),
        "agents": one("Peak memory by number of agents", memory),
        "loss": one(
            "Token loss against bare log_softmax and gather, vocabulary 151,936, processor time of one thread",
            lambda: loss.table(rounds),
        ),
        "credit": one(
            "Advantages of 1,000,000 turns by preset, processor time of one core", lambda: credit.table(rounds)
        ),
        "evaluation": one(
            "A whole evaluation against the bare engine, processor time of one thread", lambda: evaluation.table(few)
        ),
        "rewards": one("Graders, warm workers on all cores", lambda: rewards.table(few)),
        "balancing": one(
            "Balancing requests over replicas, simulated (benchmarks/balancing.py)", lambda: balancing.table()
        ),
        "report": one("The report of eight runs in a browser (benchmarks/pages.py)", lambda: pages.table(rounds)),
        "peers": lambda: peers.tables(few),
    }
    found |= {name: lambda name=name: peers.tables(few, name) for name in peers.SECTIONS}
    if serving.installed():
        found["serving"] = one(
            "Rollouts on a vLLM server, 64 episodes of ten rounds with talk", lambda: serving.table(few)
        )
    return found


def main(
    rounds: Annotated[int, typer.Option(help="counted rounds of each measurement")] = 5,
    out: Annotated[Path, typer.Option(help="the file to write")] = HERE / "RESULTS.md",
    only: Annotated[
        list[str] | None, typer.Option(help="measure this section alone and leave the others as they are; repeatable")
    ] = None,
) -> None:
    """Measure everything, or some sections, and write the tables, each as soon as it is there."""
    quiet_libraries()
    known = sections(rounds)
    for name in only or ():
        if name not in known:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--only")
    for name in only or [name for name in known if name not in ALONE]:
        before = os.getloadavg()[0]
        for title, rows in known[name]():
            text = section(title, rows, before, os.getloadavg()[0])
            out.write_text(put(out.read_text(encoding="utf-8") if out.is_file() else "", title, text), encoding="utf-8")
            print(text, flush=True)


def memory() -> list[tuple[str, str]]:
    """Peak memory of a whole process that updates 2 or 8 agents on the same number of rows in all."""
    found = {}
    for agents in (2, 8):
        found[agents] = run_alone(HERE / "memory.py", agents)
    mib = 2**20
    net = {agents: figures["peak"] - figures["adapters"] for agents, figures in found.items()}
    rows = [
        (
            f"{agents} agents",
            f"peak {figures['peak'] / mib:,.0f} MiB, of it base {figures['base'] / mib:,.0f} MiB, adapters with their "
            f"optimizer states {figures['adapters'] / mib:,.1f} MiB",
        )
        for agents, figures in found.items()
    ]
    return [*rows, ("8 agents : 2 agents, without the adapters", f"{net[8] / net[2]:.3f}")]


def section(title: str, rows: Table, before: float, after: float) -> str:
    """A table as Markdown, with how busy the machine was."""
    lines = [f"## {title}", "", "| what | figure |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]
    return "\n".join([*lines, "", f"Load before {before:.1f}, after {after:.1f}.", ""])


def put(document: str, title: str, text: str) -> str:
    """The document with this section in its place, or at the end, under the facts of the machine as it is now."""
    old = document.split("\n## ")[1:]
    titles = [chunk.partition("\n")[0] for chunk in old]
    kept = {name: f"## {chunk.rstrip()}\n" for name, chunk in zip(titles, old, strict=True)}
    return "\n".join([head(), *(kept | {title: text}).values()])


def head() -> str:
    names = ["marft", "torch", "transformers", "peft", *filter(find_spec, ("trl", "comlrl", "vllm"))]
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    lines = [
        "# Benchmark results",
        "",
        "Made by `make bench`. Medians; read the ratios, the absolute numbers are this machine's.",
        "",
        f"- machine: {platform.machine()}, {torch.get_num_threads()} threads, no accelerator used",
        f"- versions: Python {platform.python_version()}, {versions}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
