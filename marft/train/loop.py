"""The training run: take episodes, score, credit, update, publish, record, save; then again.

This file only puts the parts in order and owns what they share: the accelerator, the run folder, the engine. Every
decision it takes from the recipe; every random number follows from the recipe's seed and the update's number, so a
resumed run plays the very episodes that the killed one would have played (but for one that plays meanwhile, where
versions depend on the clock). Where episodes come from is the business of `marft.train.source`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import LoggerType, set_seed

from marft.banks import make_scorer
from marft.config import Recipe
from marft.credit.advice import warnings_for
from marft.curriculum import Curriculum, curriculum_of
from marft.engines.base import Trained
from marft.engines.make import make_engine
from marft.engines.remote import judges_of
from marft.episode import Episode, finished, learnable
from marft.errors import EngineError, RecipeError, RunFolderError
from marft.games import make_game
from marft.lookup import nearest
from marft.model import pick_device
from marft.recipe import facts_of
from marft.rewards import services_of
from marft.seeds import derive
from marft.store import write_parquet, write_tokens
from marft.team import add_frozen, game_maker, make_remote, make_rollout
from marft.train.asking import Asking
from marft.train.asynchronous import Asynchronous
from marft.train.checkpoint import Progress, latest_checkpoint, load_checkpoint, prune_checkpoints, save_checkpoint
from marft.train.clock import Clock
from marft.train.folder import RunFolder
from marft.train.learning import Learning, Lesson
from marft.train.loading import add_learner, load_bases
from marft.train.optimizer import Learner
from marft.train.past import PastSelves
from marft.train.pieces import Pieces
from marft.train.piecewise import Piecewise
from marft.train.progress import Display
from marft.train.rewarding import failures, score_all, terms_of
from marft.train.source import Replay, Source, Supply, Synchronous
from marft.train.spending import Spending
from marft.train.workers import Workers
from marft.train.zero import check_head

logger = logging.getLogger("marft")


def train(
    recipe: Recipe, out: Path, *, resume: bool = False, overwrite: bool = False, replay: Path | None = None
) -> Path:
    """Run the recipe in the folder `out`; returns the folder. Every process of a launch calls it.

    replay: the folder of an earlier run, whose episodes are trained on; nothing is played then.
    """
    workers = Workers(_accelerator(recipe, out))
    folder = RunFolder(out)
    with contextlib.closing(folder):
        if workers.main:
            folder.open(recipe, resume=resume, overwrite=overwrite)
        try:
            trainer = Trainer(recipe, folder, workers, replay)
        except BaseException:
            folder.abandon()
            raise
        if workers.main:
            folder.begin(recipe)
        workers.wait()
        with contextlib.closing(trainer):
            trainer.run()
    workers.close()
    return out


def _accelerator(recipe: Recipe, out: Path) -> Accelerator:
    """Accelerate leaves out a tracker whose package is not there, and says so only when it debugs."""
    for name in recipe.trackers:
        if name not in LoggerType.list():
            raise RecipeError(f"trackers: no tracker {name!r}{nearest(name, LoggerType.list())}")
    cpu = pick_device(recipe.model.device).type == "cpu"
    try:
        accelerator = Accelerator(cpu=cpu, log_with=list(recipe.trackers) or None, project_dir=str(out))
    except ImportError as error:
        raise RecipeError(f"accelerate: its configuration asks for what is not installed: {error}") from None
    found = [tracker.value for tracker in accelerator.log_with]
    for name in recipe.trackers:
        if name not in (*found, "all"):
            raise RecipeError(
                f"trackers: the package of {name} is not installed; install it, or take it out of the list"
            )
    return accelerator


class Trainer:
    """One run in one process. `run` makes all updates that are left."""

    def __init__(self, recipe: Recipe, folder: RunFolder, workers: Workers, replay: Path | None = None) -> None:
        self.recipe, self.folder, self.workers = recipe, folder, workers
        set_seed(derive(recipe.seed, "torch", workers.rank) % 2**32)
        self.base, self.bank = load_bases(recipe, workers)
        self.learners = {name: add_learner(recipe, self.bank, name, workers) for name in recipe.agents}
        if self.bank.shards.sharded:
            check_head(self.bank)
        self.engine: Trained | None = None
        if replay is None:
            self.engine = make_engine(recipe, self.base, self.bank, folder.path, workers)
        self.curriculum: Curriculum | None = None
        self.source = self._source(replay)
        self.rewards = terms_of(recipe)
        self.learning = Learning(recipe, self.bank, self.base.chat, self.learners, workers)
        self.scorer = make_scorer(self.base, self.bank, recipe.train.token_budget)
        self.past = PastSelves(recipe, self.bank, folder.path / "past")
        self.progress = Progress()
        self._warned: set[str] = set()

    def run(self) -> None:
        self._restore()
        self._warn(warnings_for(self.recipe.algorithm, facts_of(self.recipe)))
        if self.engine is not None:
            self.engine.start()
        self._publish()
        self._start_trackers()
        gc.collect()
        gc.freeze()  # what is loaded now stays; scanning it again and again took a fifth of a tiny model's rollout
        updates, saved = self.recipe.train.updates, {}
        with Display(self.recipe.name, self.progress.update, updates, quiet=not self.workers.main) as display:
            while self.progress.update < updates:
                metrics = self.step() | saved
                self._record(metrics)  # before the checkpoint: a run killed between the two makes the update again
                last = self.progress.update == updates
                due = last or self.progress.update % self.recipe.train.save_every == 0
                saved = {"seconds/save": self._save()} if due else {}
                display.update(self.progress.update, metrics)
        if self.workers.main:
            for name in self.learners:
                self.bank.of(name).save(name, self.folder.path / "adapters" / name)

    def close(self) -> None:
        self.source.close()
        self.spending.keep()
        if self.engine is not None:
            self.engine.close()

    def step(self) -> dict[str, float]:
        """One update: returns its line of metrics."""
        clock = Clock()
        update = self.progress.update
        if self.curriculum is not None:
            self.rollout.make_game = game_maker(self.curriculum.game)
        with clock("rollout"):
            self.past.follow(self.learners, write=self.workers.main, keep=self.source.in_use())
        pieces = self.recipe.rollout.pipeline and self.engine is not None
        supply, lesson = (self._pieces if pieces else self._whole)(update, clock)
        played, episodes = supply.played, learnable(supply.played)
        self.progress.credit = lesson.state
        with clock("update"):
            self._publish()
        with clock("store"):
            shard = f"-{self.workers.rank}" if self.workers.size > 1 else ""
            write_parquet(played, self.folder.path / "episodes" / f"update-{update:06d}{shard}.parquet")
            if lesson.tokens:
                write_tokens(lesson.tokens, self.folder.path / "tokens" / f"update-{update:06d}{shard}.parquet")
            failed = len(played) - len(episodes)
            wrong = failures(played, self.rewards)
            metrics = (
                self._metrics(episodes, lesson, failed, wrong) | supply.gauges | lesson.gauges | self.spending.record()
            )
        if self.workers.main:
            self._warn(warnings_for(self.recipe.algorithm, lesson.table, lesson.advantage))
        if self.curriculum is not None:
            metrics["curriculum/stage"] = float(self.curriculum.stage)
            self.curriculum.note(metrics)
            self.progress.curriculum = self.curriculum.state()
        self.progress.update += 1
        self.progress.episodes += self.recipe.rollout.groups * self.recipe.rollout.group_size
        self.progress.tokens += int(sum(report["trained"] for report in lesson.reports.values()))
        counts = {"episodes": self.progress.episodes, "trained_tokens": self.progress.tokens}
        return {"update": update} | metrics | counts | clock.seconds

    def _whole(self, update: int, clock: Clock) -> tuple[Supply, Lesson]:
        """The update's episodes, and then what is learned from them."""
        with clock("rollout"):
            supply = self._taken(update)
        episodes = learnable(supply.played)
        asking = any("scorer" in services_of(term.function) for term in self.rewards.values())
        with clock("credit"), self.bank.shards.whole() if asking else contextlib.nullcontext():
            score_all(episodes, self.rewards, self.scorer, self.asking.ask)
        return supply, self.learning.learn(learnable(episodes), update, self.progress.credit, clock)

    def _taken(self, update: int) -> Supply:
        """The update's episodes. Where nobody can play any more, what was learned so far is saved, not to be lost.

        In a launch of several processes it is not: the others may never come to that point.
        """
        here = self.engine is not None and self.engine.shares_weights
        try:
            with self.bank.shards.whole() if here else contextlib.nullcontext():
                return self.source.take(update, self._versions())
        except EngineError:
            newest = latest_checkpoint(self.folder.checkpoints)
            if self.workers.size == 1 and update and (newest is None or newest.name != f"update-{update:06d}"):
                self._save()
            raise

    def _pieces(self, update: int, clock: Clock) -> tuple[Supply, Lesson]:
        """The same with groups learned from as they come; the clock counts as rollout what is waited for."""
        lesson, played = Piecewise(self.learning, update, clock), []
        coming = self.source.stream(update, self._versions())
        while True:
            with clock("rollout"):
                groups = next(coming, None)
            if groups is None:
                break
            episodes = learnable(groups)
            with clock("credit"):
                score_all(episodes, self.rewards, self.scorer, self.asking.ask)
            lesson.add(learnable(episodes))
            played.extend(groups)
        played.sort(key=lambda episode: (episode.failed, episode.group))
        return Supply(played, {}), lesson.finish()

    def _versions(self) -> dict[str, int]:
        return {name: learner.version for name, learner in self.learners.items()}

    def _publish(self) -> None:
        if self.engine is not None:
            for name, version in self._versions().items():
                self.engine.publish(name, version)
            self.workers.wait()  # the main process has done it on the servers, if there are any

    def _metrics(
        self, episodes: Sequence[Episode], lesson: Lesson, failed: int, wrong: Mapping[str, int]
    ) -> dict[str, float]:
        """Everything there is to report about an update, on every process the same."""
        if self.workers.size > 1:
            episodes = self.workers.gather([_light(episode) for episode in episodes])
        game = make_game(self.recipe.game.name, self.recipe.game.options)
        metrics = {f"game/{key}": value for key, value in game.metrics(finished(episodes)).items()}
        for name in self.rewards:
            values = [math.fsum(map(math.fsum, episode.terms[name].values())) for episode in episodes]
            metrics[f"reward/{name}"] = float(np.mean(values))
            if name in wrong:
                metrics[f"reward/{name}/failed"] = float(sum(self.workers.gather([wrong[name]])))
        for agent, report in lesson.reports.items():
            metrics |= {f"agent/{agent}/{key}": value for key, value in report.items()}
        metrics |= {f"critic/{key}": value for key, value in lesson.critic.items()}
        metrics["episodes/failed"] = float(sum(self.workers.gather([failed])))
        if self.bank.shards.sharded:
            metrics["base/resident"] = (
                max(self.workers.gather([self.bank.shards.resident()])) / self.bank.shards.numel()
            )
        if self.recipe.rollout.plan.branches:
            metrics["episodes/paths"] = float(len(episodes))
        return metrics

    def _warn(self, sentences: Sequence[str]) -> None:
        """Say each sentence once a run."""
        for sentence in sentences:
            kind = re.sub(r"\d+", "#", sentence)
            if self.workers.main and kind not in self._warned:
                self._warned.add(kind)
                logger.warning("%s: %s", self.recipe.name, sentence)

    def _record(self, metrics: dict[str, float]) -> None:
        if self.workers.main:
            self.folder.append_metrics({k: v if math.isfinite(v) else None for k, v in metrics.items()})
        if self.recipe.trackers:
            numbers = {key: value for key, value in metrics.items() if key != "update" and math.isfinite(value)}
            self.workers.accelerator.log(numbers, step=int(metrics["update"]))

    def _save(self) -> float:
        began = time.perf_counter()
        self.progress.source = self.source.state()
        pieces = [one.optimizer for one in self._all_learners() if isinstance(one.optimizer, Pieces)]
        for optimizer in pieces:
            optimizer.collect()
        if self.workers.main:
            save_checkpoint(self.folder.checkpoints, self.bank, self.learners, self.progress, self.learning.critic)
            prune_checkpoints(self.folder.checkpoints, self.recipe.train.keep_last)
        for optimizer in pieces:
            optimizer.state.clear()
        self.learning.refresh_anchors()
        self.workers.wait()
        return time.perf_counter() - began

    def _restore(self) -> None:
        found = latest_checkpoint(self.folder.checkpoints)
        if found is not None:
            self.progress = load_checkpoint(found, self.bank, self.learners, self.learning.critic)
            for learner in self._all_learners():
                if isinstance(learner.optimizer, Pieces):
                    learner.optimizer.adopt()
            self.learning.refresh_anchors()
        self.source.restore(self.progress.update, self.progress.source)
        if self.curriculum is not None:
            self.curriculum.restore(self.progress.curriculum)
        self.spending.go_on()
        if self.workers.main:
            self.folder.keep_until(self.progress.update)
        self.workers.wait()

    def _all_learners(self) -> list[Learner]:
        """The agents, and the critic if there is one."""
        critic = self.learning.critic
        return [*self.learners.values(), *([critic.learner] if critic is not None else [])]

    def _source(self, replay: Path | None) -> Source:
        recipe = self.recipe
        if replay is not None:  # a reward may ask what a frozen policy thinks
            add_frozen(self.bank, recipe.policies.values())
            remote = make_remote(judges_of(recipe))
            self.spending, self.asking = Spending(remote, self.folder.spending, self.workers), Asking(remote)
            return Replay(recipe, replay, self.workers)
        self.curriculum = curriculum_of(recipe)
        self.rollout = make_rollout(recipe, self.base.chat, self.bank, self.engine)
        self.asking = Asking(self.rollout.remote)
        self.spending = Spending(self.rollout.remote, self.folder.spending, self.workers)
        meanwhile = recipe.rollout.max_staleness or recipe.rollout.pipeline
        return (Asynchronous if meanwhile else Synchronous)(recipe, self.rollout, self.workers)

    def _start_trackers(self) -> None:
        if not self.recipe.trackers:
            return
        options = {"tensorboard": {"purge_step": self.progress.update}}
        try:
            self.workers.accelerator.init_trackers("trackers", init_kwargs=options)
        except (ImportError, ValueError) as error:
            raise RunFolderError(f"trackers: {', '.join(self.recipe.trackers)} cannot be started: {error}") from error


def _light(episode: Episode) -> Episode:
    """An episode without its token ids, to be sent to other processes for the metrics."""
    turns = [
        dataclasses.replace(turn, prompt_ids=[], completion_ids=[], logprobs=[], messages=[]) for turn in episode.turns
    ]
    return dataclasses.replace(episode, turns=turns)
