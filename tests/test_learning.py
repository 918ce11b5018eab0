"""Behaviour changes as the theory says: the demo over three seeds, medians against the figures it promises."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest

pytestmark = pytest.mark.learning

DEMO = Path(__file__).parent.parent / "recipes" / "prisoners_dilemma" / "demo.py"
SEEDS = (0, 1, 2)
DEADLINE = 1500


@pytest.fixture(scope="module")
def summaries(tmp_path_factory):
    """Each seed's summary.json; two seeds at a time, a thread each, which two cores do faster than one with both."""
    root = tmp_path_factory.mktemp("demo")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MARFT_CACHE": str(root / "cache")}

    def play(seed: int) -> dict:
        out = root / str(seed)
        command = [sys.executable, str(DEMO), "--out", str(out), "--seed", str(seed), "--episodes", "32"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert (out / "report.html").stat().st_size > 50_000
        assert str(out / "report.html") in done.stdout
        return json.loads((out / "summary.json").read_text(encoding="utf-8"))

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(play, SEEDS))


def middle(summaries, team: str, *path: str) -> float:
    values = []
    for summary in summaries:
        value = summary[team]
        for key in path:
            value = value[key]
        values.append(value)
    return median(values)


def test_plain_policy_gradient_ends_in_mutual_defection(summaries):
    assert middle(summaries, "naive", "self_play", "cooperation") <= 0.10


def test_advantage_alignment_keeps_the_peace_and_punishes(summaries):
    assert middle(summaries, "ad_align", "self_play", "p_c", "cc") >= 0.80
    assert middle(summaries, "ad_align", "self_play", "p_c", "dd") <= 0.20
    assert middle(summaries, "ad_align", "self_play", "cooperation") >= 0.60


def test_advantage_alignment_is_not_exploited_and_cooperates_with_tit_for_tat(summaries):
    assert middle(summaries, "ad_align", "vs", "AllD", "cooperation_after_first") <= 0.25
    assert middle(summaries, "ad_align", "vs", "TFT", "cooperation") >= 0.75


def test_an_aligned_team_earns_more_than_a_naive_one(summaries):
    naive, aligned = (middle(summaries, team, "self_play", "return") for team in ("naive", "ad_align"))
    assert naive < 12 < 20 < aligned  # mutual defection pays 10, mutual cooperation 30
