"""CORY: two agents that change places while they learn can change places afterwards."""

from pathlib import Path

import pytest

from marft.lookup import load_object
from marft.recipe import load_recipe
from marft.train.loop import train

pytestmark = pytest.mark.learning

FOLDER = Path(__file__).parents[1] / "recipes" / "cory"


def test_both_learn_both_roles_and_swapping_costs_less_than_five_points(cache, tmp_path):
    """A shorter run than the recipe's. The players of the warm-up know six of ten answers."""
    accuracies = load_object(f"{FOLDER / 'seatings.py'}:accuracies", "test")
    quick = ["model.device=cpu", "trackers=[]"]
    before = train(load_recipe(FOLDER / "untrained.yaml", quick), tmp_path / "before")
    after = train(load_recipe(FOLDER / "cory.yaml", [*quick, "train.updates=40"]), tmp_path / "after")
    untrained = accuracies(before, False, 512)
    straight, swapped = (accuracies(after, seating, 512) for seating in (False, True))
    for role in ("pioneer", "observer"):
        assert untrained[role] < 0.65
        assert straight[role] > untrained[role] + 0.1
        assert swapped[role] > untrained[role] + 0.1
    assert abs(straight["both"] - swapped["both"]) < 0.05
