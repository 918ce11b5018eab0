"""Episodes played to be learned from later: `train.learn: false` records as training does, and changes no agent."""

import pytest
from trainer_fixtures import folder_bytes, make_recipe

from marft.errors import RecipeError
from marft.stages.pairs import preference_pairs
from marft.stages.select import Filters
from marft.stages.sources import read_batches
from marft.store import read_episodes
from marft.train.folder import read_metrics
from marft.train.loop import train

TREES = ("rollout={groups: 2, group_size: 1, plan: {kind: tree, samples: 2}}", "train={updates: 2, save_every: 1}")


def test_agents_stay_as_they_were_and_what_they_play_is_recorded_and_paid(tmp_path):
    start = train(make_recipe("train={updates: 1}", "optimizer.learning_rate=0.1"), tmp_path / "start") / "adapters"
    begin = [f"agents.{name}.start_from={start / name}" for name in ("alice", "bob")]
    run = train(make_recipe(*TREES, *begin, "train.learn=false"), tmp_path / "run")
    for name in ("alice", "bob"):
        weights = "adapter_model.safetensors"
        assert (run / "adapters" / name / weights).read_bytes() == (start / name / weights).read_bytes()
    played = list(read_episodes(run))
    assert {episode.update for episode in played} == {0, 1}
    assert {turn.version for episode in played for turn in episode.turns} == {0}
    assert all(
        sum(episode.terms["payoff"][seat]) == episode.returns()[seat] for episode in played for seat in episode.seats
    )
    lines = read_metrics(run / "metrics.jsonl")
    assert all("game/cooperation" in line and not any(key.startswith("agent/") for key in line) for line in lines)
    assert lines[-1]["trained_tokens"] == 0
    assert sum(map(len, preference_pairs(read_batches([run]), Filters(), by="value").values())) > 0


def test_the_first_update_is_played_as_training_plays_it(tmp_path):
    learned = train(make_recipe(*TREES), tmp_path / "learned")
    collected = train(make_recipe(*TREES, "train.learn=false"), tmp_path / "collected")
    assert list(read_episodes(collected, 0)) == list(read_episodes(learned, 0))
    assert list(read_episodes(collected, 1)) != list(read_episodes(learned, 1))
    assert folder_bytes(collected / "adapters") != folder_bytes(learned / "adapters")


def test_learning_from_groups_as_they_come_cannot_be_without_learning():
    with pytest.raises(RecipeError, match=r"train\.learn"):
        make_recipe("rollout.pipeline=true", "train.learn=false")
