"""Split digits: two agents learn to tell and to add, by `magrpo`; with the channel cut they stay at chance.

The recipes, three seeds of the one and one of the other. Chance is 1 in 10: the other's digit is uniform, so that no
answer is right more often, whatever is said.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean, median

import pytest

pytestmark = pytest.mark.learning

FOLDER = Path(__file__).parent.parent / "recipes" / "split_info"
CHANCE = 0.1
LAST = 5
"""Updates at the end that count: the learning rate has all but fallen to zero."""
DEADLINE = 1500


@pytest.fixture(scope="module")
def curve(tmp_path_factory):
    """(recipe, seed, further keys) -> its share of right answers, update by update."""
    root = tmp_path_factory.mktemp("split_info")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MARFT_CACHE": str(root / "cache")}

    def trained(name, seed, *keys):
        out = root / f"{name}-{seed}"
        keys = (f"seed={seed}", "trackers=[]", "train.save_every=100", *keys)
        command = [sys.executable, "-m", "marft", "train", str(FOLDER / f"{name}.yaml"), *keys, "--out", str(out)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        lines = (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["game/exact"] for line in lines]

    return trained


def test_agents_that_see_a_digit_each_learn_to_tell_it_and_to_add(curve):
    curves = [curve("magrpo", seed) for seed in range(3)]
    assert fmean(one[0] for one in curves) <= 0.3
    assert median(fmean(one[-LAST:]) for one in curves) >= 0.95


def test_with_the_channel_cut_they_stay_at_chance(curve):
    """As many updates as the others need to pass one half; 288 answers each to 16 deals."""
    last = curve("cut", 0, "train.updates=15")[-LAST:]
    assert fmean(last) <= CHANCE + 0.06
