"""One agent's update: rows to loss, loss to gradient, gradient to a clipped AdamW step.

Micro-batches only bound memory: token weights are fixed for the whole batch beforehand, so the gradient is that of the
batch, however it is cut and over however many processes it is spread. Nothing is changed before the gradient is
complete and the engine has been found to agree with the trainer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from marft.bank import AdapterBank
from marft.blocks import Algorithm
from marft.config import Optimizer, Sampling, Train
from marft.errors import EngineError
from marft.logprobs import token_scores
from marft.loss import Totals, count_totals, policy_loss, token_weights
from marft.seeds import derive
from marft.train.rows import Row, collate, micro_batches
from marft.train.workers import Workers


@dataclass
class Learner:
    """An agent's training state. `version` counts its updates; the engine's adapter of that version made the rows."""

    name: str
    optimizer: torch.optim.AdamW
    settings: Optimizer
    version: int = 0


def make_learner(bank: AdapterBank, name: str, settings: Optimizer) -> Learner:
    """A learner with a fresh AdamW over the agent's adapter."""
    optimizer = torch.optim.AdamW(
        bank.parameters(name),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    return Learner(name, optimizer, settings)


def learning_rate(settings: Optimizer, update: int, updates: int) -> float:
    """The learning rate of update number `update` of `updates`: a linear rise, then the schedule's fall."""
    rise = min(1.0, (update + 1) / (settings.warmup_updates + 1))
    done = min(1.0, update / updates)
    fall = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[settings.schedule]
    return settings.learning_rate * rise * fall


@dataclass
class Updater:
    """What all agents' updates share."""

    bank: AdapterBank
    algorithm: Algorithm
    sampling: Sampling
    train: Train
    workers: Workers
    seed: int

    def update(self, learner: Learner, rows: Sequence[Row]) -> dict[str, float]:
        """Train `learner` on its rows of this process; every process must call it. Returns what to report."""
        old = self._old_logprobs(learner, rows)
        reports = []
        for epoch in range(self.train.epochs):
            for part in self._parts(learner, len(rows), epoch):
                first = not reports
                old_part = [old[number] for number in part] if old is not None else None
                reports.append(self._step(learner, [rows[number] for number in part], old_part, first))
        learner.version += 1
        made = [report for report in reports if report["trained"]] or reports[:1]
        mean = {key: float(np.mean([report[key] for report in made])) for key in made[0]}
        counts = {key: sum(report[key] for report in made) for key in ("tokens", "trained")}
        return mean | counts | {key: made[0][key] for key in ("gap", "gap_max")}

    def _parts(self, learner: Learner, count: int, epoch: int) -> list[np.ndarray]:
        """Row numbers of each optimizer step; shuffled only where there are several."""
        order = np.arange(count)
        if self.train.minibatches > 1:
            place = (self.workers.rank, learner.name, learner.version, epoch)
            np.random.default_rng(derive(self.seed, "minibatch", *place)).shuffle(order)
        return np.array_split(order, self.train.minibatches)

    def _old_logprobs(self, learner: Learner, rows: Sequence[Row]) -> list[Tensor] | None:
        """Log-probs at the start of the update; None where a single step makes them the current ones."""
        if self.train.epochs * self.train.minibatches == 1:
            return None
        old: list[Tensor | None] = [None] * len(rows)
        with torch.no_grad(), self.bank.use(learner.name):
            for batch in micro_batches(rows, self.train.token_budget):
                part = [rows[number] for number in batch]
                logp_N = self._score(part)[0]
                for number, piece in zip(batch, logp_N.split([len(row.targets) for row in part]), strict=True):
                    old[number] = piece
        return old

    def _step(self, learner: Learner, rows: Sequence[Row], old: list[Tensor] | None, check: bool) -> dict[str, float]:
        """One optimizer step on `rows`; none where no process has any, since momentum alone would move the adapter."""
        parameters = self.bank.parameters(learner.name)
        learner.optimizer.zero_grad(set_to_none=True)  # what a step that failed may have left
        rate = learning_rate(learner.settings, learner.version, self.train.updates)
        report = self._accumulate(learner, rows, old)
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
        flat = self.workers.sum(flat)
        report = self._totals(report)
        if not report["trained"]:
            return report | {"grad_norm": 0.0, "learning_rate": rate}
        if check:
            self._check_gap(learner, report)
        norm = float(flat.norm())
        if not np.isfinite(norm):
            raise EngineError(f"update: the gradient of {learner.name} is not finite; lower optimizer.learning_rate")
        flat *= min(1.0, learner.settings.max_grad_norm / (norm + 1e-6))
        pieces = flat.split([parameter.numel() for parameter in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
        for group in learner.optimizer.param_groups:
            group["lr"] = rate
        learner.optimizer.step()
        learner.optimizer.zero_grad(set_to_none=True)  # agents take turns: only one gradient is ever in memory
        return report | {"grad_norm": norm, "learning_rate": rate}

    def _accumulate(self, learner: Learner, rows: Sequence[Row], old: list[Tensor] | None) -> dict[str, float]:
        """Forward and backward over all micro-batches; gradients add up in the parameters."""
        row_N = np.repeat(np.arange(len(rows)), [len(row.targets) for row in rows])
        turn_N = np.concatenate([row.turn for row in rows]) if rows else np.zeros(0, dtype=np.int64)
        counts = torch.tensor(count_totals(row_N, turn_N), dtype=torch.float64, device=self.bank.device)
        totals = Totals(*(int(count) for count in self.workers.sum(counts)))
        weight_N = token_weights(self.algorithm.aggregate, row_N, turn_N, totals, torch.float64)
        weights = weight_N.split([len(row.targets) for row in rows])
        report: dict[str, float] = {"tokens": float(sum(map(len, rows))), "trained": float(len(row_N)), "gap_max": 0.0}
        device = self.bank.device
        for number, batch in enumerate(micro_batches(rows, self.train.token_budget)):
            part = [rows[row] for row in batch]
            reference = self._reference(part) if self.algorithm.kl.coef or number == 0 else None
            with self.bank.use(learner.name):
                logp_N, entropy_N, gap_N = self._score(part)
                loss, stats = policy_loss(
                    self.algorithm,
                    logp_N,
                    torch.cat([old[row] for row in batch]) if old is not None else None,
                    self._tensor([row.engine for row in part], logp_N),
                    reference if self.algorithm.kl.coef else None,
                    self._tensor([row.advantage for row in part], logp_N),
                    torch.cat([weights[row] for row in batch]).to(logp_N),
                    entropy_N,
                    row_N=torch.from_numpy(np.repeat(np.arange(len(part)), [len(row.targets) for row in part])).to(
                        device
                    ),
                    turn_N=torch.from_numpy(np.concatenate([row.turn for row in part])).to(device),
                )
                loss.backward()
            weight = torch.cat([weights[row] for row in batch]).to(gap_N)
            stats |= {"loss": loss.detach(), "gap": (weight * gap_N).sum()}
            if reference is not None and not self.algorithm.kl.coef:
                # not in the loss, so it is measured on the first micro-batch alone, which costs one forward pass
                stats["kl_sample"] = (reference - logp_N.detach()).expm1().sub(reference - logp_N.detach()).sum()
                stats["kl_tokens"] = torch.tensor(float(len(logp_N)))
            report["gap_max"] = max(report["gap_max"], float(gap_N.max()))
            for key, value in stats.items():
                if key != "gap_max":
                    report[key] = report.get(key, 0.0) + float(value)
        return report

    def _score(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
        """(log-prob, entropy, |log-prob gap to the engine|) of every trained token, under the adapter in use."""
        ids_RL, predictor_N = collate(rows)
        device = self.bank.device
        hidden = self.bank.hidden(torch.from_numpy(ids_RL).to(device), use_cache=False)
        hidden_N = hidden.reshape(-1, hidden.shape[-1])[torch.from_numpy(predictor_N).to(device)]
        target_N = torch.from_numpy(np.concatenate([row.ids[row.targets] for row in rows])).to(device)
        scores = token_scores(
            self.bank.head,
            hidden_N,
            target_N,
            self.sampling,
            vocabulary=self.bank.config.vocab_size,
            entropy_gradient=self.algorithm.entropy != 0,
        )
        gap_N = (scores.sampled_N - self._tensor([row.engine for row in rows], scores.sampled_N)).abs()
        return scores.logp_N, scores.entropy_N, gap_N

    def _reference(self, rows: Sequence[Row]) -> Tensor:
        """Log-probs of the trained tokens under the base, adapters off."""
        with torch.no_grad(), self.bank.use(None):
            return self._score(rows)[0]

    def _tensor(self, pieces: Sequence[np.ndarray], like: Tensor) -> Tensor:
        return torch.from_numpy(np.concatenate(pieces)).to(like)

    def _totals(self, report: dict[str, float]) -> dict[str, float]:
        """Sums over processes, and the KL sample turned into a mean."""
        values = torch.tensor([report.get(key, 0.0) for key in SUMMED], dtype=torch.float64, device=self.bank.device)
        worst = self.workers.gather([report["gap_max"]])
        total = dict(zip(SUMMED, self.workers.sum(values).tolist(), strict=True)) | {"gap_max": max(worst)}
        sample, tokens = total.pop("kl_sample"), total.pop("kl_tokens")
        return total | ({"kl": sample / tokens} if tokens else {})

    def _check_gap(self, learner: Learner, report: dict[str, float]) -> None:
        if not report["gap"] <= self.train.gap_limit:
            raise EngineError(
                f"update {learner.version}: the engine's log-probs of {learner.name} differ from the trainer's by "
                f"{report['gap']:.4g} on average (at most {report['gap_max']:.4g}); train.gap_limit is "
                f"{self.train.gap_limit}. The engine does not play with the adapter that is being trained"
            )


SUMMED = (
    "loss",
    "policy",
    "kl",
    "kl_sample",
    "kl_tokens",
    "entropy",
    "clip_fraction",
    "approximate_kl",
    "off_policy_weight",
    "gap",
    "tokens",
    "trained",
)
