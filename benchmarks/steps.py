"""One agent after the other against mixed passes: the update of several agents on the same number of tokens in all.

python benchmarks/steps.py
"""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
import torch
import typer
from timing import medians
from transformers import Qwen3Config, Qwen3ForCausalLM

from marft.bank import AdapterBank
from marft.blocks import Algorithm
from marft.config import Adapter, Optimizer, Sampling, Train
from marft.train.gradient import Job
from marft.train.optimizer import make_learner
from marft.train.rows import Row
from marft.train.update import Updater
from marft.train.workers import Workers

SHAPES = {"width 64, 2 layers": (64, 2), "width 256, 4 layers": (256, 4)}
AGENTS = (2, 8, 32)
VOCABULARY = 512


def main(rounds: Annotated[int, typer.Option(help="counted rounds")] = 5) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    for what, figure in table(rounds):
        print(f"{what}: {figure}", flush=True)


def table(rounds: int, rows: int = 64, length: int = 96) -> list[tuple[str, str]]:
    """Rows of the benchmark's table, processor time."""
    found = []
    for shape, (width, layers) in SHAPES.items():
        for agents in AGENTS:
            loop, mixed = steps(width, layers, agents, rows, length)
            seconds = medians({"loop": loop, "mixed": mixed}, rounds, time.process_time)
            ratio = seconds["mixed"] / seconds["loop"]
            found.append((f"{shape}, {agents} agents", f"{seconds['loop']:.2f} s in turn, mixed {ratio:.2f} of it"))
    return found


def steps(width: int, layers: int, agents: int, rows: int, length: int):
    """Two calls that make an update of all agents, on `rows` rows of about `length` tokens in all."""
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        head_dim=32,
    )
    model = Qwen3ForCausalLM(config).eval()
    model.requires_grad_(False)
    bank = AdapterBank(model)
    names = [f"agent{number}" for number in range(agents)]
    for name in names:
        bank.add(name, Adapter(), seed=0)
    train = Train(gap_limit=1e9, token_budget=4096)  # the rows' engine log-probs are made up
    updater = Updater(bank, Algorithm(), Sampling(), train, Workers(), seed=0)
    learners = {name: make_learner(bank, name, Optimizer()) for name in names}
    rng = np.random.default_rng(0)
    own = {name: [row_of(name, rng, length) for _ in range(rows // agents)] for name in names}

    def loop() -> None:
        for name, learner in learners.items():
            updater.update(learner, own[name])

    def mixed() -> None:
        jobs = {name: Job(one, updater.algorithm, one.version, one.version) for name, one in learners.items()}
        everyone = dict.fromkeys(names, True)
        updater.update_together(jobs, own, first=everyone, played=everyone)

    return loop, mixed


def row_of(agent: str, rng: np.random.Generator, length: int) -> Row:
    """A row of about that length, the latter half trained."""
    length = int(rng.integers(length - 16, length + 17))
    targets = np.arange(length // 2, length)
    noise = rng.normal(size=len(targets))
    number, zero = np.arange(len(targets)), np.zeros(len(targets), dtype=np.int64)
    ids = rng.integers(VOCABULARY, size=length)
    return Row(agent, ids, targets, noise - 6.0, noise, number, number, zero, np.ones(len(targets)))


if __name__ == "__main__":
    typer.run(main)
