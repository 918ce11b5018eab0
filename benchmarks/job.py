"""The job that marft and its peers are measured on: a small random model, prompts of a fixed length, answers of a fixed
length, a reward read off the answers' text.

Everything is digits: the tokenizer never merges them, so a text and its ids go back and forth unchanged, and every
library is given the same tokens. The model gives all other ids, its end-of-turn token included, no chance, so that
every answer runs to its full length in all of them without a word to any of them.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from marft.config import Tiny
from marft.game import Game, Message, Options, StepResult
from marft.tiny import train_tokenizer

SEATS = tuple(f"agent{number:02d}" for number in range(16))
PROMPT = 29
"""Digits; with the three control tokens around them a prompt has 32 tokens."""
NEVER = -1e4
RANK, RATE = 8, 1e-5
"""Of every library's adapters, on all linear layers, and of their AdamW."""


@dataclass(frozen=True)
class Job:
    """agents: each answers every prompt. samples: answers to a prompt; of several turns, to each place in the `tree`,
    or plays of so many turns each. budget: marft's tokens in a pass."""

    agents: int = 2
    prompts: int = 32
    samples: int = 8
    tokens: int = 64
    turns: int = 1
    tree: bool = True
    vocabulary: int = 320
    hidden: int = 128
    layers: int = 2
    budget: int = 16384

    @property
    def answers(self) -> int:
        """Sampled answers of one update, all agents together."""
        turns = range(1, self.turns + 1)
        return self.agents * self.prompts * sum(self.samples ** (turn if self.tree else 1) for turn in turns)

    def recipe(self, model: Path, algorithm: str = "magrpo", **more: object) -> dict:
        """The job as marft is told of it: by MAGRPO as a tree of samples, else as groups of plays."""
        rollout: dict[str, object] = {"groups": self.prompts, "group_size": self.samples}
        if algorithm == "magrpo":
            rollout |= {"group_size": 1, "plan": {"kind": "tree", "samples": self.samples}}
        return {
            "name": "peers",
            "model": {"name": str(model), "device": "cpu"},
            "game": {"name": f"{Path(__file__)}:Answers", "seats": self.agents, "turns": self.turns},
            "agents": {name: {} for name in SEATS[: self.agents]},
            "adapter": {"rank": RANK, "alpha": 2 * RANK},
            "optimizer": {"learning_rate": RATE},
            "sampling": {"max_new_tokens": self.tokens},
            "rollout": rollout,
            "algorithm": algorithm,
            "train": {"updates": 1000, "token_budget": self.budget},
            "trackers": [],
        } | more


class AnswerOptions(Options):
    seats: int = 2
    turns: int = 1


class Answers(Game):
    """Every seat is given the same digits and answers with digits; sevens pay, all seats alike."""

    name = "answers"
    Options = AnswerOptions

    def __init__(self, options: AnswerOptions | None = None) -> None:
        super().__init__(options)
        self.seats = SEATS[: self.options.seats]

    def reset(self, seed: int) -> None:
        self.clock = 0
        self._prompt = digits(seed)

    def acting(self) -> tuple[str, ...]:
        return self.seats if self.clock < self.options.turns else ()

    def observe(self, seat: str) -> list[Message]:
        return [Message("user", self._prompt)]

    def act(self, texts: Mapping[str, str]) -> StepResult:
        self.clock += 1
        paid = sevens(*texts.values())
        return StepResult(rewards=dict.fromkeys(self.seats, paid))

    def clone(self) -> Answers:
        other = Answers(self.options)
        other.clock, other._prompt = self.clock, self._prompt
        return other


def digits(seed: int) -> str:
    """A prompt."""
    return "".join(random.Random(seed).choices("0123456789", k=PROMPT))


def sevens(*answers: str) -> float:
    """How many sevens the answers hold, per hundred digits; the reward of all who answered."""
    return 100 * sum(answer.count("7") for answer in answers) / sum(map(len, answers))


def write_model(folder: Path, job: Job) -> Path:
    """A Qwen3 model with random weights that says nothing but digits, with its tokenizer.

    The first feature of the hidden states is the same at every place: embeddings hold it, no layer writes to it. The
    head's weights for it are what forbids.
    """
    script = [([Message("user", "0123456789")], "0123456789")]
    tokenizer = train_tokenizer([script], Tiny(vocabulary=320))
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=job.vocabulary,
            hidden_size=job.hidden,
            intermediate_size=3 * job.hidden,
            num_hidden_layers=job.layers,
            num_attention_heads=max(4, job.hidden // 64),
            num_key_value_heads=max(4, job.hidden // 64),
            head_dim=32 if job.hidden < 256 else 64,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    allowed = tokenizer.convert_tokens_to_ids(list("0123456789"))
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 0.02
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        model.lm_head.weight[:, 0] = NEVER
        model.lm_head.weight[allowed, 0] = 0.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
