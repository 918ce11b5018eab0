"""Agents on two bases, each with vLLM servers of its own."""

import os

import pytest
from server_fixtures import LAUNCH, served_data, served_folder
from trainer_fixtures import base_folder

from marft.recipe import parse_recipe
from marft.store import read_episodes
from marft.train.folder import read_metrics
from marft.train.loop import train

pytestmark = pytest.mark.server


def test_each_base_is_played_on_its_own_servers_and_agrees_with_the_trainer(tmp_path):
    """The canary stops a run whose servers speak with another base or adapter; the gap is what it would have seen."""
    tiny = {"hidden": 128, "heads": 2, "kv_heads": 2, "intermediate": 96, "vocabulary": 340, "context": 1024, "seed": 5}
    tiny |= {"warmup_episodes": 64, "warmup_steps": 40, "warmup_batch": 16, "warmup_learning_rate": 0.01}
    changes = {
        "models": {"wide": {"name": "tiny", "device": "cpu", "tiny": tiny}},
        "agents": {"bob": {"model": "wide"}},
        "team": {"bob": {"pool": ["bob", {"frozen": "base", "model": "wide"}]}},
        "rollout": {"groups": 6},
        "engine": {"kind": "vllm", "launch": LAUNCH},
        "train": {"updates": 2, "save_every": 2},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARFT_CACHE", os.path.dirname(base_folder()))
        recipe = parse_recipe(served_data(**changes))
        assert recipe.model.name == served_folder()
        run = train(recipe, tmp_path / "run")
    for line in read_metrics(run / "metrics.jsonl"):
        assert max(line[f"agent/{name}/gap"] for name in ("alice", "bob")) < 1e-4
    played = {turn.policy for episode in read_episodes(run) for turn in episode.turns}
    assert played == {"alice", "bob", "frozen:base@wide"}
    logs = {path.parent.parent.name for path in run.glob("bases/*/servers/server-0.log")}
    assert logs == {"model", "models.wide"}
