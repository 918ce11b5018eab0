"""Two agents on different bases learn to defect on each other, as two on one base do."""

import pytest

from marft.recipe import parse_recipe
from marft.train.folder import read_metrics
from marft.train.loop import train

pytestmark = pytest.mark.learning

TINY = {"intermediate": 96, "vocabulary": 400, "warmup_episodes": 256, "warmup_steps": 200, "warmup_batch": 32}
NARROW = TINY | {"hidden": 48, "warmup_steps": 300}
WIDE = TINY | {"hidden": 64, "vocabulary": 340, "seed": 1}
DATA = {
    "name": "test",
    "game": {"name": "prisoners_dilemma", "rounds": 5},
    "model": {"name": "tiny", "device": "cpu", "tiny": NARROW},
    "models": {"wide": {"name": "tiny", "device": "cpu", "tiny": WIDE}},
    "agents": {"alice": {}, "bob": {"model": "wide"}},
    "adapter": {"rank": 8, "alpha": 16, "targets": ["q_proj", "k_proj", "v_proj", "o_proj"]},
    "optimizer": {"learning_rate": 4.0e-3},
    "sampling": {"max_new_tokens": 2},
    "rollout": {"groups": 2, "group_size": 32},
    "rewards": [{"use": "payoff", "options": {"scale": 0.2}}],
    "algorithm": {"preset": "ad_align", "alignment": "none"},
    "train": {"updates": 12, "save_every": 12},
    "trackers": [],
}


def test_plain_policy_gradient_on_two_bases_ends_in_mutual_defection(tmp_path):
    """Seen on three seeds, cooperation at the first update: 0.56 to 0.65; at the last: 0.03 to 0.14."""
    run = train(parse_recipe(DATA), tmp_path / "run")
    first, *_, last = read_metrics(run / "metrics.jsonl")
    for name in ("alice", "bob"):
        assert first[f"game/{name}/cooperation"] > 0.5
        assert last[f"game/{name}/cooperation"] < 0.25
