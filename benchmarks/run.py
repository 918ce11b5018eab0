"""Speed and memory of rollout, update, token loss and credit, written to benchmarks/RESULTS.md.

Every figure is measured in this run: medians over repeated, interleaved rounds after a warm-up. Ratios are what to
read; absolute numbers belong to the machine they were made on.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import asynchronous
import balancing
import credit
import loss
import serving
import speed
import torch
import typer
from peak import run_alone

import games
from marft.quiet import quiet_libraries

HERE = Path(__file__).parent


def main(
    rounds: Annotated[int, typer.Option(help="counted rounds of each measurement")] = 5,
    out: Annotated[Path, typer.Option(help="the file to write")] = HERE / "RESULTS.md",
) -> None:
    """Measure everything and write the table."""
    quiet_libraries()
    tables = [
        ("Games, one core, text included, random play", games.decisions(rounds)),
        ("Rollout and update, prisoner's dilemma, 64 episodes, 2 agents", speed.training(rounds)),
        ("Play while training, simulated engine, rollout and update equally long", asynchronous.table(min(rounds, 3))),
        ("Keys and values kept from turn to turn", speed.cache_reuse(rounds)),
        ("Peak memory by number of agents", memory()),
        (
            "Token loss against bare log_softmax and gather, vocabulary 151,936, processor time of one thread",
            loss.table(rounds),
        ),
        ("Advantages of 1,000,000 turns by preset, processor time of one core", credit.table(rounds)),
        ("Balancing requests over replicas, simulated (benchmarks/balancing.py)", balancing.table()),
    ]
    if serving.installed():
        tables.append(("Rollouts on a vLLM server, 64 episodes of ten rounds with talk", serving.table(min(rounds, 3))))
    out.write_text(render(tables), encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


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


def render(tables: list[tuple[str, list[tuple[str, str]]]]) -> str:
    """The tables as Markdown under the facts of the machine."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("marft", "torch", "transformers", "peft"))
    lines = [
        "# Benchmark results",
        "",
        "Made by `make bench`. Medians; read the ratios, the absolute numbers are this machine's.",
        "",
        f"- machine: {platform.machine()}, {torch.get_num_threads()} threads, no accelerator used",
        f"- versions: Python {platform.python_version()}, {versions}",
    ]
    for title, rows in tables:
        lines += ["", f"## {title}", "", "| what | figure |", "|---|---|"]
        lines += [f"| {what} | {figure} |" for what, figure in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
