"""Several processes under accelerate make the same updates as one."""

import numpy as np
import pytest
from launches import launch, texts, trained, weights

from marft.store import read_episodes
from marft.train.folder import read_metrics

pytestmark = pytest.mark.distributed


# Sums of gradients are rounded in another order, and AdamW's first steps divide each by its own size: the weights,
# which have moved by 3 × 0.01 at most, may differ by the rounding (float32: 1e-7 relative) times a few. Seen: 3e-7 and
# 8e-17. With one group the second process has no episode at all, and must still take part in every sum. The exact ones
# are padded: how much rows share in a pack depends on who else is in it, and the model's norms round to float32.
@pytest.mark.parametrize(
    ("dtype", "groups", "tolerance"), [("float32", 5, 1e-5), ("float64", 5, 1e-12), ("float64", 1, 1e-12)]
)
def test_two_processes_end_with_the_adapters_of_one(tmp_path, dtype, groups, tolerance):
    packing = f"train.packing={dtype == 'float32'}".lower()
    for name, processes in (("one", None), ("two", 2)):
        done = launch(tmp_path, name, processes, f"model.dtype={dtype}", f"rollout.groups={groups}", packing)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    gap = max(float(np.abs(one[name] - two[name]).max()) for name in one)
    assert gap < tolerance
    assert max(float(np.abs(tensor).max()) for name, tensor in one.items() if "lora_B" in name) > 1e-3  # it has moved
    shards = {path.stem[-2:] for path in (tmp_path / "two" / "episodes").iterdir()}
    assert shards == {"-0", "-1"}  # there really were two
    assert texts(tmp_path / "one") == texts(tmp_path / "two")
    for alone, together in zip(
        *(read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two")), strict=True
    ):
        for key, value in alone.items():
            if not key.startswith("seconds/") and value is None:  # nothing was observed
                assert together[key] is None
            elif not key.startswith("seconds/"):
                assert together[key] == pytest.approx(value, rel=100 * tolerance, abs=tolerance), key


@pytest.mark.parametrize(
    "overrides",
    [
        ("algorithm=marft_token", "critic.minibatches=1"),  # mini-batches are drawn from each process's own rows
        ("algorithm={preset: epo, baseline: {kind: ema_per_seat}, normalise: none, update: sequential}",),
        ("algorithm=magrpo", "rollout.plan={kind: tree, samples: 2}", "rollout.group_size=1"),
    ],
    ids=["critic", "memory", "tree"],
)
def test_what_credit_and_critic_know_is_shared_by_the_processes(tmp_path, overrides):
    for name, processes in (("one", None), ("two", 2)):
        done = launch(tmp_path, name, processes, "model.dtype=float64", "train.updates=2", *overrides)
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float(np.abs(one[name] - two[name]).max()) for name in one) < 1e-6  # the critic's head is float32
    assert texts(tmp_path / "one") == texts(tmp_path / "two")


def test_two_processes_write_one_log_for_the_trackers(tmp_path):
    folder = trained(tmp_path, "two", 2, "train.updates=1", "trackers=[tensorboard]")
    assert len(list((folder / "trackers").rglob("events*"))) == 1


def test_two_processes_that_play_meanwhile_share_every_update(tmp_path):
    settings = ("rollout.max_staleness=2", "train.updates=6")
    done = launch(tmp_path, "two", 2, *settings)
    assert done.returncode == 0, done.stderr[-2000:]
    episodes, metrics = list(read_episodes(tmp_path / "two")), read_metrics(tmp_path / "two" / "metrics.jsonl")
    for update, line in enumerate(metrics):
        own = [episode for episode in episodes if episode.update == update]
        assert sorted(episode.group for episode in own) == [group for group in range(5) for _ in range(3)]
        oldest = min(turn.version for episode in own for turn in episode.turns)
        assert 0 <= update - oldest == line["async/staleness_max"] <= 2
    assert len({episode.id for episode in episodes}) == 6 * 5 * 3
    shards = [(tmp_path / "two" / "episodes" / f"update-000005-{rank}.parquet").is_file() for rank in (0, 1)]
    assert shards == [True, True]


def test_two_processes_learn_from_groups_as_they_come_what_one_does(tmp_path):
    for name, processes, pipeline in (("one", None, "false"), ("two", 2, "true")):
        done = launch(tmp_path, name, processes, "model.dtype=float64", f"rollout.pipeline={pipeline}")
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    # Other micro-batches; the norms are float32 even so, whose rounding AdamW enlarges in its first steps (seen: 6e-8).
    assert max(float(np.abs(one[name] - two[name]).max()) for name in one) < 1e-6
    assert texts(tmp_path / "one") == texts(tmp_path / "two")


def test_one_process_under_accelerate_is_the_plain_run(tmp_path):
    for name, processes in (("plain", None), ("launched", 1)):
        done = launch(tmp_path, name, processes)
        assert done.returncode == 0, done.stderr[-2000:]
    plain, launched = weights(tmp_path / "plain"), weights(tmp_path / "launched")
    assert all(np.array_equal(plain[name], launched[name]) for name in plain)


@pytest.mark.parametrize("group", [0, 1])
def test_a_failure_in_one_process_ends_them_all(tmp_path, group):
    """The reward fails on a group that only one process plays; the other must not wait for it for ever."""
    reward = tmp_path / "bad.py"
    reward.write_text(f"def bad(episode):\n    return {{'alice': float('nan') if episode.group == {group} else 1.0}}\n")
    done = launch(tmp_path, "bad", 2, f"rewards=['{reward}:bad']")
    assert done.returncode != 0
    assert "rewards must be finite numbers" in done.stderr
