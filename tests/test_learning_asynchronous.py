"""The demo still learns where play goes on while it trains, on what versions up to two behind have played."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from marft.episode import finished
from marft.games import make_game
from marft.store import read_episodes
from marft.train.folder import read_metrics

pytestmark = pytest.mark.learning

RECIPE = Path(__file__).parent.parent / "recipes" / "prisoners_dilemma" / "ad_align.yaml"
DEADLINE = 900


def test_advantage_alignment_learns_from_episodes_two_versions_old(tmp_path):
    out = tmp_path / "run"
    changes = ["rollout.max_staleness=2", "trackers=[]", "seed=0"]
    command = [sys.executable, "-m", "marft", "train", str(RECIPE), *changes, "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = read_metrics(out / "metrics.jsonl")
    assert max(line["async/staleness_max"] for line in metrics) <= 2
    assert sum(line["async/staleness_mean"] for line in metrics) / len(metrics) > 1.5  # it really was off-policy
    last = [episode for update in range(len(metrics) - 5, len(metrics)) for episode in read_episodes(out, update)]
    found = make_game("prisoners_dilemma", {"rounds": 10}).metrics(finished(last))
    assert found["p_c_cc"] >= 0.80
    assert found["p_c_dd"] <= 0.20
    assert found["cooperation"] >= 0.60
