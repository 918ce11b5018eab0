"""The critic: a value head on the shared base, with an adapter of its own.

One output per seat reads the hidden state at a decision. Returns are normalised by a running mean and deviation, and
the head is rescaled when these move, so that what it predicts stays as it was (PopArt, 1602.07714). Nothing of it is
published: it lives in the checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from marft.bank import AdapterBank
from marft.config import Adapter
from marft.config import Critic as CriticSettings
from marft.passes import Passes
from marft.seeds import derive
from marft.train.optimizer import Learner, apply_gradient, flat_gradient, learning_rate, make_optimizer
from marft.train.views import View
from marft.train.workers import Workers

NAME = "critic:value"
"""The adapter's name in the bank; no agent can be called so."""
MEMORY = 0.95
"""How much of the running mean and deviation of returns an update keeps."""


class Critic:
    """Values of decisions, and how they are learned."""

    def __init__(
        self,
        bank: AdapterBank,
        settings: CriticSettings,
        adapter: Adapter,
        seats: int,
        seed: int,
        updates: int,
        token_budget: int,
        workers: Workers,
    ) -> None:
        self.bank, self.settings, self.workers = bank, settings, workers
        self.seed, self.updates, self.passes = seed, updates, Passes(bank, token_budget)
        bank.add(NAME, settings.adapter or adapter, seed)
        width = bank.base.get_output_embeddings().in_features
        self.head = nn.Linear(width, seats, device=bank.device, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.mean = torch.zeros((), dtype=torch.float64)
        self.deviation = torch.ones((), dtype=torch.float64)
        self.seen = torch.zeros((), dtype=torch.float64)
        options = settings.optimizer
        self.learner = Learner(NAME, make_optimizer(self.parameters(), options, workers), options)

    def parameters(self) -> list[nn.Parameter]:
        return [*self.bank.parameters(NAME), *self.head.parameters()]

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """All that is learned, under the names it has in a checkpoint."""
        return self.bank.named_parameters(NAME) | {f"head.{name}": p for name, p in self.head.named_parameters()}

    def statistics(self) -> dict[str, Tensor]:
        """The running statistics of returns, to be saved and put back."""
        return {"mean": self.mean, "deviation": self.deviation, "seen": self.seen}

    def restore_statistics(self, stored: Mapping[str, Tensor]) -> None:
        self.mean, self.deviation, self.seen = stored["mean"], stored["deviation"], stored["seen"]

    def values(self, views: Sequence[View]) -> list[np.ndarray]:
        """The value at each view's places, (M,) float64 each."""
        found: list[np.ndarray | None] = [None] * len(views)
        with torch.no_grad():
            for batch, scaled_M in self._passes(views):
                value_M = scaled_M.double().cpu() * self.deviation + self.mean
                for number, piece in zip(batch, value_M.split([len(views[n].turn) for n in batch]), strict=True):
                    found[number] = piece.numpy()
        return found

    def update(self, views: Sequence[View], targets: Sequence[np.ndarray], number: int) -> dict[str, float]:
        """Regress the values on `targets`, (M,) each; every process calls it. `number`: of the run's update."""
        before = self.values(views)
        moments = self._moments(np.concatenate(targets) if targets else np.zeros(0))
        count = float(moments[0])
        if not count:
            return {}
        self._renormalise(moments)
        losses = []
        for epoch in range(self.settings.epochs):
            for part in self._parts(len(views), number, epoch):
                losses.append(self._step([views[n] for n in part], [targets[n] for n in part], number))
        error = sum(float(np.square(aim - value).sum()) for aim, value in zip(targets, before, strict=True))
        loss = float(np.mean(losses[-self.settings.minibatches :]))
        sums = self.workers.sum(torch.tensor([loss, error], dtype=torch.float64, device=self.bank.device)).tolist()
        spread = float(moments[2] - moments[1] ** 2 / count)
        explained = 1 - sums[1] / spread if spread > 0 else float("nan")
        return {"loss": sums[0], "explained_variance": explained, "mean_target": float(moments[1]) / count}

    def _parts(self, count: int, number: int, epoch: int) -> list[np.ndarray]:
        """View numbers of each optimizer step of a pass."""
        order = np.arange(count)
        if self.settings.minibatches > 1:
            place = (self.workers.rank, number, epoch)
            np.random.default_rng(derive(self.seed, "critic", *place)).shuffle(order)
        return np.array_split(order, self.settings.minibatches)

    def _step(self, views: Sequence[View], targets: Sequence[np.ndarray], number: int) -> float:
        """One optimizer step on these views; returns this process's part of the loss."""
        sizes = torch.tensor([float(sum(map(len, targets)))], dtype=torch.float64, device=self.bank.device)
        count = float(self.workers.sum(sizes))
        if not count:
            return 0.0
        parameters, optimizer, loss = self.parameters(), self.learner.optimizer, 0.0
        optimizer.zero_grad(set_to_none=True)
        for batch, scaled_M in self._passes(views):
            aim_M = torch.from_numpy(np.concatenate([targets[n] for n in batch]))
            aim_M = ((aim_M - self.mean) / self.deviation).to(scaled_M)
            part = 0.5 * (scaled_M - aim_M).square().sum() / count
            part.backward()
            loss += float(part.detach())
        rate = learning_rate(self.settings.optimizer, number, self.updates)
        flat = self.workers.reduced(flat_gradient(parameters))
        most = self.settings.optimizer.max_grad_norm
        apply_gradient(optimizer, parameters, flat, rate, most, self.workers.norm(flat))
        return loss

    def _passes(self, views: Sequence[View]) -> Iterator[tuple[list[int], Tensor]]:
        """Micro-batches of views, with the head's normalised output at their places."""
        for batch in self.bank.shards.even(self.passes.batches(views), self._idle):
            part = [views[number] for number in batch]
            with self.bank.use(NAME):
                hidden_M = self.passes.hidden(part)
                seat_M = torch.from_numpy(np.concatenate([view.seat for view in part])).to(hidden_M.device)
                yield batch, self.head(hidden_M.float()).gather(-1, seat_M[:, None]).squeeze(-1)

    def _idle(self, number: int) -> None:
        """A pass over next to nothing, backward too where the others' are."""
        with self.bank.use(NAME):
            nothing = self.bank.hidden(torch.zeros((1, 1), dtype=torch.int64, device=self.bank.device), use_cache=False)
            if nothing.requires_grad:
                (nothing.sum() * 0.0).backward()

    def _moments(self, target_M: np.ndarray) -> Tensor:
        """Count, sum and sum of squares over all processes."""
        parts = [float(len(target_M)), float(target_M.sum()), float(np.square(target_M).sum())]
        return self.workers.sum(torch.tensor(parts, dtype=torch.float64, device=self.bank.device)).cpu()

    @torch.no_grad()
    def _renormalise(self, moments: Tensor) -> None:
        count, total, square = moments
        mean, variance = total / count, (square / count - (total / count) ** 2).clamp(min=0.0)
        keep = MEMORY if self.seen else 0.0
        power = keep * (self.deviation**2 + self.mean**2) + (1 - keep) * (variance + mean**2)
        new_mean = keep * self.mean + (1 - keep) * mean
        new_deviation = (power - new_mean**2).clamp(min=0.0).sqrt()
        new_deviation = new_deviation if new_deviation > 1e-8 else torch.ones_like(new_deviation)
        ratio = (self.deviation / new_deviation).item()
        self.head.weight *= ratio
        self.head.bias.copy_(self.head.bias * ratio + ((self.mean - new_mean) / new_deviation).item())
        self.mean, self.deviation, self.seen = new_mean, new_deviation, self.seen + 1
