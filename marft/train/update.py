"""One agent's update: rows to loss, loss to gradient, gradient to a clipped AdamW step.

Micro-batches only bound memory: token weights are fixed for the whole batch beforehand, so the gradient is that of the
batch, however it is cut and over however many processes it is spread. Nothing is changed before the gradient is
complete and the engine has been found to agree with the trainer, on what the present version played.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from marft.bank import AdapterBank
from marft.blocks import Algorithm
from marft.config import Sampling, Train
from marft.credit.order import stop_early
from marft.errors import EngineError
from marft.logprobs import TokenScores
from marft.loss import (
    Batch,
    Totals,
    clipping_bias,
    correct_clipping,
    count_totals,
    divisor,
    policy_loss,
    token_weights,
)
from marft.scoring import Scorer
from marft.seeds import derive
from marft.train.optimizer import Learner, apply_gradient, flat_gradient, flatten, learning_rate
from marft.train.rows import Row
from marft.train.workers import Workers


@dataclass
class _Job:
    """One call of `update`: who learns, by what, in which update of the run, and which mini-batch it is at.

    version: the learner's at the update's start.
    """

    learner: Learner
    algorithm: Algorithm
    number: int
    version: int
    entropy_history: float | None = None
    minibatch: int = 0


@dataclass
class Sums:
    """An agent's gradient while rows of its one step still come in; it adds up in the parameters, undivided.

    report: likewise undivided. totals: of this process's rows, what the step will divide by.
    """

    job: _Job
    report: dict[str, float] = field(default_factory=dict)
    totals: tuple[float, ...] = (0.0, 0.0, 0.0)
    bias: Tensor | None = None


@dataclass
class Updater:
    """What all agents' updates share.

    anchors: the adapter of the bank that an agent's KL term looks at, where that is not the base.
    """

    bank: AdapterBank
    algorithm: Algorithm
    sampling: Sampling
    train: Train
    workers: Workers
    seed: int
    anchors: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scorer = Scorer(self.bank, self.train.token_budget)

    def update(
        self,
        learner: Learner,
        rows: Sequence[Row],
        *,
        number: int | None = None,
        first: bool = True,
        played: bool = True,
        algorithm: Algorithm | None = None,
        entropy_history: float | None = None,
    ) -> dict[str, float]:
        """Train `learner` on its rows of this process; every process must call it. Returns what to report.

        number: of the run's update, for the learning rate (default: the learner's version). first: of the update's
        stages, which together are one version. played: whether the adapter still is the one that played, so that it is
        checked against the engine. algorithm: where it differs from the recipe's in this update. entropy_history: see
        `policy_loss`.
        """
        number = learner.version if number is None else number
        version = learner.version if first else learner.version - 1
        job = _Job(learner, algorithm or self.algorithm, number, version, entropy_history)
        old = self._old_logprobs(learner, rows)
        reports: list[dict[str, float]] = []
        for job.minibatch, part in enumerate(self._parts(learner, len(rows), number)):
            old_part = [old[row] for row in part] if old is not None else None
            check = played and not any(report["trained"] for report in reports)
            reports.append(self._step(job, [rows[row] for row in part], old_part, check))
            if stop_early(job.algorithm.update, reports[-1]["approximate_kl"]):
                break
        learner.version += first
        made = [report for report in reports if report["trained"]] or reports[:1]
        mean = {key: float(np.mean([report[key] for report in made])) for key in made[0]}
        counts = {key: sum(report[key] for report in made) for key in ("tokens", "trained")}
        return mean | counts | {key: made[0][key] for key in ("gap", "gap_max")} | {"steps": float(len(reports))}

    def begin(self, learner: Learner, number: int) -> Sums:
        """Start a step whose rows come in pieces; weights stay as they are until its `finish`."""
        learner.optimizer.zero_grad(set_to_none=True)
        return Sums(_Job(learner, self.algorithm, number, learner.version))

    def add(self, sums: Sums, rows: Sequence[Row]) -> None:
        """The gradient of further rows, whole groups; processes need not call it equally often."""
        if not rows:
            return
        report, bias = self._accumulate(sums.job, rows, None, Totals(1.0, 1.0, 1.0), sample=not sums.report)
        for key, value in report.items():
            known = sums.report.get(key, 0.0)
            sums.report[key] = max(known, value) if key == "gap_max" else known + value
        sums.totals = tuple(map(sum, zip(sums.totals, _count(rows), strict=True)))
        if bias is not None:
            sums.bias = bias if sums.bias is None else sums.bias + bias

    def finish(self, sums: Sums) -> dict[str, float]:
        """The step along the gradient of all rows, as `update` would have made it; every process calls it."""
        job = sums.job
        whole = divisor(job.algorithm.aggregate, self._summed(sums.totals))
        report = {key: value if key in UNDIVIDED else value / whole for key, value in sums.report.items()}
        parameters = self.bank.parameters(job.learner.name)
        if job.algorithm.ratio.correct_clipping:
            zero = flatten([None] * len(parameters), parameters)
            sums.bias = zero if sums.bias is None else sums.bias / whole
        report = {"gap_max": 0.0} | report
        report = self._descend(job, report, sums.bias, flat_gradient(parameters) / whole, check=True)
        job.learner.version += 1
        return report | {"steps": 1.0}

    def _parts(self, learner: Learner, count: int, number: int) -> Iterator[np.ndarray]:
        """Row numbers of each optimizer step; shuffled only where there are several in a pass."""
        for epoch in range(self.train.epochs):
            order = np.arange(count)
            if self.train.minibatches > 1:
                place = (self.workers.rank, learner.name, number, epoch)
                np.random.default_rng(derive(self.seed, "minibatch", *place)).shuffle(order)
            yield from np.array_split(order, self.train.minibatches)

    def _old_logprobs(self, learner: Learner, rows: Sequence[Row]) -> list[Tensor] | None:
        """Log-probs at the start of the update; None where a single step makes them the current ones.

        A row that another agent sampled is compared with that agent's policy: its engine's log-probs.
        """
        if self.train.epochs * self.train.minibatches == 1 and not any(row.foreign for row in rows):
            return None
        old = self.logprobs(learner, rows)
        pairs = zip(rows, old, strict=True)
        return [self._tensor([row.engine], piece) if row.foreign else piece for row, piece in pairs]

    def mean_entropy(self, learner: Learner, rows: Sequence[Row]) -> float:
        """Mean entropy over the trained tokens of all processes."""
        total = sum(float(scores.entropy_N.double().sum()) for scores in self._measure(learner.name, rows))
        sums = torch.tensor([total, sum(len(row.targets) for row in rows)], dtype=torch.float64)
        total, count = self.workers.sum(sums.to(self.bank.device)).tolist()
        return total / max(count, 1.0)

    def log_ratios(self, learner: Learner, rows: Sequence[Row], old: Sequence[Tensor]) -> np.ndarray:
        """(N,) log π_now − log π_old over the rows' trained tokens, one row after the other."""
        now = self._measure(learner.name, rows)
        found = [(one.logp_N - other).double().cpu().numpy() for one, other in zip(now, old, strict=True)]
        return np.concatenate(found) if found else np.zeros(0)

    def logprobs(self, learner: Learner, rows: Sequence[Row]) -> list[Tensor]:
        """Tempered log-probs of every row's trained tokens under the learner's present adapter."""
        return [scores.logp_N for scores in self._measure(learner.name, rows)]

    def _measure(self, policy: str | None, rows: Sequence[Row]) -> list[TokenScores]:
        return self.scorer.measure(policy, rows, self.sampling)

    def _step(self, job: _Job, rows: Sequence[Row], old: list[Tensor] | None, check: bool) -> dict[str, float]:
        """One optimizer step on `rows`; none where no process has any, since momentum alone would move the adapter."""
        job.learner.optimizer.zero_grad(set_to_none=True)  # what a step that failed may have left
        report, bias = self._accumulate(job, rows, old, self._summed(_count(rows)))
        return self._descend(job, report, bias, flat_gradient(self.bank.parameters(job.learner.name)), check)

    def _descend(
        self, job: _Job, report: dict[str, float], bias: Tensor | None, flat: Tensor, check: bool
    ) -> dict[str, float]:
        """Sum gradient and report over the processes and make the step."""
        learner = job.learner
        parameters = self.bank.parameters(learner.name)
        rate = learning_rate(learner.settings, job.number, self.train.updates)
        flat = self.workers.sum(flat)
        report = self._totals(report)
        measured = report.pop("now_weight")
        if not report["trained"]:
            return report | {"grad_norm": 0.0, "learning_rate": rate}
        if check and measured:
            self._check_gap(learner, report)
        if bias is not None:
            bias = self.workers.sum(bias)
            report["clip_bias"] = float(bias.norm())
            flat = correct_clipping(flat, bias)
        norm = float(flat.norm())
        if not np.isfinite(norm):
            raise EngineError(f"update: the gradient of {learner.name} is not finite; lower optimizer.learning_rate")
        apply_gradient(learner.optimizer, parameters, flat, rate, learner.settings.max_grad_norm)
        return report | {"grad_norm": norm, "learning_rate": rate}

    def _summed(self, counts: Sequence[float]) -> Totals:
        """The totals over all processes."""
        sums = torch.tensor(counts, dtype=torch.float64, device=self.bank.device)
        return Totals(*self.workers.sum(sums).tolist())

    def _accumulate(
        self, job: _Job, rows: Sequence[Row], old: list[Tensor] | None, totals: Totals, sample: bool = True
    ) -> tuple[dict[str, float], Tensor | None]:
        """Forward and backward over all micro-batches; gradients add up in the parameters.

        totals: what the weights are shares of. sample: whether to measure a KL that is not in the loss. Returns the
        report, and the gradient of the clipping bias where the algorithm corrects for it.
        """
        algorithm, device = job.algorithm, self.bank.device
        row_N, turn_N, copies_N = _ids(rows)
        weight_N = token_weights(algorithm.aggregate, row_N, turn_N, totals, torch.float64, copies_N)
        weights = weight_N.split([len(row.targets) for row in rows])
        report: dict[str, float] = {"tokens": float(sum(map(len, rows))), "trained": float(len(row_N)), "gap_max": 0.0}
        parameters = self.bank.parameters(job.learner.name)
        bias = flatten([None] * len(parameters), parameters) if algorithm.ratio.correct_clipping else None
        in_loss = algorithm.kl.coef and algorithm.kl.where == "loss"
        for number, batch in enumerate(self.scorer.passes.batches(rows)):
            part = [rows[row] for row in batch]
            reference = self._reference(job.learner, part) if in_loss or (sample and number == 0) else None
            with self.bank.use(job.learner.name):
                scores = self.scorer.forward(part, self.sampling, entropy_gradient=_entropy_counts(algorithm))
                logp_N, entropy_N = scores.logp_N, scores.entropy_N
                gap_N = (scores.sampled_N - self._tensor([row.engine for row in part], scores.sampled_N)).abs()
                sizes = torch.tensor([len(row.targets) for row in part])
                given = {
                    "old_N": torch.cat([old[row] for row in batch]) if old is not None else None,
                    "engine_N": self._tensor([row.engine for row in part], logp_N),
                    "advantage_N": self._tensor([row.advantage for row in part], logp_N),
                }
                weight = torch.cat([weights[row] for row in batch]).to(logp_N)
                about = {
                    "row_N": torch.arange(len(part)).repeat_interleave(sizes).to(device),
                    "turn_N": torch.from_numpy(np.concatenate([row.turn for row in part])).to(device),
                    "foreign_N": torch.tensor([row.foreign for row in part]).repeat_interleave(sizes).to(device),
                    "minibatch": job.minibatch,
                }
                loss, stats = policy_loss(
                    algorithm,
                    logp_N,
                    ref_N=reference if in_loss else None,
                    weight_N=weight,
                    entropy_N=entropy_N,
                    entropy_history=job.entropy_history,
                    **given,
                    **about,
                )
                if bias is not None:
                    batch_N = Batch(**given | {"old_N": logp_N.detach() if old is None else given["old_N"]}, **about)
                    removed = clipping_bias(algorithm, logp_N, weight, batch_N)
                    found = torch.autograd.grad(removed, parameters, retain_graph=True, allow_unused=True)
                    bias += flatten(found, parameters)
                loss.backward()
            own_N = ~about["foreign_N"]
            now_N = torch.from_numpy(np.concatenate([row.played_by(job.version) for row in part])).to(device)
            gap_N = torch.where(now_N, gap_N, torch.zeros_like(gap_N))
            stats |= {"loss": loss.detach(), "gap": (weight * gap_N).sum(), "own_weight": (weight * own_N).sum()}
            stats |= {"weight": weight.sum(), "now_weight": (weight * now_N).sum()}
            if reference is not None and not in_loss:
                # not in the loss, so it is measured on the first micro-batch alone, which costs one forward pass
                stats["kl_sample"] = (reference - logp_N.detach()).expm1().sub(reference - logp_N.detach()).sum()
                stats["kl_tokens"] = torch.tensor(float(len(logp_N)))
            report["gap_max"] = max(report["gap_max"], float(gap_N.max()))
            for key, value in stats.items():
                if key != "gap_max":
                    report[key] = report.get(key, 0.0) + float(value)
        return report, bias

    def _reference(self, learner: Learner, rows: Sequence[Row]) -> Tensor:
        """Log-probs of the trained tokens under the anchor: the base with adapters off, or another adapter."""
        with torch.no_grad(), self.bank.use(self.anchors.get(learner.name)):
            return self.scorer.forward(rows, self.sampling).logp_N

    def _tensor(self, pieces: Sequence[np.ndarray], like: Tensor) -> Tensor:
        return torch.from_numpy(np.concatenate(pieces)).to(like)

    def _totals(self, report: dict[str, float]) -> dict[str, float]:
        """Sums over processes; what is a mean is divided by the weights, whatever the loss is divided by."""
        values = torch.tensor([report.get(key, 0.0) for key in SUMMED], dtype=torch.float64, device=self.bank.device)
        worst = self.workers.gather([report["gap_max"]])
        total = dict(zip(SUMMED, self.workers.sum(values).tolist(), strict=True)) | {"gap_max": max(worst)}
        weight, own, now = total.pop("weight"), total.pop("own_weight"), total["now_weight"]
        for key in MEANS:
            total[key] /= weight or 1.0
        total["approximate_kl"] /= own or 1.0
        total["gap"] /= now or (float("nan") if own else 1.0)
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
    "entropy_band",
    "clip_fraction",
    "approximate_kl",
    "off_policy_weight",
    "gap",
    "weight",
    "own_weight",
    "now_weight",
    "tokens",
    "trained",
)
MEANS = ("kl", "entropy", "clip_fraction", "off_policy_weight")
"""Over all tokens. `approximate_kl` is over those that the agent itself sampled, for of others' it would tell how far
the agents are apart; `gap` over those that its present version sampled, and not a number where that are none."""
UNDIVIDED = ("kl_sample", "kl_tokens", "tokens", "trained", "gap_max")
"""What is counted, or measured by itself; everything else that a step reports is weighed as the loss is."""


def _ids(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) row, turn and copies of each trained token."""
    row_N = np.repeat(np.arange(len(rows)), [len(row.targets) for row in rows])
    turn_N = np.concatenate([row.turn for row in rows]) if rows else np.zeros(0, dtype=np.int64)
    copies_N = np.concatenate([row.copies for row in rows]) if rows else np.zeros(0)
    return row_N, turn_N, copies_N


def _count(rows: Sequence[Row]) -> Totals:
    """What these rows add to the batch's totals."""
    return count_totals(*_ids(rows))


def _entropy_counts(algorithm: Algorithm) -> bool:
    return algorithm.entropy != 0 or algorithm.entropy_band.kind != "none"
