"""The scoring service: log-probs of given tokens under any policy of the bank.

One service for everything that asks how likely a text is: the anchor of a KL term, log-probs at the start of an
update, KL in the reward, another agent's opinion, the probability of a true answer (IGPO).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from marft.bank import AdapterBank
from marft.batches import Sequenced
from marft.config import Sampling
from marft.engines.hf import FROZEN
from marft.errors import ModelError
from marft.logprobs import TokenScores, token_scores
from marft.passes import Passes

PLAIN = Sampling()


@dataclass(slots=True)
class _Text:
    """A prompt and the continuation that is scored."""

    ids: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


class Scorer:
    """Scores tokens in micro-batches of at most `token_budget` tokens; keeps no state."""

    def __init__(
        self, bank: AdapterBank, token_budget: int, encode: Callable[[str], Sequence[int]] | None = None
    ) -> None:
        self.bank, self.passes, self._encode = bank, Passes(bank, token_budget), encode

    def encode(self, text: str, policy: str | None = None) -> list[int]:
        """A text as token ids, control tokens disarmed; policy: for whom, where policies differ in their tokenizer."""
        if self._encode is None:
            raise ModelError("scoring: this scorer was given no tokenizer")
        return list(self._encode(text))

    def score(
        self, policy: str | None, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """Log-probs (N,) of each continuation's ids after its prompt, at temperature 1, without truncation.

        policy: an agent, "frozen:folder", or None (or "frozen:base") for the bare base.
        """
        texts = []
        for prompt, continuation in zip(prompts, continuations, strict=True):
            if not len(prompt):
                raise ModelError("scoring: the first token of a text has no probability; give a prompt before it")
            ids = np.array([*prompt, *continuation], dtype=np.int64)
            texts.append(_Text(ids, np.arange(len(prompt), len(ids))))
        return [scores.logp_N.double().cpu().numpy() for scores in self.measure(policy, texts, PLAIN)]

    @torch.no_grad()
    def following(self, policy: str | None, ids: Sequence[int], lengths: Sequence[int]) -> np.ndarray:
        """(K, V) log-probs, at temperature 1, of every token after the first `lengths` ids, float64."""
        with self.bank.use(None if policy == f"{FROZEN}base" else policy):
            hidden = self.bank.hidden(torch.tensor([list(ids)], device=self.bank.device), use_cache=False)
            logits = self.bank.head(hidden[0, [length - 1 for length in lengths]])
        return torch.log_softmax(logits[:, : self.bank.config.vocab_size].double(), -1).cpu().numpy()

    @torch.no_grad()
    def measure(self, policy: str | None, rows: Sequence[Sequenced], sampling: Sampling) -> list[TokenScores]:
        """Scores of every row's targets under `sampling`, without gradient, on the bank's device."""
        found: list[TokenScores | None] = [None] * len(rows)
        with self.bank.use(None if policy == f"{FROZEN}base" else policy):
            for batch in self.bank.shards.even(self.passes.batches(rows), lambda number: self.idle()):
                part = [rows[number] for number in batch]
                sizes = [len(row.targets) for row in part]
                pieces = zip(*(column.split(sizes) for column in self.forward(part, sampling=sampling)), strict=True)
                for number, columns in zip(batch, pieces, strict=True):
                    found[number] = TokenScores(*columns)
        return found

    def forward(
        self, *parts: Sequence[Sequenced], sampling: Sampling = PLAIN, entropy_gradient: bool = False
    ) -> TokenScores:
        """Scores of the rows' targets, one after the other, in one pass of the adapter in use, with gradient.

        parts: the rows of each adapter of a mixed pass; else there is one part.
        """
        hidden_N = self.passes.hidden(*parts)
        target = np.concatenate([row.ids[row.targets] for rows in parts for row in rows])
        target_N = torch.from_numpy(target).to(hidden_N.device)
        vocabulary = self.bank.config.vocab_size
        with self.bank.shards.held(self.bank.base.get_output_embeddings()):
            return token_scores(
                self.bank.head, hidden_N, target_N, sampling, vocabulary=vocabulary, entropy_gradient=entropy_gradient
            )

    def idle(self) -> torch.Tensor:
        """A pass of the adapter in use over next to nothing: a zero, with gradient."""
        text = _Text(np.zeros(2, dtype=np.int64), np.ones(1, dtype=np.int64))
        return self.forward([text]).logp_N.sum() * 0.0
