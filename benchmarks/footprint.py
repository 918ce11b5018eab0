"""Peak memory of one process against its estimate: `python footprint.py '{"agents": 2, ...}'` prints JSON, bytes.

A random Qwen3-like model and `agents` adapters play `rows` conversations each through the in-process engine and are
updated on rows of the same length, twice. The baseline is the same process after a model of next to nothing did the
same: what the interpreter and the libraries take, whatever is trained.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from peak import own_peak
from transformers import Qwen3Config, Qwen3ForCausalLM

from marft.bank import AdapterBank
from marft.blocks import Algorithm
from marft.config import Adapter, Optimizer, Sampling, Train
from marft.engines.base import Request
from marft.engines.hf import HFEngine
from marft.memory import Batch, Lora, Memory, Play, Shape, estimate, lora_of, shape_of
from marft.recompute import checkpoint_layers
from marft.train.optimizer import make_learner
from marft.train.rows import Row
from marft.train.update import Updater
from marft.train.workers import Workers

ANSWER = 8
"""Tokens sampled at the end of each conversation."""

SHAPES = {
    "none": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 16, "heads": (1, 1, 8)},
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "vocab_size": 512,
        "heads": (4, 4, 16),
    },
    "30M": {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "vocab_size": 4096,
        "heads": (8, 4, 64),
    },
    "100M": {
        "hidden_size": 768,
        "intermediate_size": 2304,
        "num_hidden_layers": 12,
        "vocab_size": 8192,
        "heads": (12, 4, 64),
    },
}

DEFAULT = {
    "model": "tiny",
    "agents": 2,
    "rows": 16,
    "length": 128,
    "budget": 16384,
    "checkpointing": False,
    "dtype": "float32",
    "adapter": {},
}


def main(changes: dict) -> None:
    torch.set_num_threads(1)
    settings = DEFAULT | changes
    run(settings | {"model": "none", "agents": 1, "rows": 2, "length": 16})
    baseline = resident()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from here
    shape, base, loras = run(settings)
    found = expected(settings, shape, base, loras)
    parts = {key: value for key, value in vars(found).items() if key != "at_once"}
    print(json.dumps({"measured": own_peak() - baseline, "estimate": found.total, "baseline": baseline} | parts))


def resident() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def run(settings: dict) -> tuple[Shape, int, dict[str, Lora]]:
    """Play and update twice; returns the model's shape, its bytes and the adapters."""
    options = dict(SHAPES[settings["model"]])
    heads, kv_heads, head_dim = options.pop("heads")
    config = Qwen3Config(
        **options,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, settings["dtype"]))
    model = Qwen3ForCausalLM(config).requires_grad_(False).eval()
    torch.set_default_dtype(torch.float32)
    base = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if settings["checkpointing"]:
        checkpoint_layers(model)
    bank = AdapterBank(model)
    adapter = Adapter(**settings["adapter"])
    names = [f"agent{number}" for number in range(settings["agents"])]
    for name in names:
        bank.add(name, adapter, seed=0)
    engine = HFEngine(bank, frozenset())
    updater = Updater(
        bank, Algorithm(), Sampling(), Train(token_budget=settings["budget"], gap_limit=1e9), Workers(), seed=0
    )
    learners = {name: make_learner(bank, name, Optimizer()) for name in names}
    sampling = Sampling(max_new_tokens=ANSWER)
    rng, length, count = np.random.default_rng(0), settings["length"], settings["rows"]
    for update in range(2):
        requests = [
            Request(name, row, rng.integers(16, size=length - ANSWER).tolist(), sampling, f"{name}/{row}")
            for name in names
            for row in range(count)
        ]
        engine.complete(requests)
        for name in names:
            engine.end_sessions(f"{name}/")
        for name in names:
            updater.update(learners[name], [make_row(name, length, rng) for _ in range(count)])
            engine.publish(name, update)
    sizes = {name: sum(parameter.numel() for parameter in bank.parameters(name)) for name in names}
    loras = {name: lora_of(adapter.targets, adapter.rank, adapter.dora, size) for name, size in sizes.items()}
    return shape_of(config.to_dict()), base, loras


def make_row(agent: str, length: int, rng: np.random.Generator) -> Row:
    """A row whose second half is trained."""
    targets = np.arange(length // 2, length)
    noise, number = rng.normal(size=len(targets)), np.arange(len(targets))
    zero, ones = np.zeros(len(targets), dtype=np.int64), np.ones(len(targets))
    return Row(agent, rng.integers(16, size=length), targets, noise - 8.0, noise, number, number, zero, ones)


def expected(settings: dict, shape: Shape, base: int, loras: dict[str, Lora]) -> Memory:
    """The estimate for what `run` did."""
    length, rows = settings["length"], settings["rows"]
    most = min(rows, max(1, settings["budget"] // length))
    everyone = settings["agents"] * rows
    play = Play(everyone, length, min(everyone, 512), length - ANSWER)
    return estimate(
        shape,
        base=base,
        adapters=loras,
        batch=Batch(most * length, most * (length - length // 2), length),
        play=play,
        dtype=settings["dtype"],
        device="cpu",
        checkpointing=settings["checkpointing"],
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
