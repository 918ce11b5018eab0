"""A debating society learns: more of its answers are right after the debate, by first answers and by listening."""

from pathlib import Path
from statistics import mean

import pytest

from marft.recipe import load_recipe
from marft.train.folder import read_metrics
from marft.train.loop import train

pytestmark = pytest.mark.learning

RECIPE = Path(__file__).parents[1] / "recipes" / "debate_society" / "grpo.yaml"


def test_training_raises_the_accuracy_after_the_debate(cache, tmp_path):
    """A shorter run than the recipe's. The players it was warmed up on know six of ten answers."""
    run = train(load_recipe(RECIPE, ["model.device=cpu", "trackers=[]", "train.updates=30"]), tmp_path / "run")
    lines = read_metrics(run / "metrics.jsonl")
    before, after = (
        {key: mean(line[f"game/{key}"] for line in part) for key in ("first_accuracy", "final_accuracy", "corrected")}
        for part in (lines[:2], lines[-4:])
    )
    assert 0.5 < before["first_accuracy"] < 0.7
    assert after["final_accuracy"] > before["final_accuracy"] + 0.1
    assert after["corrected"] > before["corrected"]
