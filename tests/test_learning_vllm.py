"""The demo on two real vLLM servers: naive agents defect, Advantage Alignment reciprocates, as they do in process.

The naive team is trained on play that may be two versions old, the other one synchronously.
"""

from pathlib import Path

import pytest
from server_fixtures import KEY, start_fleet

from marft.eval.arena import evaluate
from marft.recipe import load_recipe
from marft.train.folder import read_metrics
from marft.train.loop import train

pytestmark = [pytest.mark.learning, pytest.mark.server]

RECIPES = Path(__file__).parent.parent / "recipes" / "prisoners_dilemma"
UPDATES = {"ad_align": 20, "naive": 10}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Team -> what it did in self-play and against each scripted player."""
    root = tmp_path_factory.mktemp("vllm")
    tiny = ["model.tiny.heads=2", "model.tiny.kv_heads=2"]
    fleet = start_fleet(root / "servers", 2, load_recipe(RECIPES / "vllm.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, fleet.key)
        engine = f"engine={{kind: vllm, urls: [{', '.join(fleet.urls)}], key_env: {KEY}}}"
        try:
            for team, updates in UPDATES.items():
                stale = ["rollout.max_staleness=2"] if team == "naive" else []
                recipe = load_recipe(RECIPES / f"{team}.yaml", [engine, f"train.updates={updates}", *tiny, *stale])
                train(recipe, root / team)
        finally:
            fleet.stop()
    results = evaluate({team: root / team for team in UPDATES}, root / "eval", against="AllD,TFT", episodes=32)
    found = {team: {} for team in UPDATES}
    for pair in results["pairs"]:
        found[pair["team"]][pair["opponent"]] = {key: value["mean"] for key, value in pair["metrics"].items()}
    return found | {"metrics": read_metrics(root / "naive" / "metrics.jsonl")}


def test_naive_agents_defect(found):
    assert found["naive"]["self"]["cooperation"] <= 0.10


def test_aligned_agents_keep_the_peace_and_punish(found):
    own = found["ad_align"]["self"]
    assert own["p_c_cc"] >= 0.80
    assert own["p_c_dd"] <= 0.20
    assert own["cooperation"] >= 0.60


def test_play_was_older_than_the_policy_and_never_too_old(found):
    ages = [line["async/staleness_max"] for line in found["metrics"]]
    assert max(ages) >= 1
    assert max(ages) <= 2
