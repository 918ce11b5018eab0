"""An evaluation asks the questions of the test split, says so, and leaves the base what it was."""

import json

import pytest

from marft.eval.arena import evaluate
from marft.eval.heldout import on_split, task_of
from marft.files import write_text
from marft.recipe import dump_recipe, merge, parse_recipe
from marft.store import read_episodes
from marft.tasks import TaskOptions, load_tasks
from marft.tiny import tiny_folder

TASK = {"options": {"kind": "largest", "terms": 3}, "size": 200}
DEBATE = {
    "name": "test",
    "model": {"name": "tiny", "device": "cpu", "tiny": {"warmup_steps": 0, "warmup_episodes": 16}},
    "game": {"name": "debate", "seats": 2, "task": TASK},
    "agents": {"p1": {}, "p2": {}},
    "sampling": {"max_new_tokens": 4},
    "algorithm": "grpo",
    "trackers": [],
}


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    """A run folder of untrained adapters."""
    from marft.bank import AdapterBank
    from marft.model import load_base

    folder, recipe = tmp_path_factory.mktemp("run"), parse_recipe(DEBATE)
    bank = AdapterBank(load_base(recipe, "cpu").model, packing=False)
    for agent in recipe.agents:
        bank.add(agent, recipe.adapter_of(agent), 0)
        bank.save(agent, folder / "adapters" / agent)
    write_text(folder / "recipe.yaml", dump_recipe(recipe))
    return folder


@pytest.mark.parametrize("split", ["test", "train"])
def test_an_evaluation_asks_the_questions_of_the_split_and_says_which(run, tmp_path, split):
    settings = {} if split == "test" else {"split": split}
    results = evaluate({"run": run}, tmp_path, against="right", episodes=8, resamples=20, **settings)
    assert json.loads((tmp_path / "results.json").read_text())["settings"]["split"] == split
    known = {task.question for task in load_tasks(TaskOptions(**TASK)).tasks}
    asked = {episode.facts["question"] for episode in read_episodes(tmp_path)}
    assert len(asked) > 4
    assert bool(asked & known) == (split == "train")
    assert (asked <= known) == (split == "train")
    assert [pair["opponent"] for pair in results["pairs"]] == ["self", "right"]


def test_only_the_questions_change_and_not_the_model_they_are_put_to():
    recipe = parse_recipe(DEBATE)
    played = on_split(recipe.game, "test")
    assert task_of(played) == TaskOptions(**TASK | {"split": "test", "size": None})
    assert (played.name, played.options["seats"]) == ("debate", 2)
    changed = recipe.model_copy(update={"game": played})
    assert tiny_folder(changed) != tiny_folder(recipe)  # hence the base is loaded by the recipe as it was
    assert on_split(recipe.game, "train").options["task"] == recipe.game.options["task"] | {"split": "train"}


def test_a_game_without_tasks_is_played_as_it_is():
    changes = {"game": {"name": "prisoners_dilemma"}, "agents": {"p1": None, "p2": None, "alice": {}, "bob": {}}}
    recipe = parse_recipe(merge(DEBATE, changes))
    assert on_split(recipe.game, "test") is recipe.game
