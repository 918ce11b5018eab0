"""What the README shows must work as it stands there."""

import re
from pathlib import Path

import pytest
import yaml

from marft.compliance import check_game
from marft.credit import advantages
from marft.episode import Episode
from marft.games import make_game
from marft.recipe import load_recipe, merge, parse_recipe, read_yaml
from marft.rewards import load_reward

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, part: str) -> str:
    """The one code block of a language that contains `part`."""
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.S) if part in text]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The README's own game and reward as files in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("my_game.py").write_text(block("python", "class Guess"), encoding="utf-8")
    Path("my_reward.py").write_text(block("python", "def fairness"), encoding="utf-8")


def test_the_own_game_keeps_the_contract_and_takes_its_option(own):
    game = make_game("my_game.py:Guess", {"target": 3})
    check_game(lambda: make_game("my_game.py:Guess", {"target": 3}))
    game.reset(0)
    result = game.act({"alice": "5", "bob": "what?"})
    assert (result.rewards, result.invalid) == ({"alice": -2.0, "bob": 0.0}, ("bob",))


def test_the_own_reward_gives_what_it_says(own):
    reward = load_reward("my_reward.py:fairness", {"power": 2.0})
    episode = Episode("e", "g", ("alice", "bob"), {}, 0, rewards=[{"alice": 3.0, "bob": 1.0}, {"bob": 5.0}])
    assert reward(episode) == {"alice": [-4.0, -25.0], "bob": [-4.0, -25.0]}


def test_the_own_model_s_recipe_reads_and_its_agents_differ():
    data = yaml.safe_load(block("yaml", "dilemma_4b"))
    base = read_yaml(ROOT / data.pop("base"))
    recipe = parse_recipe(merge(base, data))
    assert [recipe.adapter_of(agent).rank for agent in ("alice", "bob")] == [16, 8]
    assert recipe.model.dtype == "bfloat16"


def test_the_own_algorithm_reads_and_computes():
    settings = yaml.safe_load(block("yaml", "attribution: own"))["algorithm"]
    table = {"episode": [0, 0, 1, 1], "seat": [0, 1, 0, 1], "step": [0, 0, 0, 0], "reward": [1.0, 2.0, 3.0, 5.0]}
    assert advantages(settings, table).tolist() == [-2.0, -3.0, 2.0, 3.0]  # leave-one-out of two, alignment 0 at step 0


def test_every_recipe_in_the_tree_reads():
    recipes = [path for path in (ROOT / "recipes").glob("*/*.yaml") if path.parent.name != "accelerate"]
    assert recipes
    for path in recipes:
        load_recipe(path)


def test_every_file_the_readme_links_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
