"""Rows to gradients, which add up in the adapters' parameters.

A pass holds rows of one agent, or of several (a mixed pass); either way each agent's loss is its own. Passes only bound
memory: the weights of tokens are fixed for the whole batch beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from marft.bank import AdapterBank
from marft.blocks import Algorithm
from marft.config import Sampling
from marft.logprobs import LOGITS_AT_ONCE, TokenScores
from marft.loss import Batch, Totals, clipping_bias, count_totals, policy_loss, token_weights
from marft.scoring import Scorer
from marft.train.optimizer import Learner, flatten
from marft.train.rows import Row

KL_SAMPLE, KL_LEAST, KL_SHARE = 1024, 256, 8
"""Tokens, about, of the rows that a KL which is not in the loss is measured on: at most, always (where there are so
many), and of how many one; fewer where the vocabulary is so large that their logits would not be made at once."""


@dataclass
class Job:
    """Who learns, by what, in which update of the run, and which mini-batch it is at.

    version: the learner's at the update's start.
    """

    learner: Learner
    algorithm: Algorithm
    number: int
    version: int
    entropy_history: float | None = None
    minibatch: int = 0


@dataclass
class Work:
    """One agent's rows of one step, and what their passes add up to.

    old: log-probs at the update's start, where they are not the present ones. totals: what the weights of tokens are
    shares of. sample: whether to measure a KL that is not in the loss. report: sums over tokens, weighed as the loss
    is. bias: the gradient of the clipping bias, where the algorithm corrects for it.
    """

    job: Job
    rows: Sequence[Row]
    old: list[Tensor] | None
    totals: Totals
    sample: bool = True
    report: dict[str, float] = field(default_factory=dict)
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        row_N, turn_N, copies_N = columns(self.rows)
        self.report |= {"tokens": float(sum(map(len, self.rows))), "trained": float(len(row_N)), "gap_max": 0.0}
        aggregate = self.job.algorithm.aggregate
        weight_N = token_weights(aggregate, row_N, turn_N, self.totals, torch.float64, copies_N)
        self.weights = weight_N.split([len(row.targets) for row in self.rows])

    @property
    def name(self) -> str:
        return self.job.learner.name


class _Part(NamedTuple):
    """The rows of a work that are in a pass, by number; their anchor's log-probs where these are wanted."""

    work: Work
    batch: list[int]
    reference: Tensor | None

    @property
    def rows(self) -> list[Row]:
        return [self.work.rows[number] for number in self.batch]


@dataclass
class Gradients:
    """Forward and backward. anchors: see `Updater`."""

    bank: AdapterBank
    scorer: Scorer
    sampling: Sampling
    anchors: dict[str, str]

    def add(self, work: Work) -> None:
        """All passes of one agent's rows."""
        for batch in self.bank.shards.even(self.scorer.passes.batches(work.rows), lambda number: self._idle(work)):
            part = self._part(work, batch)
            with self.bank.use(work.name):
                self._backward([part])

    def add_mixed(self, works: Sequence[Work]) -> None:
        """The same of several agents, whose rows share passes."""
        everyone = [(one, number) for one, work in enumerate(works) for number in range(len(work.rows))]
        rows, owners = [works[one].rows[number] for one, number in everyone], [one for one, _ in everyone]
        for batch in self.scorer.passes.batches(rows, owners):
            inside: dict[int, list[int]] = {}
            for place in batch:
                one, number = everyone[place]
                inside.setdefault(one, []).append(number)
            parts = [self._part(works[one], numbers) for one, numbers in sorted(inside.items())]
            with self.bank.mixed([(part.work.name, self.scorer.passes.tokens(part.rows)) for part in parts]):
                self._backward(parts)

    def _part(self, work: Work, batch: list[int]) -> _Part:
        """With log-probs under the anchor: the base with adapters off, or another adapter."""
        part = _Part(work, batch, None)
        if not self._refers(work):
            return part
        # where it is not in the loss, it is measured on the first rows alone
        share = max(KL_LEAST, sum(len(row.targets) for row in work.rows) // KL_SHARE)
        few = min(KL_SAMPLE, share, LOGITS_AT_ONCE // self.bank.config.vocab_size)
        asked = part.rows if _in_loss(work) else _first(part.rows, few)
        with torch.no_grad(), self.bank.use(self.anchors.get(work.name)):
            return part._replace(reference=self.scorer.forward(asked, sampling=self.sampling).logp_N)

    def _refers(self, work: Work) -> bool:
        """Whether the next pass has one of the anchor beside it: where that is not in the loss, the first has."""
        sample, work.sample = work.sample, False
        return bool(_in_loss(work) or sample)

    def _idle(self, work: Work) -> None:
        """The passes that a micro-batch would make, for a process that has none left."""
        if self._refers(work):
            with torch.no_grad(), self.bank.use(self.anchors.get(work.name)):
                self.scorer.idle()
        with self.bank.use(work.name):
            self.scorer.idle().backward()

    def _backward(self, parts: Sequence[_Part]) -> None:
        """One pass through the model and back."""
        sloped = any(_entropy_counts(part.work.job.algorithm) for part in parts)
        scores = self.scorer.forward(*(part.rows for part in parts), sampling=self.sampling, entropy_gradient=sloped)
        sizes = [sum(len(row.targets) for row in part.rows) for part in parts]
        pieces = zip(*(column.split(sizes) for column in scores), strict=True)
        losses = [self._loss(part, TokenScores(*piece)) for part, piece in zip(parts, pieces, strict=True)]
        torch.stack(losses).sum().backward()

    def _loss(self, part: _Part, scores: TokenScores) -> Tensor:
        """The loss of a work's rows in this pass; what there is to report is added to the work."""
        work, rows, device = part.work, part.rows, self.bank.device
        job, algorithm = work.job, work.job.algorithm
        logp_N = scores.logp_N
        gap_N = (scores.sampled_N - tensor_of([row.engine for row in rows], scores.sampled_N)).abs()
        sizes = torch.tensor([len(row.targets) for row in rows])
        given = {
            "old_N": torch.cat([work.old[number] for number in part.batch]) if work.old is not None else None,
            "engine_N": tensor_of([row.engine for row in rows], logp_N),
            "advantage_N": tensor_of([row.advantage for row in rows], logp_N),
        }
        weight_N = torch.cat([work.weights[number] for number in part.batch]).to(logp_N)
        about: dict[str, Any] = {
            "row_N": torch.arange(len(rows)).repeat_interleave(sizes).to(device),
            "turn_N": torch.from_numpy(np.concatenate([row.turn for row in rows])).to(device),
            "foreign_N": torch.tensor([row.foreign for row in rows]).repeat_interleave(sizes).to(device),
            "minibatch": job.minibatch,
        }
        loss, stats = policy_loss(
            algorithm,
            logp_N,
            ref_N=part.reference if _in_loss(work) else None,
            weight_N=weight_N,
            entropy_N=scores.entropy_N,
            entropy_history=job.entropy_history,
            **given,
            **about,
        )
        if algorithm.ratio.correct_clipping:
            batch_N = Batch(**given | {"old_N": logp_N.detach() if work.old is None else given["old_N"]}, **about)
            self._add_bias(work, clipping_bias(algorithm, logp_N, weight_N, batch_N))
        own_N = ~about["foreign_N"]
        now_N = torch.from_numpy(np.concatenate([row.played_by(job.version) for row in rows])).to(device)
        gap_N = torch.where(now_N, gap_N, torch.zeros_like(gap_N))
        stats |= {"loss": loss.detach(), "gap": (weight_N * gap_N).sum(), "own_weight": (weight_N * own_N).sum()}
        stats |= {"weight": weight_N.sum(), "now_weight": (weight_N * now_N).sum()}
        if part.reference is not None and not _in_loss(work):
            log_ratio_N = part.reference - logp_N.detach()[: len(part.reference)]
            stats |= {"kl_sample": (log_ratio_N.expm1() - log_ratio_N).sum(), "kl_tokens": float(len(log_ratio_N))}
        work.report["gap_max"] = max(work.report["gap_max"], float(gap_N.max()))
        for key, value in stats.items():
            if key != "gap_max":
                work.report[key] = work.report.get(key, 0.0) + float(value)
        return loss

    def _add_bias(self, work: Work, removed: Tensor) -> None:
        parameters = self.bank.parameters(work.name)
        found = torch.autograd.grad(removed, parameters, retain_graph=True, allow_unused=True)
        flat = flatten(found, parameters)
        work.bias = flat if work.bias is None else work.bias + flat


def _first(rows: list[Row], tokens: int) -> list[Row]:
    """The first of these rows, until they hold so many tokens; one at least."""
    before = np.cumsum([0, *map(len, rows)])[:-1]
    return rows[: int((before < tokens).sum())]


def columns(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) row, turn and copies of each trained token."""
    row_N = np.repeat(np.arange(len(rows)), [len(row.targets) for row in rows])
    turn_N = np.concatenate([row.turn for row in rows]) if rows else np.zeros(0, dtype=np.int64)
    copies_N = np.concatenate([row.copies for row in rows]) if rows else np.zeros(0)
    return row_N, turn_N, copies_N


def totals_of(rows: Sequence[Row]) -> Totals:
    """What these rows add to the batch's totals."""
    return count_totals(*columns(rows))


def _in_loss(work: Work) -> bool:
    return bool(work.job.algorithm.kl.coef) and work.job.algorithm.kl.where == "loss"


def _entropy_counts(algorithm: Algorithm) -> bool:
    return algorithm.entropy != 0 or algorithm.entropy_band.kind != "none"


def tensor_of(pieces: Sequence[np.ndarray], like: Tensor) -> Tensor:
    """The pieces one after the other, of the same type and on the same device as `like`."""
    return torch.from_numpy(np.concatenate(pieces)).to(like)
