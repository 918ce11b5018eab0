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
    Totals,
    correct_clipping,
    divisor,
)
from marft.records import TokenRecords
from marft.scoring import Scorer
from marft.seeds import derive
from marft.train.gradient import Gradients, Job, Work, tensor_of, totals_of
from marft.train.optimizer import Learner, apply_gradient, flat_gradient, flatten, learning_rate
from marft.train.rows import Row
from marft.train.workers import Workers


@dataclass
class Sums:
    """An agent's gradient while rows of its one step still come in; it adds up in the parameters, undivided.

    report: likewise undivided. totals: of this process's rows, what the step will divide by.
    """

    job: Job
    report: dict[str, float] = field(default_factory=dict)
    totals: tuple[float, ...] = (0.0, 0.0, 0.0)
    bias: Tensor | None = None


@dataclass
class Updater:
    """What all agents' updates share.

    anchors: the adapter of the bank that an agent's KL term looks at, where that is not the base.
    records: the tokens of labelled rows.
    """

    bank: AdapterBank
    algorithm: Algorithm
    sampling: Sampling
    train: Train
    workers: Workers
    seed: int
    anchors: dict[str, str] = field(default_factory=dict)
    records: TokenRecords = field(default_factory=TokenRecords)

    def __post_init__(self) -> None:
        self.scorer = Scorer(self.bank, self.train.token_budget)
        self.gradients = Gradients(self.bank, self.scorer, self.sampling, self.anchors, self.records)

    def of(self, agent: str) -> Updater:
        """What updates an agent: where all are on one base, this (see `Updaters` for several)."""
        return self

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
        job = Job(learner, algorithm or self.algorithm, number, version, entropy_history)
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

    def update_together(
        self,
        jobs: Mapping[str, Job],
        rows: Mapping[str, Sequence[Row]],
        *,
        first: Mapping[str, bool],
        played: Mapping[str, bool],
    ) -> dict[str, dict[str, float]]:
        """`update` of several agents, by name, whose rows share passes; see `mixes`."""
        works = []
        for name, job in jobs.items():
            job.learner.optimizer.zero_grad(set_to_none=True)
            old = self._old_logprobs(job.learner, rows[name])
            works.append(Work(job, rows[name], old, self._summed(totals_of(rows[name]))))
        self.gradients.add_mixed(works)
        reports = {}
        for work in works:
            reports[work.name] = self._finish(work, played[work.name]) | {"steps": 1.0}
            work.job.learner.version += first[work.name]
        return reports

    def mixes(self, names: Sequence[str]) -> bool:
        """Whether agents that learn at the same time do so in mixed passes: the recipe's `train.step`, and if the
        adapters, the number of steps and the anchors allow it."""
        if self.train.step == "loop" or len(names) < 2 or self.train.epochs * self.train.minibatches > 1:
            return False
        if self.bank.shards.sharded:  # processes need not have rows of the same agents in their passes
            return False
        return not any(anchor in names for anchor in self.anchors.values()) and self.bank.mixes(names)

    def begin(self, learner: Learner, number: int) -> Sums:
        """Start a step whose rows come in pieces; weights stay as they are until its `finish`."""
        learner.optimizer.zero_grad(set_to_none=True)
        return Sums(Job(learner, self.algorithm, number, learner.version))

    def add(self, sums: Sums, rows: Sequence[Row]) -> None:
        """The gradient of further rows, whole groups; processes need not call it equally often."""
        if not rows:
            return
        work = Work(sums.job, rows, None, Totals(1.0, 1.0, 1.0), sample=not sums.report)
        self.gradients.add(work)
        for key, value in work.report.items():
            known = sums.report.get(key, 0.0)
            sums.report[key] = max(known, value) if key == "gap_max" else known + value
        sums.totals = tuple(map(sum, zip(sums.totals, totals_of(rows), strict=True)))
        if work.bias is not None:
            sums.bias = work.bias if sums.bias is None else sums.bias + work.bias

    def finish(self, sums: Sums) -> dict[str, float]:
        """The step along the gradient of all rows, as `update` would have made it; every process calls it."""
        job = sums.job
        whole = divisor(job.algorithm.aggregate, self._summed(sums.totals))
        report = {key: value if key in UNDIVIDED else value / whole for key, value in sums.report.items()}
        parameters = self.bank.parameters(job.learner.name)
        bias = None if sums.bias is None else sums.bias / whole
        report = self._descend(job, {"gap_max": 0.0} | report, bias, flat_gradient(parameters) / whole, check=True)
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
        foreign = self.bank.shards.any(any(row.foreign for row in rows))
        if self.train.epochs * self.train.minibatches == 1 and not foreign:
            return None
        old = self.logprobs(learner, rows)
        pairs = zip(rows, old, strict=True)
        return [tensor_of([row.engine], piece) if row.foreign else piece for row, piece in pairs]

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

    def _step(self, job: Job, rows: Sequence[Row], old: list[Tensor] | None, check: bool) -> dict[str, float]:
        """One optimizer step on `rows`; none where no process has any, since momentum alone would move the adapter."""
        job.learner.optimizer.zero_grad(set_to_none=True)  # what a step that failed may have left
        work = Work(job, rows, old, self._summed(totals_of(rows)))
        self.gradients.add(work)
        return self._finish(work, check)

    def _finish(self, work: Work, check: bool) -> dict[str, float]:
        flat = flat_gradient(self.bank.parameters(work.name))
        return self._descend(work.job, work.report, work.bias, flat, check)

    def _descend(
        self, job: Job, report: dict[str, float], bias: Tensor | None, flat: Tensor, check: bool
    ) -> dict[str, float]:
        """Sum gradient and report over the processes and make the step."""
        learner = job.learner
        parameters = self.bank.parameters(learner.name)
        rate = learning_rate(learner.settings, job.number, self.train.updates)
        flat = self.workers.reduced(flat)
        report = self._totals(report)
        measured = report.pop("now_weight")
        if not report["trained"]:
            return report | {"grad_norm": 0.0, "learning_rate": rate}
        if check and measured:
            self._check_gap(learner, report)
        if job.algorithm.ratio.correct_clipping:
            bias = flatten([None] * len(parameters), parameters) if bias is None else bias
            report["clip_bias"] = self.workers.norm(self.workers.reduced(bias))
            flat = correct_clipping(flat, flat.new_tensor(report["clip_bias"]))
        norm = self.workers.norm(flat)
        if not np.isfinite(norm):
            raise EngineError(f"update: the gradient of {learner.name} is not finite; lower optimizer.learning_rate")
        apply_gradient(learner.optimizer, parameters, flat, rate, learner.settings.max_grad_norm, norm)
        return report | {"grad_norm": norm, "learning_rate": rate}

    def _summed(self, counts: Sequence[float]) -> Totals:
        """The totals over all processes."""
        sums = torch.tensor(counts, dtype=torch.float64, device=self.bank.device)
        return Totals(*self.workers.sum(sums).tolist())

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
