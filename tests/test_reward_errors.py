"""Rewards that raise, hang, or return what is no reward: each stops the run or is left out, named and counted."""

import contextlib
import math
import time

import numpy as np
import pytest
from dialogues import dialogue
from trainer_fixtures import make_recipe, recipe_data

from marft.errors import RecipeError, RewardError
from marft.lookup import load_object
from marft.recipe import parse_recipe
from marft.rewards import load_reward, takes_all
from marft.rewards.grading import Paid, Ungraded
from marft.store import read_episodes, read_parquet, write_parquet
from marft.train.folder import read_metrics
from marft.train.loop import train
from marft.train.rewarding import Term, failures, score_all, terms_of


def spin(episode):
    while True:
        pass


def swallow(episode):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(60)


WRONG = {
    "raises": (lambda episode: 1 / 0, "raised ZeroDivisionError: division by zero on e1"),
    "nan": (lambda episode: {"a": math.nan}, "gave a .*nan.* on e1; rewards must be finite"),
    "length": (lambda episode: {"a": [1.0]}, "gave a 1 values for 2 steps on e1"),
    "seat": (lambda episode: {"x": 1.0}, "names a seat 'x' that talk does not have"),
    "text": (lambda episode: {"a": "1"}, "gave a the text '1', not numbers on e1"),
    "nothing": (lambda episode: None, "raised TypeError.* on e1"),
    "hangs": (spin, "had not come back after 0.2 s on e1; raise rewards.deadline, or set rewards.process"),
    "sleeps": (swallow, "had not come back after 0.2 s on e1"),
}


def two_turns(number, **more):
    return dialogue(("a", "x"), ("b", "y"), number=number, **more)


def only_on_e1(function):
    return lambda episode: function(episode) if episode.id == "e1" else {"a": 2.0}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_reward_stops_the_run_or_leaves_its_episode_out(kind):
    function, message = WRONG[kind]
    episodes = [two_turns(number) for number in range(3)]
    with pytest.raises(RewardError, match=f"reward mine {message}"):
        score_all(episodes, {"mine": Term(only_on_e1(function), deadline=0.2)})
    episodes = [two_turns(number) for number in range(3)]
    skipping = {"mine": Term(only_on_e1(function), on_error="skip", deadline=0.2), "other": (lambda _: {"b": 1.0}, 1.0)}
    score_all(episodes, skipping)
    assert [episode.failed for episode in episodes] == [False, True, False]
    assert episodes[1].cause == episodes[1].failures["mine"]
    assert "reward mine" in episodes[1].cause
    assert [episode.terms["mine"]["a"] for episode in episodes if not episode.failed] == [[2.0, 0.0]] * 2
    assert failures(episodes, skipping) == {"mine": 1}


def test_the_alarm_is_off_when_the_reward_is_back():
    score_all([two_turns(1)], {"mine": Term(lambda episode: {"a": 1.0}, deadline=0.05)})
    time.sleep(0.15)


def test_with_no_episode_left_a_run_stops_all_the_same():
    episodes = [two_turns(number) for number in range(2)]
    with pytest.raises(RewardError, match="no episode of 2 is left to learn from; the first one: reward mine raised"):
        score_all(episodes, {"mine": Term(lambda episode: 1 / 0, on_error="skip")})


def test_of_a_tree_all_paths_go_together():
    mark = {"a": {"node": "0.1", "parent": "root"}}
    tree = [two_turns(number, marks=mark) for number in range(3)]
    other = [two_turns(number, group=1, marks=mark) for number in range(3, 5)]
    score_all(tree + other, {"mine": Term(only_on_e1(lambda episode: 1 / 0), on_error="skip")})
    assert [episode.failed for episode in tree + other] == [True] * 3 + [False] * 2
    assert {episode.cause for episode in tree} == {tree[1].cause}
    assert list(tree[0].failures) == []


def batch(episodes):
    if any(episode.id == "e1" for episode in episodes):
        raise ValueError("no")
    return [{"a": 1.0} for _ in episodes]


@pytest.mark.parametrize(("unit", "left"), [("episode", "0.234"), ("group", "...234"), ("all", None)])
def test_a_batch_that_raises_is_taken_apart_as_far_as_it_may_be(unit, left):
    def function(episodes):
        return batch(episodes)

    function.unit = unit
    episodes = [two_turns(number, group=number // 2) for number in range(5)]
    terms = {"mine": Term(function, on_error="skip")}
    if left is None:
        with pytest.raises(RewardError, match="no episode of 5 is left .*raised ValueError: no on 5 episodes"):
            score_all(episodes, terms)
        return
    score_all(episodes, terms)
    assert [not episode.failed for episode in episodes] == [str(n) in left for n in range(5)]


def test_a_batch_of_a_wrong_length_is_refused():
    with pytest.raises(RewardError, match="reward mine answered 2 episodes with 1 results"):
        score_all([two_turns(0), two_turns(1)], {"mine": Term(lambda episodes: [{"a": 1.0}])})


def test_what_could_not_be_graded_says_what_to_set():
    with pytest.raises(RewardError, match=r"could not grade e0: lost; set rewards\[3\].on_error skip"):
        score_all([two_turns(0)], {"mine": Term(lambda episodes: [Ungraded("lost")], key="rewards[3]")})


def test_what_was_paid_for_all_the_same_is_counted_and_stored(tmp_path):
    def function(episodes, failed=None):
        return [Paid({"a": 0.5}, ["a: timeout"]) if episode.id == "e1" else {"a": 1.0} for episode in episodes]

    episodes = [two_turns(number) for number in range(2)]
    terms = {"mine": Term(function)}
    score_all(episodes, terms)
    assert failures(episodes, terms) == {"mine": 1}
    assert not episodes[1].failed
    write_parquet(episodes, tmp_path / "e.parquet")
    assert [one.failures for one in read_parquet(tmp_path / "e.parquet")] == [{}, {"mine": "a: timeout"}]


# --- in a process of its own

OWN = """
import os, time
def kind(episode, bonus=0.0):
    if episode.id == "e1":
        {}
    return {{"a": 1.0 + bonus, "b": [len(turn.text) for turn in episode.turns]}}
"""


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("10 ** 10 ** 10", "could not grade e1: timeout: not done in 3 s"),
        ("os._exit(3)", "could not grade e1: crash: the process ended by exit status 3"),
        ("raise KeyError('z')", "could not grade e1: error: KeyError: 'z'"),
    ],
)
def test_a_reward_in_its_own_process_is_killed_and_the_others_are_graded(tmp_path, wrong, message):
    path = tmp_path / "own.py"
    path.write_text(OWN.format(wrong))
    function = load_reward(f"{path}:kind", {"bonus": 0.5}, process=True, deadline=3)
    episodes = [two_turns(number) for number in range(3)]
    score_all(episodes, {"mine": Term(function, on_error="skip")})
    assert [episode.failed for episode in episodes] == [False, True, False]
    assert episodes[2].terms["mine"] == {"a": [1.5, 0.0], "b": [1.0, 1.0]}
    assert message in episodes[1].cause


def test_only_functions_of_ones_own_go_into_a_process():
    with pytest.raises(RecipeError, match=r"rewards\[0\].process: .*not for payoff; set false"):
        load_reward("payoff", where="rewards[0]", process=True)


# --- TRL's form

TRL = """
seen = []
def plain(completions, **kwargs):
    return [float(len(text)) for text in completions]
def columns(prompts, completions, answer, level, **kwargs):
    seen.append((prompts, completions, answer, level, sorted(kwargs)))
    return [1.0 if right in text else None for text, right in zip(completions, answer)]
def chat(prompts, completions, completion_ids):
    seen.append((prompts, completions, completion_ids))
    return [float(len(one[0]["content"])) for one in completions]
def short(completions, **kwargs):
    return [1.0]
def words(completions, least, **kwargs):
    return [float(len(text) >= least) for text in completions]
async def later(completions, **kwargs):
    return [0.0 for _ in completions]
"""


def trl(tmp_path, name, **options):
    path = tmp_path / "form.py"
    path.write_text(TRL)
    return load_reward(f"{path}:{name}", options)


def test_trl_functions_work_as_they_are(tmp_path):
    episode = dialogue(("a", "12 ok"), ("b", "no"), ("a", "xyz"), columns={"level": 3})
    episode.turns[0].messages = [("system", "be short"), ("user", "6 + 6?")]
    episode.turns[2].messages = [("user", "sure?")]
    episode.turns[2].completion_ids = [5, 6]
    assert trl(tmp_path, "plain")(episode) == {"a": [0, 0, 3], "b": [0, 2, 0]}
    columns = trl(tmp_path, "columns", of="first")
    assert columns(episode) == {"a": [1, 0, 0], "b": [0, 0, 0]}
    prompts, completions, answer, level, rest = load_object(f"{tmp_path / 'form.py'}:seen", "x")[-1]
    assert prompts == ["be short\n6 + 6?", ""]
    assert completions == ["12 ok", "no"]
    assert answer == ["12", "12"]
    assert level == [3, 3]
    assert {"question", "task", "completion_ids"} <= set(rest)
    chat = trl(tmp_path, "chat", conversational=True, seats=["a"])
    assert chat(episode) == {"a": [0, 0, 3]}
    ((prompt,), (completion,), ids) = load_object(f"{tmp_path / 'form.py'}:seen", "x")[-1]
    assert [message["role"] for message in prompt] == ["system", "user", "assistant", "user"]
    assert completion == [{"role": "assistant", "content": "xyz"}]
    assert ids == [[5, 6]]


def test_trl_functions_take_options_and_share(tmp_path):
    episode = dialogue(("a", "long enough"), ("b", "no"))
    assert trl(tmp_path, "words", least=5, share="team")(episode) == {"a": 0.5, "b": 0.5}


def test_trl_functions_that_answer_wrongly_are_told_so(tmp_path):
    episodes = [two_turns(1)]
    with pytest.raises(RewardError, match="mine raised ValueError: it gave 1 values for 2 completions on e1"):
        score_all(episodes, {"mine": (trl(tmp_path, "short"), 1.0)})
    with pytest.raises(RewardError, match="it is a coroutine; make it an ordinary function"):
        score_all(episodes, {"mine": (trl(tmp_path, "later"), 1.0)})


# --- in a run


def test_a_run_goes_on_without_what_it_could_not_grade(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def some(episode):\n    return {'alice': 1 / (episode.index % 3)}\n")
    recipe = recipe_data("train.updates=2")
    recipe["rewards"] = ["payoff", {"use": f"{path}:some", "name": "some", "on_error": "skip"}]
    train(parse_recipe(recipe), tmp_path / "run")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["reward/some/failed"] for line in lines] == [2.0, 2.0]
    assert [line["episodes/failed"] for line in lines] == [2.0, 2.0]
    assert [line["reward/some"] for line in lines] == [0.75, 0.75]
    assert "reward/payoff/failed" not in lines[0]
    lost = [episode for episode in read_episodes(tmp_path / "run") if episode.failed]
    assert len(lost) == 4
    assert all("ZeroDivisionError" in episode.cause for episode in lost)
    recipe["rewards"][1]["on_error"] = "stop"
    with pytest.raises(RewardError, match="reward some raised ZeroDivisionError: .* on u000000-g0000-e000"):
        train(parse_recipe(recipe), tmp_path / "stopped")


def test_the_recipe_says_how_its_rewards_fail():
    recipe = make_recipe(
        "rewards=[payoff, {use: majority, on_error: skip, weight: 2}, {use: exact_match, name: right}]"
    )
    terms = terms_of(recipe)
    assert list(terms) == ["payoff", "majority#1", "right"]
    assert terms["majority#1"].on_error == "skip"
    assert takes_all(terms["majority#1"].function)
    assert terms["majority#1"].deadline is None
    assert terms["payoff"].key == "rewards[0]"
    with pytest.raises(RecipeError, match=r"rewards.*on_error: cannot be 'skp'; did you mean 'skip'"):
        make_recipe("rewards=[{use: payoff, on_error: skp}]")
    assert np.isfinite(recipe.rewards[0].deadline)
