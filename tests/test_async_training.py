"""Whole runs that play while they train: what they store, what they trained on, how they go on."""

import collections

import numpy as np
import pytest
import torch
from trainer_fixtures import make_recipe, shake, snapshot

from marft.engines.base import Request
from marft.engines.hf import HFEngine
from marft.scoring import Scorer
from marft.store import read_episodes
from marft.train.folder import read_metrics, run_recipe
from marft.train.loop import Trainer, train
from marft.train.rows import build_rows

RUN = ("rollout={groups: 3, group_size: 4, max_staleness: 2}", "train={updates: 8, save_every: 3}")


def planned(episodes) -> list[str]:
    """The groups that were trained on, by the name they were planned under."""
    return sorted({episode.id.rpartition("-")[0] for episode in episodes})


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run, and every agent's weights as they were published, by version."""
    out, weights = tmp_path_factory.mktemp("watched") / "run", collections.defaultdict(dict)

    class Watched(Trainer):
        def _publish(self):
            super()._publish()
            for name, learner in self.learners.items():
                weights[learner.version][name] = snapshot(self.bank, name)
            watched_trainers.append(self)

    watched_trainers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("marft.train.loop.Trainer", Watched)
        train(make_recipe(*RUN), out)
    return out, weights, watched_trainers[-1]


def test_staleness_stays_within_its_bound_and_is_reported(watched):
    out, _, _ = watched
    metrics = read_metrics(out / "metrics.jsonl")
    episodes = list(read_episodes(out))
    assert len(planned(episodes)) == 3 * 8
    for line in metrics:
        own = [episode for episode in episodes if episode.update == line["update"]]
        assert collections.Counter(episode.group for episode in own) == {0: 4, 1: 4, 2: 4}
        ages = [line["update"] - min(turn.version for turn in episode.turns) for episode in own]
        assert 0 <= min(ages) <= max(ages) == line["async/staleness_max"] <= 2
        assert line["async/wait"] >= 0 <= line["async/back_pressure"]
    assert metrics[0]["async/staleness_max"] == 0
    assert max(line["async/staleness_max"] for line in metrics) > 0


def test_every_token_was_sampled_by_the_version_that_its_turn_names(watched):
    """The trainer changes adapters while the engine plays in another thread; none of that may be heard in play."""
    out, weights, trainer = watched
    episodes, scorer, sampling = list(read_episodes(out)), Scorer(trainer.bank, 4096), trainer.recipe.sampling
    rows = build_rows(episodes)
    seen = set()
    for name, own in rows.items():
        for version, adapters in weights.items():
            with torch.no_grad():
                for key, parameter in trainer.bank.named_parameters(name).items():
                    parameter.copy_(adapters[name][key])
            for row, scores in zip(own, scorer.measure(name, own, sampling), strict=True):
                here = row.version == version
                if here.any():
                    seen.add(version)
                    np.testing.assert_allclose(scores.sampled_N.double().numpy()[here], row.engine[here], atol=1e-4)
    assert len(seen) > 4
    apart = weights[0]["alice"], weights[8]["alice"]
    assert max(float((apart[0][key] - apart[1][key]).abs().max()) for key in apart[0]) > 0.01


def test_the_correction_is_on_and_the_gap_is_measured_on_what_is_new(watched, caplog):
    out, _, _ = watched
    assert run_recipe(out).algorithm.off_policy.kind == "truncate"
    metrics = read_metrics(out / "metrics.jsonl")
    assert metrics[0]["agent/alice/gap"] < 1e-4
    for line in metrics:
        assert line["agent/alice/gap"] is None or line["agent/alice/gap"] < 1e-4
        if line["async/staleness_mean"] == 0:
            assert line["agent/alice/off_policy_weight"] == pytest.approx(1.0, abs=1e-3)
    assert any(abs(line["agent/alice/off_policy_weight"] - 1) > 1e-3 for line in metrics)


def test_a_correction_that_the_recipe_names_stays(caplog):
    for overrides, kind in (
        ((), "truncate"),
        (("algorithm={preset: rloo, off_policy: interval}",), "interval"),
        (("rollout.max_staleness=0",), "none"),
    ):
        assert make_recipe(*RUN, *overrides).algorithm.off_policy.kind == kind


def test_the_run_says_that_it_trains_on_older_versions(tmp_path, caplog):
    with caplog.at_level("WARNING", "marft"):
        train(make_recipe(*RUN, "train.updates=1"), tmp_path / "run")
    assert "rollout.max_staleness is 2" in caplog.text
    assert "off_policy truncate" in caplog.text


class Stopped(Exception):
    pass


def test_a_resumed_run_goes_on_and_trains_on_no_group_twice(tmp_path, monkeypatch):
    record, out = Trainer._record, tmp_path / "run"

    def stop(self, metrics):
        if metrics["update"] == 5:
            raise Stopped
        record(self, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_record", stop)
        with pytest.raises(Stopped):
            train(make_recipe(*RUN), out)
    before = list(read_episodes(out))
    assert {episode.update for episode in before} == set(range(6))
    train(make_recipe(*RUN), out, resume=True)  # from the checkpoint of update 3
    metrics, episodes = read_metrics(out / "metrics.jsonl"), list(read_episodes(out))
    assert [line["update"] for line in metrics] == list(range(8))
    assert [e for e in before if e.update < 3] == [e for e in episodes if e.update < 3]
    assert len(planned(episodes)) == 3 * 8
    assert len({episode.id for episode in episodes}) == len(episodes) == 3 * 4 * 8
    assert planned(episodes) == [f"u{update:06d}-g{group:04d}" for update in range(8) for group in range(3)]
    assert all(line["async/staleness_max"] <= 2 for line in metrics)
    assert metrics[3]["async/staleness_max"] == 0  # what had been in play was played again


def test_past_selves_stay_in_the_bank_while_they_play(tmp_path):
    pool = ("team.bob={pool: [{agent: bob}, {past: alice}]}", "past={every: 1, keep: 1}")
    train(make_recipe(*RUN, *pool), tmp_path / "run")
    met = {episode.team["bob"] for episode in read_episodes(tmp_path / "run")}
    assert len(met - {"bob"}) >= 3


def test_an_engine_that_plays_apart_hears_of_new_weights_when_they_are_published(chat, make_bank, make_recipe):
    bank, recipe = make_bank(), make_recipe()
    shared, apart = HFEngine(bank, chat.stop_ids), HFEngine(bank, chat.stop_ids, apart=True)
    assert (shared.shares_weights, apart.shares_weights) == (True, False)
    prompt = chat.render(["user"], ["A or B?"])

    def said(engine):
        requests = [Request("alice", seed, prompt, recipe.sampling) for seed in range(8)]
        return engine.complete(requests)

    def same(one, other):
        return [c.token_ids for c in one] == [c.token_ids for c in other] and all(
            np.allclose(c.logprobs, d.logprobs, atol=1e-4) for c, d in zip(one, other, strict=True)
        )

    for engine in (shared, apart):
        engine.publish("alice", 3)
    first = said(apart)
    assert same(first, said(shared))
    shake(bank, "alice", 0.5)
    assert same(said(apart), first)
    shared.publish("alice", 4)
    assert not same(said(shared), first)
    assert {one.version for one in said(apart)} == {3}
    apart.publish("alice", 4)
    assert same(said(apart), said(shared))
    assert {one.version for one in said(apart)} == {4}


def test_places_in_the_cache_are_given_to_others_when_a_groups_sessions_end(chat, make_bank, make_recipe):
    bank, recipe = make_bank(), make_recipe()
    engine, plain = HFEngine(bank, chat.stop_ids), HFEngine(bank, chat.stop_ids, reuse_cache=False)
    for number in range(6):
        texts = [f"Deal {number}.{place}: A or B?" for place in range(3)]
        prompts = [chat.render(["user"], [text]) for text in texts]
        for _ in range(2):
            requests = [
                Request("alice", 7 * number + place, prompt, recipe.sampling, f"g{number}-e{place}/alice")
                for place, prompt in enumerate(prompts)
            ]
            done = engine.complete(requests)
            for one, other in zip(done, plain.complete(requests), strict=True):
                assert one.token_ids == other.token_ids
                np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-4)
            prompts = [[*prompt, *one.token_ids, *prompts[0][:4]] for prompt, one in zip(prompts, done, strict=True)]
        if number:
            engine.end_sessions(f"g{number - 1}-")  # one group always plays on
    assert engine._slots.made == 6
