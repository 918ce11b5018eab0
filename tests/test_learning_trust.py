"""Trust-and-Split: climbing one's own return ends in greed; Advantage Alignment shares, but not with the greedy.

The recipes, seed 0, two thirds of their updates. The thresholds lie between what the warmed-up base does and what three
whole runs ended at, which the recipes' README tells.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from marft.recipe import load_recipe

pytestmark = pytest.mark.learning

FOLDER = Path(__file__).parent.parent / "recipes" / "trust_and_split"
GREEDY = 27.5
"""Per agent and round where both claim all (tests/vectors/games.json)."""
UPDATES = 16
DEADLINE = 1500


@pytest.fixture(scope="module")
def earned(tmp_path_factory):
    """(team, opponent) -> what the team earns per agent and round."""
    root = tmp_path_factory.mktemp("trust")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MARFT_CACHE": str(root / "cache")}

    def marft(*arguments):
        command = [sys.executable, "-m", "marft", *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr[-2000:]

    found = {}
    for team in ("naive", "ad_align"):
        recipe = FOLDER / f"{team}.yaml"
        marft("train", recipe, f"train.updates={UPDATES}", "trackers=[]", "--out", root / team)
        marft(
            "eval",
            "own",
            "--team",
            root / team,
            "--against",
            "greedy",
            "--episodes",
            32,
            "--out",
            root / f"eval-{team}",
        )
        rounds = load_recipe(recipe).game.options["rounds"]
        for pair in json.loads((root / f"eval-{team}" / "results.json").read_text(encoding="utf-8"))["pairs"]:
            found[team, pair["opponent"]] = pair["metrics"]["return"]["mean"] / rounds
    return found


def test_who_climbs_its_own_return_ends_at_the_greedy_level(earned):
    assert earned["naive", "self"] == pytest.approx(GREEDY, rel=0.1)


def test_advantage_alignment_shares(earned):
    assert earned["ad_align", "self"] > 1.15 * GREEDY


def test_advantage_alignment_is_hardly_exploited_by_the_greedy_player(earned):
    assert earned["ad_align", "greedy"] > 0.8 * GREEDY
