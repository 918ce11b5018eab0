"""Where self-interest and the common good part: what each preset makes of the recipes of the social dilemmas."""

from pathlib import Path
from statistics import mean, median

import pytest

pytestmark = pytest.mark.learning

RECIPES = Path(__file__).parent.parent / "recipes"
SEEDS = (0, 1, 2)


def play(cache, folder, path, metric, *overrides):
    """The metric of the first update, from before anything is learnt, and its mean over the last three."""
    import torch

    from marft.recipe import load_recipe
    from marft.train.folder import read_metrics
    from marft.train.loop import train

    torch.set_num_threads(1)
    train(load_recipe(RECIPES / path, ["model.device=cpu", "trackers=[]", *overrides]), folder)
    values = [line[f"game/{metric}"] for line in read_metrics(folder / "metrics.jsonl")]
    return values[0], mean(values[-3:])


def stag_hunt(cache, root, name, updates):
    """Medians over the seeds of the share of stag, before learning and after."""
    settings = [f"train.updates={updates}", "optimizer.schedule=constant"]
    path = f"stag_hunt/{name}.yaml"
    found = [play(cache, root / f"{name}-{seed}", path, "cooperation", f"seed={seed}", *settings) for seed in SEEDS]
    return [median(values) for values in zip(*found, strict=True)]


def test_plain_policy_gradient_stays_with_the_hare(cache, tmp_path):
    before, after = stag_hunt(cache, tmp_path, "naive", 10)
    assert before <= 0.35  # stag pays only where the other hunts it in two of three rounds: 4p > 3p + 2(1 - p)
    assert after <= 0.10


def test_advantage_alignment_brings_both_to_the_stag_from_the_same_start(cache, tmp_path):
    before, after = stag_hunt(cache, tmp_path, "ad_align", 14)
    assert before <= 0.35
    assert after >= 2 / 3  # from there on stag pays


@pytest.mark.parametrize(("name", "low", "high"), [("naive", 0.0, 0.15), ("prosocial", 0.7, 1.0)])
def test_contributions_fall_where_each_climbs_its_own_return_and_rise_where_all_climb_the_sum(
    name, low, high, cache, tmp_path
):
    settings = ["train.updates=10", "optimizer.schedule=constant"]
    _, after = play(cache, tmp_path / name, f"public_goods/{name}.yaml", "contribution_share", *settings)
    assert low <= after <= high
