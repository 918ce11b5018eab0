"""Gradients of groups as they come, one step at the end: the step that the whole batch makes."""

import asyncio

import numpy as np
import pytest
from trainer_fixtures import Rig, distance, make_recipe, snapshot

from marft.credit import advantages
from marft.credit.locality import not_local
from marft.credit.presets import PRESETS, algorithm
from marft.errors import RecipeError
from marft.train.clock import Clock
from marft.train.folder import read_metrics
from marft.train.loop import train
from marft.train.piecewise import Piecewise

EXACT = ("model.dtype=float64", "rollout={groups: 5, group_size: 3}", "optimizer.max_grad_norm=0.01")
TREE = ("rollout.plan={kind: tree, samples: 2}", "rollout.group_size=1")


def piece_by_piece(learning, episodes, order, number=0):
    lesson = Piecewise(learning, number, Clock())
    for groups in order:
        lesson.add([episode for episode in episodes if episode.group in groups])
    return lesson.finish()


@pytest.mark.parametrize(
    "overrides",
    [
        ("algorithm=rloo",),
        ("algorithm=grpo",),
        ("algorithm=dr_grpo",),
        ("algorithm=ad_align",),
        ("algorithm={preset: grpo, aggregate: row_mean, kl: {coef: 0.1}, entropy: 0.01}",),
        ("algorithm={preset: rema, update: simultaneous}",),
        ("algorithm={preset: rloo, kl: {coef: 0.3, where: reward, kind: k1}}",),
        ("algorithm={preset: st_ppo, return: to_go, baseline: loo, normalise: none}",),
        ("algorithm=magrpo", *TREE),
        ("algorithm=at_grpo", "rollout.plan={kind: per_state, samples: 3}", "rollout.group_size=1"),
    ],
    ids=str,
)
def test_pieces_make_the_step_of_the_whole(overrides):
    rigs = [Rig(*EXACT, *overrides, "train.token_budget=700") for _ in range(2)]
    before = {name: snapshot(rigs[0].bank, name) for name in rigs[0].learners}
    for number in range(2):  # the second step sees what the first left in the optimizers
        episodes = rigs[0].play(number)
        assert len({episode.group for episode in episodes}) == 5
        whole = rigs[0].learning().learn(episodes, number, {})
        pieces = piece_by_piece(rigs[1].learning(), episodes, [{3}, {0, 4}, {2}, {1}], number)
        for name in rigs[0].learners:
            assert rigs[1].learners[name].version == rigs[0].learners[name].version == number + 1
            assert distance(snapshot(rigs[1].bank, name), snapshot(rigs[0].bank, name)) < 1e-9
            assert distance(snapshot(rigs[0].bank, name), before[name]) > 1e-3
            one, other = whole.reports[name], pieces.reports[name]
            assert one.keys() == other.keys()
            for key in one.keys() - {"kl"}:  # where it is no part of the loss, it is measured on one micro-batch
                assert other[key] == pytest.approx(one[key], rel=1e-6, abs=1e-12), key
        assert np.sort(pieces.advantage) == pytest.approx(np.sort(whole.advantage), abs=1e-12)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_group_alone_has_the_credit_it_has_in_the_batch_where_that_is_said(name):
    rng, groups, size, steps = np.random.default_rng(0), 4, 3, 2
    episode = np.repeat(np.arange(groups * size), 2 * steps)
    turns = len(episode)
    table = {
        "episode": episode,
        "group": episode // size,
        "seat": np.array(["a", "b"] * (turns // 2)),
        "agent": np.array(["a", "b"] * (turns // 2)),
        "step": np.tile(np.repeat(np.arange(steps), 2), groups * size),
        "reward": rng.normal(size=turns) + episode // size,
        "tokens": rng.integers(1, 9, turns),
        "nll": rng.normal(size=turns),
        "kl": rng.normal(size=turns),
        "value": rng.normal(size=turns),
        "role": np.array(["a", "b"] * (turns // 2)),
        "attempt": np.zeros(turns, dtype=int),
        "format": np.ones(turns),
        "correct": rng.normal(size=turns),
        "judge": rng.normal(size=turns),
        "safety": rng.normal(size=turns),
        "task": rng.normal(size=turns),
    }
    whole = advantages(name, table)
    apart = np.concatenate(
        [advantages(name, {k: v[table["group"] == g] for k, v in table.items()}) for g in range(groups)]
    )
    settings = algorithm(name)
    if not_local(settings) is None:
        np.testing.assert_allclose(apart, whole, atol=1e-12)
    elif settings.normalise.kind == "whiten" and settings.baseline.kind != "critic":
        assert np.abs(apart - whole).max() > 1e-3


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("algorithm=mars",), r"algorithm\.baseline|algorithm\.normalise\.kind whiten"),
        (("algorithm={preset: rloo, normalise: whiten}",), r"algorithm\.normalise\.kind whiten"),
        (("algorithm={preset: rloo, baseline: {kind: loo, key: [seat]}}",), r"baseline\.key \['seat'\]"),
        (("algorithm={preset: grpo, normalise: {kind: std, key: [seat]}}",), r"normalise\.key \['seat'\]"),
        (("algorithm=mappo",), r"algorithm\.baseline\.kind critic"),
        (("algorithm=rae",), r"ema_per_seat"),
        (("algorithm=epo",), "entropy_band"),
        (("algorithm=rema",), r"update\.kind round_robin"),
        (("algorithm=m_grpo",), r"resize\.kind random"),
        (("algorithm={preset: ad_align, alignment: {whiten: step}}",), r"alignment\.whiten step"),
        (("train.epochs=2",), r"train\.epochs is 2"),
        (("train.minibatches=3",), r"train\.minibatches 3"),
        (("rollout.max_staleness=1",), r"rollout\.max_staleness is 1"),
        (("rewards=[{use: information_gain}]",), r"rewards\[0\] \(information_gain\)"),
    ],
)
def test_what_is_not_local_to_the_group_is_refused_by_its_key(overrides, key):
    make_recipe(*overrides)
    with pytest.raises(RecipeError, match=rf"rollout\.pipeline: .*({key})"):
        make_recipe(*overrides, "rollout.pipeline=true")


def test_credit_that_is_not_local_after_all_stops_the_run(monkeypatch):
    rig = Rig("algorithm={preset: rloo, normalise: whiten}")
    with pytest.raises(AssertionError, match="not local to the group"):
        piece_by_piece(rig.learning(), rig.play(), [{0}, {1}])


def test_a_pipelined_run_makes_the_updates_of_a_plain_one(tmp_path):
    settings = ("model.dtype=float64", "rollout.groups=4", "algorithm=ad_align")
    train(make_recipe(*settings), tmp_path / "plain")
    train(make_recipe(*settings, "rollout.pipeline=true"), tmp_path / "pieces")
    plain, pieces = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("plain", "pieces"))
    for one, other in zip(plain, pieces, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if not key.startswith("seconds/"):
                assert other[key] == pytest.approx(value, rel=1e-6, abs=1e-9), key


def test_gradients_are_made_while_other_groups_still_play(tmp_path, monkeypatch):
    """A group's gradient is there before the last group has begun its last decision."""
    from marft.rollout import Rollout
    from marft.train.update import Updater

    happened, play, add = [], Rollout.play, Updater.add

    async def slow(self, plans, **options):
        episodes = await play(self, plans, **options)
        if plans[0].group == 1:
            await asyncio.sleep(0.5)
        happened.append(f"played {plans[0].group}")
        return episodes

    monkeypatch.setattr(Rollout, "play", slow)
    monkeypatch.setattr(Updater, "add", lambda self, *rest: (add(self, *rest), happened.append("added"))[0])
    train(make_recipe("rollout={groups: 2, pipeline: true}", "train.updates=1"), tmp_path / "run")
    assert happened == ["played 0", "added", "added", "played 1", "added", "added"]
