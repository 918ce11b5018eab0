"""Every preset trains: 90 % of the best return on two small games within its budget, in the median of three seeds."""

import pytest
from preset_runs import GAMES, budget_of, grouped, median_updates, run_all

from marft.credit import PRESETS

pytestmark = pytest.mark.learning


@pytest.fixture(scope="module")
def results(cache):
    return grouped(run_all())


@pytest.mark.parametrize("game", list(GAMES))
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_learns_both_games(preset, game, results):
    assert median_updates(results[preset, game]) <= budget_of(preset), results[preset, game]
