"""Peak memory of one process that trains N agents: `python memory.py N` prints JSON, bytes.

A base whose weights outweigh the libraries' noise (about 50M parameters, random), rank-8 adapters on all linear layers,
the same 16 rows of 128 tokens in all whatever N is.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from peak import own_peak
from transformers import Qwen3Config, Qwen3ForCausalLM

from marft.bank import AdapterBank
from marft.blocks import Algorithm
from marft.config import Adapter, Optimizer, Sampling, Train
from marft.train.optimizer import make_learner
from marft.train.rows import Row
from marft.train.update import Updater
from marft.train.workers import Workers

ROWS, LENGTH, VOCABULARY = 16, 128, 2048


def main(agents: int) -> None:
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=768,
            intermediate_size=2048,
            num_hidden_layers=7,
            num_attention_heads=12,
            num_key_value_heads=12,
            head_dim=64,
        )
    )
    model.requires_grad_(False)
    base = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    bank = AdapterBank(model)
    names = [f"agent{number}" for number in range(agents)]
    for name in names:
        bank.add(name, Adapter(), seed=0)
    train = Train(token_budget=2 * LENGTH, gap_limit=1e9)  # the rows' engine log-probs are made up
    updater = Updater(bank, Algorithm(), Sampling(), train, Workers(), seed=0)
    learners = [make_learner(bank, name, Optimizer()) for name in names]
    rng = np.random.default_rng(0)
    for _ in range(2):
        for learner in learners:
            updater.update(learner, [make_row(learner.name, rng) for _ in range(ROWS // agents)])
    size = sum(parameter.numel() for name in names for parameter in bank.parameters(name))
    print(
        json.dumps(
            {
                "peak": own_peak(),
                "base": base,
                "adapters": 4
                * 3
                * size,  # weights and two AdamW moments, float32; one gradient at a time is everybody's
            }
        )
    )


def make_row(agent: str, rng: np.random.Generator) -> Row:
    targets = np.arange(LENGTH // 2, LENGTH)
    noise = rng.normal(size=len(targets))
    ids = rng.integers(VOCABULARY, size=LENGTH)
    number, zero = np.arange(len(targets)), np.zeros(len(targets), dtype=np.int64)
    return Row(agent, ids, targets, noise - 8.0, noise, number, number, zero, np.ones(len(targets)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
