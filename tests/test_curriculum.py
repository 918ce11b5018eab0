"""Curricula: when a stage ends, what each asks, what is refused, and runs that rise, resume and are told beforehand."""

import io
import json
import math
from pathlib import Path

import pytest
from launches import alone, trained
from rich.console import Console
from trainer_fixtures import folder_bytes, make_recipe, recipe_data

from marft.config import Tiny
from marft.curriculum import Curriculum, curriculum_of, stages_of
from marft.errors import RecipeError
from marft.games import make_game
from marft.plan import print_plan
from marft.recipe import apply_override, dump_recipe, parse_recipe
from marft.store import read_episodes
from marft.tasks import TaskOptions, load_tasks, split_of
from marft.tasks.options import Until
from marft.tiny import scripted_play
from marft.train.folder import read_metrics
from marft.train.loop import train

SUMS = {"options": {"kind": "sum"}, "curriculum": [{"until": {"updates": 2}}, {"level": 1}]}


def climbed(untils, values, **start):
    """The stage at which each update is made, where they bring these values of m."""
    curriculum, stages = Curriculum([None] * len(untils), untils), []
    for value in values:
        stages.append(curriculum.stage)
        curriculum.note({"m": value, "n": 1.0})
        again = Curriculum([None] * len(untils), untils)
        again.restore(json.loads(json.dumps(curriculum.state())))
        assert repr(again.state()) == repr(curriculum.state())
        curriculum = again  # as if the run had been resumed here
    return stages


def test_a_stage_ends_after_its_updates_or_when_its_own_last_ones_are_good_enough():
    reach = Until(metric="m", reaches=0.75, over=2)
    assert climbed([Until(updates=2), Until(updates=1), None], [0.0] * 5) == [0, 0, 1, 2, 2]
    assert climbed([reach, None], [0.5, 0.9, 0.5, 1.0, 0.0]) == [0, 0, 0, 0, 1]
    assert climbed([reach, reach, None], [1.0, 1.0, 0.25, 1.0, 1.0, 0.0]) == [0, 0, 1, 1, 1, 2]
    assert climbed([Until(metric="m", reaches=0.5), None], [0.5] * 7) == [0] * 5 + [1] * 2


def test_what_was_not_measured_ends_nothing():
    reach = Until(metric="m", reaches=0.5, over=2)
    assert climbed([reach, None], [1.0, math.nan, 1.0, 1.0, 1.0]) == [0, 0, 0, 0, 1]
    assert climbed([Until(metric="elsewhere", reaches=0.0, over=1), None], [1.0] * 3) == [0] * 3


def asked(stage, split="train", **task):
    return {one.question for one in load_tasks(TaskOptions(**task, stage=stage, split=split)).tasks}


def test_a_question_is_asked_in_one_stage_and_never_in_the_test_split():
    """One number below 10, then below 100: the second stage asks those from 10 on."""
    task = {"options": {"kind": "largest", "terms": 1}}
    plain = {"options": {"kind": "largest", "terms": 1, "digits": 2}}
    task["curriculum"] = [{"until": {"updates": 1}}, {"options": {"digits": 2}}]
    numbers = {f"largest of {n}": n for n in range(100)}
    train_ = {q: n for q, n in numbers.items() if split_of(q, 0.2) == "train"}
    assert asked(0, **task) == {q for q, n in train_.items() if n < 10}
    assert asked(1, **task) <= {q for q, n in train_.items() if n >= 10}
    assert asked(1, **task) == asked(None, **plain) - asked(0, **task) < asked(None, **plain)
    assert asked(1, "test", **task) == asked(None, "test", **plain) <= set(numbers) - set(train_)


def test_whatever_is_not_training_asks_the_last_stage_as_if_there_were_no_other():
    task = {"set": "arithmetic", "template": "Say: {{ question }}", **SUMS}
    plain = {"set": "arithmetic", "template": "Say: {{ question }}", "options": {"kind": "sum"}, "level": 1}
    assert TaskOptions(**task).asked == 1
    for split in ("train", "test"):
        assert load_tasks(TaskOptions(**task, split=split)).tasks == load_tasks(TaskOptions(**plain, split=split)).tasks
    assert load_tasks(TaskOptions(**task, split="test", stage=0)).tasks[0].question.count("+") == 1


def lines(path, *questions):
    path.write_text("".join(json.dumps({"question": question, "answer": "1"}) + "\n" for question in questions))
    return str(path)


def test_what_any_test_file_asks_is_trained_on_in_no_stage(tmp_path):
    easy = {"train": lines(tmp_path / "a", "1?", "2?", "9?"), "test": lines(tmp_path / "b", "3?")}
    hard = {"train": lines(tmp_path / "c", "2?", " 3? ", "4?"), "test": lines(tmp_path / "d", "9?", "5?")}
    for name in "abcd":
        (tmp_path / name).rename(tmp_path / f"{name}.jsonl")
    easy, hard = ({split: f"{path}.jsonl" for split, path in one.items()} for one in (easy, hard))
    task = {"curriculum": [{"path": easy, "until": {"updates": 1}}, {"path": hard}]}
    assert (asked(0, **task), asked(1, **task)) == ({"1?", "2?"}, {"4?"})
    assert (asked(0, "test", **task), asked(1, "test", **task)) == ({"3?"}, {"9?", "5?"})
    mixed = {"curriculum": [{"set": "arithmetic", "until": {"updates": 1}}, {"path": hard}]}
    with pytest.raises(RecipeError, match=r"task\.curriculum\[1\]\.path: has a test file of its own, and stage 0"):
        load_tasks(TaskOptions(**mixed))
    lines(tmp_path / "c.jsonl", "4?", "6?")
    assert asked(1, **task) == {"4?", "6?"}


@pytest.mark.parametrize("name", ["chain_sum", "number_sorting", "leg_counting"])
def test_levels_of_reasoning_gym_rise_and_share_no_question(name):
    pytest.importorskip("reasoning_gym")
    levels = [{"level": level, "until": {"updates": 1}} for level in (0, 1, 2)] + [{"level": 3}]
    task = {"set": f"reasoning_gym:{name}", "size": 20, "curriculum": levels}
    stages = [asked(stage, split, **task) for split in ("train", "test") for stage in range(4)]
    assert [len(one) for one in stages[:4]] == [20] * 4
    for stage, trained_on in enumerate(stages[:4]):
        assert not any(trained_on & other for place, other in enumerate(stages) if place != stage)
    assert sum(map(len, stages[0])) < sum(map(len, stages[3]))


def debate(**task):
    """A small recipe of two who answer once."""
    data = recipe_data("train.updates=6", "train.save_every=1", "rollout={groups: 2, group_size: 2}")
    data["game"] = {"name": "debate", "seats": 2, "rounds": 1, "task": task}
    return data | {"agents": {"p1": {}, "p2": {}}}


TWO, LAST = {"until": {"updates": 2}}, {"level": 1}


@pytest.mark.parametrize(
    ("task", "overrides", "said"),
    [
        ({"curriculum": [LAST, LAST]}, (), r"game\.task: curriculum\[0\] must say until when"),
        ({"curriculum": [TWO, TWO]}, (), r"curriculum\[1\] is the last one: take out its until"),
        ({"curriculum": [{"until": {}}, LAST]}, (), r"game\.task\.curriculum\.0\.until: say either"),
        ({"curriculum": [{"until": {"metric": "m"}}, LAST]}, (), "say either"),
        ({"curriculum": [{"until": {"updates": 2, "over": 3}}, LAST]}, (), "there is no metric"),
        ({"curriculum": [{"until": {"update": 2}}, LAST]}, (), r"unknown key; did you mean 'updates'"),
        ({"curriculum": [{"size": 3, "until": {"updates": 2}}, LAST]}, (), r"curriculum\.0\.size: unknown key"),
        ({"curriculum": [TWO, {"path": "a.jsonl", "level": 1}]}, (), r"curriculum\[1\]: level is for sets by name"),
        ({"curriculum": [TWO, LAST], "stage": 2}, (), "stage 2: the curriculum has stages 0 to 1"),
        ({"stage": 0}, (), "stage 0 is one of a curriculum, and there is none"),
        ({"curriculum": [TWO, {}]}, (), r"task\.curriculum\[1\]: .*has only 0 different questions that no earlier"),
        ({"curriculum": [TWO, {"options": {"kid": 1}}]}, (), r"curriculum\[1\]: task\.options\.kid: unknown key"),
        (SUMS, ("rollout.max_staleness=1",), r"game\.task\.curriculum: rollout\.max_staleness is 1"),
        (
            {"curriculum": [{"until": {"metric": "game/final_acuracy", "reaches": 1}}, LAST]},
            (),
            r"curriculum\[0\]\.until\.metric: no metric 'game/final_acuracy'.*did you mean 'game/final_accuracy'",
        ),
        (
            {"curriculum": [{"until": {"metric": "reward/format", "reaches": 1}}, LAST]},
            (),
            r"no metric 'reward/format'.*did you mean 'reward/payoff'",
        ),
    ],
)
def test_a_curriculum_that_cannot_be_gone_through_is_refused(task, overrides, said):
    data = debate(**task)
    for override in overrides:
        apply_override(data, override)
    with pytest.raises(RecipeError, match=said):
        parse_recipe(data)


def test_metrics_of_seats_and_rewards_may_end_a_stage():
    for metric in ("game/p2/final_accuracy", "game/return", "reward/payoff"):
        assert parse_recipe(debate(curriculum=[{"until": {"metric": metric, "reaches": 0.5}}, LAST]))


def test_a_mixture_does_not_rise_but_may_ask_one_stage():
    parts = [{"name": "debate", "options": {"seats": 2, "task": SUMS}}, "prisoners_dilemma"]
    with pytest.raises(RecipeError, match=r"game\.games: the tasks of debate have a curriculum"):
        make_recipe(f"game={json.dumps({'name': 'mixture', 'games': parts})}")
    parts[0]["options"]["task"] = SUMS | {"stage": 0}
    assert make_recipe(f"game={json.dumps({'name': 'mixture', 'games': parts})}")


def test_a_recipe_with_a_curriculum_is_read_back_the_same():
    recipe = parse_recipe(debate(**SUMS))
    assert dump_recipe(parse_recipe(json.loads(json.dumps(recipe.model_dump(by_alias=True))))) == dump_recipe(recipe)
    assert curriculum_of(parse_recipe(debate(options={"kind": "sum"}))) is None
    assert curriculum_of(parse_recipe(debate(**SUMS, stage=0))) is None


def test_a_tiny_model_is_warmed_up_on_all_stages():
    game = make_game("debate", {"seats": 2, "rounds": 1, "task": SUMS})
    plus = {heard[0].text.count("+") for script in scripted_play(game, Tiny(warmup_episodes=8)) for heard, _ in script}
    assert plus == {1, 2}
    assert [len(one.tasks.tasks[0].question.split("+")) for one in stages_of(game)] == [2, 3]


def stages(run: Path) -> list[float]:
    return [line["curriculum/stage"] for line in read_metrics(run / "metrics.jsonl")]


REACH = {"until": {"metric": "game/invalid", "reaches": 0.0, "over": 3}}
"""Whatever was answered: the condition of a real run, that is met after three updates."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbed: two updates, three, and one at the last stage."""
    return train(parse_recipe(rising()), tmp_path_factory.mktemp("whole") / "run")


def rising(*overrides):
    data = debate(options={"kind": "sum"}, curriculum=[TWO, REACH | {"level": 1}, {"level": 3}])
    for override in overrides:
        apply_override(data, override)
    return data


def test_a_run_asks_the_questions_of_its_stage_and_says_which(whole):
    assert stages(whole) == [0, 0, 1, 1, 1, 2]
    for episode in read_episodes(whole):
        stage = (0, 0, 1, 1, 1, 2)[episode.update]
        assert episode.facts["stage"] == stage
        assert episode.facts["question"].count("+") == (1, 2, 4)[stage]


@pytest.mark.parametrize("after", [1, 4])
def test_a_resumed_run_rises_as_if_nothing_had_happened(whole, tmp_path, after):
    out = train(parse_recipe(rising(f"train.updates={after}")), tmp_path / "run")
    assert train(parse_recipe(rising()), out, resume=True) == out
    strip = [
        [{key: value for key, value in line.items() if "seconds/" not in key} for line in read_metrics(one)]
        for one in (out / "metrics.jsonl", whole / "metrics.jsonl")
    ]
    assert strip[0] == strip[1]
    assert list(read_episodes(out)) == list(read_episodes(whole))
    assert folder_bytes(out / "adapters") == folder_bytes(whole / "adapters")


def test_groups_that_are_learned_from_as_they_end_rise_too(tmp_path):
    run = train(parse_recipe(rising("rollout.pipeline=true")), tmp_path / "run")
    assert stages(run) == [0, 0, 1, 1, 1, 2]
    assert all(e.facts["question"].count("+") == (1, 2, 4)[e.facts["stage"]] for e in read_episodes(run))


def test_a_replay_plays_nothing_and_so_has_no_stage(whole, tmp_path):
    run = train(parse_recipe(rising("train.updates=2")), tmp_path / "run", replay=whole)
    assert all("curriculum/stage" not in line for line in read_metrics(run / "metrics.jsonl"))


def test_a_dry_run_tells_the_stages():
    console = Console(width=200, file=io.StringIO())
    print_plan(parse_recipe(rising("game.task.size=30")), console)
    said = [" ".join(line.split()) for line in console.file.getvalue().splitlines() if "curriculum" in line]
    kind = "arithmetic{}, kind sum: 30 questions;"
    assert len(said) == 3
    assert kind.format("") + " the next one after 2 updates" in said[0]
    assert kind.format(", level 1") + " the next one when game/invalid reaches 0 over 3 updates" in said[1]
    assert kind.format(", level 3") + " to the end" in said[2]


@pytest.mark.distributed
def test_two_processes_rise_together(tmp_path):
    game = {"name": "debate", "seats": 2, "rounds": 1}
    game["task"] = {"curriculum": [{"until": {"metric": "reward/payoff", "reaches": 0.0, "over": 1}}, LAST]}
    settings = (f"game={json.dumps(game)}", "team={p1: alice, p2: bob}", "algorithm=rloo")
    one, two = alone(*settings), trained(tmp_path, "two", 2, *settings)
    assert stages(one) == stages(two) == [0, 1, 1]
    facts = [{episode.id: episode.facts for episode in read_episodes(run)} for run in (one, two)]
    assert facts[0] == facts[1]
    assert {fact["stage"] for fact in facts[0].values()} == {0, 1}
