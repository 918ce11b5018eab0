"""One lesson: scored episodes in, updated adapters out.

Rewards become columns, columns advantages, advantages rows, and rows steps of the optimizers, in the order that the
algorithm's update block plans. Statistics run over the turn tables of all processes put together; each process then
trains on the rows of its own episodes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from marft.banks import AnyBank
from marft.blocks import Algorithm
from marft.chat import Chats
from marft.config import Recipe
from marft.credit import Credit, assess, token_advantages
from marft.credit.couplings import needs_of
from marft.credit.memory import note_entropy
from marft.credit.order import Stage, compound, plan
from marft.credit.targets import value_targets
from marft.episode import Episode
from marft.errors import ModelError
from marft.loss import KLS, epo_weight
from marft.records import TokenRecord, recorded
from marft.seeds import derive
from marft.train.balance import cost_of, spread
from marft.train.clock import Clock
from marft.train.critic import Critic
from marft.train.gathering import Batch, Part, join
from marft.train.gradient import Job
from marft.train.offload import offload_state
from marft.train.optimizer import Learner
from marft.train.rows import Row, build_rows, with_advantages
from marft.train.table import duplicates, turn_table
from marft.train.updaters import by_base, make_updater
from marft.train.views import View, joint_views, own_views
from marft.train.workers import Workers

ANCHOR = "anchor:{}"
"""The bank's adapter that an agent's KL term looks at, where it is a snapshot or the adapter it started from."""


class Lesson(NamedTuple):
    """reports: agent -> what its update reported; an agent that was not to learn is not in it. critic: likewise.
    state: what credit remembers, for the next lesson. table: the turn table of all processes. advantage: its turns' (or
    tokens') advantages; of several learners that share rollouts, the last one's. gauges: what else to report.
    tokens: of some episodes, as far as this process trained on them."""

    reports: dict[str, dict[str, float]]
    critic: dict[str, float]
    state: dict[str, Any]
    table: dict[str, np.ndarray]
    advantage: np.ndarray
    gauges: Mapping[str, float] = {}
    tokens: Sequence[TokenRecord] = ()


class Learning:
    """What learns, and how. `learn` is one update of the run."""

    def __init__(
        self, recipe: Recipe, bank: AnyBank, chat: Chats, learners: Mapping[str, Learner], workers: Workers
    ) -> None:
        self.recipe, self.bank, self.chat, self.learners, self.workers = recipe, bank, chat, learners, workers
        self.algorithm: Algorithm = recipe.algorithm
        self.needs = frozenset(needs_of(recipe.algorithm))
        self.updater = make_updater(recipe, bank, workers)
        self.critic: Critic | None = None
        if "critic" in self.needs:
            rest = (len(recipe.team), derive(recipe.seed, "critic"), recipe.train.updates, recipe.train.token_budget)
            self.critic = Critic(bank, recipe.critic, recipe.adapter, *rest, workers)
            if recipe.train.offload_optimizer:
                offload_state(self.critic.learner)
        self._add_anchors()

    def learn(
        self, episodes: Sequence[Episode], number: int, state: Mapping[str, Any], clock: Clock | None = None
    ) -> Lesson:
        """Update `number` of the run, from this process's scored episodes; every process calls it."""
        progress = number / self.recipe.train.updates
        state = copy.deepcopy(dict(state)) | {"progress": progress}
        clock = clock or Clock()
        with clock("credit"):
            same_U = duplicates(episodes)
            share = recorded(len(episodes), len(episodes) * self.workers.size, self.recipe.train.token_episodes)
            rows = build_rows(episodes, same_U=same_U, labelled=share)
            views = self._views(episodes)
            values = self.critic.values(views) if self.critic is not None else []
            part = self.part(episodes, rows, same_U, views, values)
            batch = join(self.workers.gather([part]), self.workers.rank)
            before = copy.deepcopy(state)
            shares, state, advantage = self.credited(batch, rows, same_U, state)
        if not self.recipe.train.learn:
            return Lesson({}, {}, before, batch.table, advantage)
        with clock("update"):
            shares, count, gauges = self._spread(shares, batch, len(episodes))
            critic = self._teach_critic(batch, views, number, state)
            reports: dict[str, dict[str, float]] = {}
            if self.critic is None or number >= self.recipe.critic.warmup_updates:
                reports = self._train(shares, count, number, state)
        return Lesson(reports, critic, state, batch.table, advantage, gauges, self.updater.records.take())

    def refresh_anchors(self) -> None:
        """Make the agents' present weights the snapshot that their KL terms look at."""
        if self.algorithm.kl.anchor == "snapshot":
            for name, anchor in self.updater.anchors.items():
                self.bank.of(name).overwrite(anchor, name)

    def _add_anchors(self) -> None:
        kind = self.algorithm.kl.anchor
        if kind.startswith("agent:"):
            self.updater.anchors |= {name: kind.removeprefix("agent:") for name in self.learners}
        elif kind != "base" and self.algorithm.kl.coef:
            self.updater.anchors |= {name: ANCHOR.format(name) for name in self.learners}
            for name, anchor in self.updater.anchors.items():
                if kind == "adapter":
                    self.bank.of(name).load(anchor, self.recipe.agents[name].start_from)
                else:
                    self.bank.of(name).copy(name, anchor)

    # Columns

    def _views(self, episodes: Sequence[Episode]) -> list[View]:
        if self.critic is None:
            return []
        by_token = self.algorithm.return_.kind == "gae_token"
        if self.algorithm.critic == "own":
            views = own_views(episodes, by_token)
        else:
            chain = self.algorithm.return_.kind == "gae_agent_chain"
            views = joint_views(episodes, self.chat.plain, chain, by_token)
        longest = max(map(len, views), default=0)
        context = getattr(self.bank.config, "max_position_embeddings", None)
        if context is not None and longest > context:
            raise ModelError(
                f"critic: a view of {longest} tokens passes the model's context of {context}; set algorithm.critic own "
                "or shorten the game"
            )
        return views

    def part(
        self,
        episodes: Sequence[Episode],
        rows: Mapping[str, Sequence[Row]],
        same_U: np.ndarray,
        views: Sequence[View] = (),
        values: Sequence[np.ndarray] = (),
    ) -> Part:
        """The turn table of these episodes, with the columns that need a model."""
        roles = {seat: policy.role for seat, policy in self.recipe.team.items() if policy.role is not None}
        table = turn_table(episodes, roles, {"observation"} if "observations" in self.needs else ())
        if "kl_in_reward" in self.needs:
            table["kl_U"] = self._kl(rows, len(table["reward_U"]))
            table["kl_U"][: len(same_U)] = table["kl_U"][same_U]  # rows hold what branches share only once
        value_N = None
        if self.critic is not None:
            table["value_U"], value_N = _spread(views, values, table)
        return Part(table, value_N, [episode.group for episode in episodes])

    def _kl(self, rows: Mapping[str, Sequence[Row]], turns: int) -> np.ndarray:
        """(U,) the estimated KL to the anchor of each turn: the sum over its tokens, of the policy that sampled."""
        kl_U, settings = np.zeros(turns), self.algorithm.kl
        exact = self.recipe.sampling.top_k or self.recipe.sampling.top_p < 1
        for name in self.learners:  # all of them, even without rows: other processes may have some
            own = rows.get(name, ())
            updater = self.updater.of(name)
            anchors = updater.scorer.measure(updater.anchors.get(name), own, self.recipe.sampling)
            policy = updater.logprobs(self.learners[name], own) if exact else None
            for number, (row, anchor) in enumerate(zip(own, anchors, strict=True)):
                logp_N = policy[number].double().cpu() if policy is not None else torch.from_numpy(row.engine)
                kl_N = KLS[settings.kind](anchor.logp_N.double().cpu() - logp_N)
                np.add.at(kl_U, row.turn, kl_N.numpy())
        return kl_U

    # Credit

    def credited(
        self, batch: Batch, rows: Mapping[str, Sequence[Row]], same_U: np.ndarray, state: dict[str, Any]
    ) -> tuple[dict[str, list[Row]], dict[str, Any], np.ndarray]:
        """learner -> the rows it learns from, with their advantages; credit's memory; the advantages."""
        if self.algorithm.return_.kind == "gae_token":
            advantage_N = token_advantages(self.algorithm, batch.table, batch.turn_N, batch.value_N, state)
            mine_N = advantage_N[batch.tokens]
            return {name: with_advantages(own, mine_N, by_token=True) for name, own in rows.items()}, state, advantage_N
        if "shared_rollouts" not in self.needs:
            credit = assess(self.algorithm, batch.table, state)
            columns = _mean_of_same(credit, batch.turns, same_U)
            return (
                {name: with_advantages(own, *columns) for name, own in rows.items()},
                credit.state,
                credit.advantage_U,
            )
        shares, memory = {}, state
        for name in self.learners:
            table = batch.table | {"learner_U": np.full(len(batch.table["reward_U"]), name)}
            credit = assess(self.algorithm, table, state)
            memory = credit.state
            everyone = [replace(row, foreign=row.agent != name) for own in rows.values() for row in own]
            shares[name] = with_advantages(everyone, *_mean_of_same(credit, batch.turns, same_U))
        return shares, memory, credit.advantage_U

    def _teach_critic(
        self, batch: Batch, views: Sequence[View], number: int, state: dict[str, Any]
    ) -> dict[str, float]:
        if self.critic is None:
            return {}
        by_token = self.algorithm.return_.kind == "gae_token"
        turn_N = batch.turn_N if by_token else None
        target = value_targets(self.algorithm, batch.table, batch.value_N, turn_N, state)
        target = target[batch.tokens if by_token else batch.turns]
        pairs = [(view, target[view.token if by_token else view.turn]) for view in views]
        if self.workers.size > 1:
            pairs, _ = spread(pairs, [cost_of(len(view), self.bank.config.hidden_size) for view in views], self.workers)
        return self.critic.update([view for view, _ in pairs], [aims for _, aims in pairs], number)

    # Steps

    def _spread(
        self, shares: Mapping[str, list[Row]], batch: Batch, episodes: int
    ) -> tuple[Mapping[str, list[Row]], int, dict[str, float]]:
        """The rows that this process trains on, agent by agent, for each agent's step waits for all processes.

        Turns and episodes are numbered through all processes then. Returns how many episodes there are, too.
        """
        if self.workers.size == 1:
            return shares, episodes, {}
        counts = self.workers.gather([episodes])
        first, start = sum(counts[: self.workers.rank]), batch.turns.start
        mine, loads = {}, []
        for name in self.learners:
            rows = [replace(row, turn=row.turn + start, episode=row.episode + first) for row in shares.get(name, ())]
            width = self.bank.of(name).config.hidden_size
            mine[name], load = spread(rows, [cost_of(len(row), width) for row in rows], self.workers)
            loads.append(load)
        played, slowest, mean = (sum(column) for column in zip(*loads, strict=True))
        gauges = {"ranks/imbalance_played": played / mean - 1, "ranks/imbalance": slowest / mean - 1} if mean else {}
        return mine, sum(counts), gauges

    def _train(
        self, shares: Mapping[str, Sequence[Row]], episodes: int, number: int, state: dict[str, Any]
    ) -> dict[str, dict[str, float]]:
        """All stages of the update; each hands its ratios to those after it, where the algorithm says so.

        episodes: of all processes, since an episode's rows may be trained on in several.
        """
        settings = self.algorithm.update
        turns = max((int(row.place.max()) + 1 for own in shares.values() for row in own), default=1)
        turns = max(self.workers.gather([turns]))
        stages = plan(settings, list(self.learners), turns, number, derive(self.recipe.seed, "order") % 2**32)
        compounding = settings.kind in ("sequential", "reverse_turns")
        factor_E = np.ones(episodes)
        reports: dict[str, list[dict[str, float]]] = {}
        for stage in stages:
            ratios: list[tuple[np.ndarray, np.ndarray]] = []
            measured = compounding and stage is not stages[-1]
            weigh_E = factor_E if compounding else None
            own = {name: _of_stage(shares.get(name, ()), stage, weigh_E) for name in stage.agents}
            if not measured:
                for name, report in self._update_together(own, number, state, reports).items():
                    reports.setdefault(name, []).append(report)
                    del own[name]
            for name, rows in own.items():
                updater = self.updater.of(name)
                old = updater.logprobs(self.learners[name], rows) if measured else None
                before = reports.setdefault(name, [])
                before.append(self._update(name, rows, number, state, before))
                if measured:
                    unit_N = np.repeat([row.episode for row in rows], [len(row.targets) for row in rows])
                    ratios.append((updater.log_ratios(self.learners[name], rows, old), unit_N.astype(np.int64)))
            if ratios:
                everyone = zip(*self.workers.gather(ratios), strict=True)
                factor_E = compound(settings, factor_E, *(np.concatenate(column) for column in everyone))
        joined = {name: _joined(found) for name, found in reports.items()}
        if self.algorithm.entropy_band.kind != "none":
            for name, report in joined.items():
                if report["trained"]:
                    note_entropy(state["entropies"][name], report["entropy"])
        return joined

    def _update(
        self,
        name: str,
        rows: Sequence[Row],
        number: int,
        state: dict[str, Any],
        before: Sequence[dict[str, float]],
    ) -> dict[str, float]:
        """One agent's part of a stage; `before` are the reports of its earlier stages in this update."""
        algorithm, history = self._settings(name, rows, state)
        given = {"algorithm": algorithm, "entropy_history": history}
        return self.updater.of(name).update(
            self.learners[name], rows, number=number, first=not before, played=not _moved(before), **given
        )

    def _update_together(
        self,
        rows: Mapping[str, Sequence[Row]],
        number: int,
        state: dict[str, Any],
        before: Mapping[str, Sequence[dict[str, float]]],
    ) -> dict[str, dict[str, float]]:
        """Those of a stage's agents that can share passes, base by base; `before` as above, by agent."""
        reports: dict[str, dict[str, float]] = {}
        for updater, names in by_base(self.updater, list(rows)):
            if not updater.mixes(names):
                continue
            first = {name: not before.get(name) for name in names}
            played = {name: not _moved(before.get(name, ())) for name in names}
            jobs = {}
            for name in names:
                algorithm, history = self._settings(name, rows[name], state)
                learner = self.learners[name]
                jobs[name] = Job(learner, algorithm, number, learner.version - (not first[name]), history)
            own = {name: rows[name] for name in names}
            reports |= updater.update_together(jobs, own, first=first, played=played)
        return reports

    def _settings(self, name: str, rows: Sequence[Row], state: dict[str, Any]) -> tuple[Algorithm, float | None]:
        """The algorithm as it is for an agent in this update, and the entropy its band stands around."""
        learner, algorithm, history = self.learners[name], self.algorithm, None
        band = algorithm.entropy_band
        if band.kind != "none":
            past = state.setdefault("entropies", {}).setdefault(name, {})
            known = past.get("entropy")
            history = known["sum"] / known["count"] if known else self.updater.of(name).mean_entropy(learner, rows)
            if band.schedule == "epo":
                weighed = band.model_copy(update={"coef": band.coef * epo_weight(state["progress"])})
                algorithm = algorithm.model_copy(update={"entropy_band": weighed})
        return algorithm, history


def _moved(before: Sequence[dict[str, float]]) -> bool:
    """Whether earlier stages changed the adapter, so that it is no longer the one that played."""
    return any(report["trained"] for report in before)


def _spread(
    views: Sequence[View], values: Sequence[np.ndarray], table: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The values by turn (its first token's) and by token; 0 where no view reads one."""
    value_U, value_N = np.zeros(len(table["reward_U"])), np.zeros(int(table["tokens_U"].sum()))
    for view, value in zip(views, values, strict=True):
        value_U[view.turn[::-1]] = value[::-1]  # of several in a turn the first one stays
        inside = view.token < len(value_N)
        value_N[view.token[inside]] = value[inside]
    return value_U, value_N


def _mean_of_same(credit: Credit, mine: slice, same_U: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(U,) advantages and copies of this process's turns: the mean over all turns that are the same completion.

    Every joint action that a completion is part of weighs alike, however many paths go through it.
    """
    columns = credit.advantage_U[mine], credit.copies_U[mine]
    turns = len(same_U)
    if np.array_equal(same_U, np.arange(turns)):
        return columns
    share_U = credit.share_U[mine][:turns]
    size_U = np.bincount(same_U, share_U, turns)[same_U]
    means = (np.bincount(same_U, column[:turns] * share_U, turns)[same_U] / size_U for column in columns)
    return tuple(np.concatenate([mean, column[turns:]]) for mean, column in zip(means, columns, strict=True))


def _of_stage(rows: Sequence[Row], stage: Stage, factor_E: np.ndarray | None) -> list[Row]:
    """The rows of one stage: cut to its turn, their advantages weighed by what earlier stages did."""
    if stage.turn is not None:
        rows = [row.only(row.place == stage.turn) for row in rows if (row.place == stage.turn).any()]
    if factor_E is None:
        return list(rows)
    return [replace(row, advantage=row.advantage * factor_E[row.episode]) for row in rows]


def _joined(reports: Sequence[dict[str, float]]) -> dict[str, float]:
    """One report of an update's stages: means, but for counts, and the gap where the adapter still was the engine's."""
    made = [report for report in reports if report["trained"]] or reports[:1]
    mean = {key: float(np.mean([report[key] for report in made if key in report])) for key in made[0]}
    counts = {key: sum(report[key] for report in made) for key in ("tokens", "trained", "steps")}
    return mean | counts | {key: made[0][key] for key in ("gap", "gap_max")}
