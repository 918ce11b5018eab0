"""A remote model as a judge: what it is sent, how its marks are read, what it costs, what becomes of bad answers."""

import pytest
import yaml
from chat_server import ChatServer
from dialogues import dialogue, paid
from trainer_fixtures import make_recipe, recipe_data

from marft.config import Remote
from marft.engines import remote as module
from marft.engines.remote import RemoteEngine
from marft.errors import EngineError, RecipeError, RewardError
from marft.recipe import parse_recipe
from marft.rewards import load_reward
from marft.rewards.grading import Ungraded
from marft.store import read_episodes
from marft.train.asking import Asking
from marft.train.folder import read_metrics
from marft.train.loop import train
from marft.train.rewarding import score_all


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setattr(module, "BACKOFF", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def asking(server, **more):
    return Asking(RemoteEngine({"critic": Remote(url=server.url, model="m", **more)})).ask


def judged(server, *episodes, **options):
    reward = load_reward("judge", {"remote": "critic", "highest": 10, **options})
    return paid(reward, *episodes, services=[asking(server)])


def test_a_judge_is_sent_the_rubric_and_its_mark_is_scaled():
    with ChatServer(lambda messages: "Short. <answer>8</answer>") as server:
        found = judged(server, dialogue(("a", "it is 12"), ("b", "13")), share="seat")
        assert found == {"a": [0.8, 0.0], "b": [0.0, 0.8]}
        prompts = sorted(one["body"]["messages"][0]["content"] for one in server.requests)
    assert len(prompts) == 2
    assert "Answer:\n===\n13\n===" in prompts[0]
    assert "from 0 (useless) to 10" in prompts[0]
    assert "Task:\n===\n6 + 6?\n===" in prompts[1]


def test_a_rubric_of_ones_own_may_use_the_tasks_columns():
    with ChatServer(lambda messages: "\\boxed{Good}") as server:
        options = {"rubric": "{{ level }}: {{ text }} of {{ labels | join('/') }}?", "labels": {"good": 1, "bad": 0}}
        assert judged(server, dialogue(("a", "x"), columns={"level": 3}), **options) == {"a": [1.0]}
        assert server.requests[0]["body"]["messages"][0]["content"] == "3: x of good/bad?"
        with pytest.raises(ValueError, match="options.rubric: UndefinedError: 'levle' is undefined"):
            judged(server, dialogue(("a", "x")), rubric="{{ levle }}")
        with pytest.raises(ValueError, match="options.rubric: SecurityError"):
            judged(server, dialogue(("a", "x")), rubric="{{ text.__class__.__mro__ }}")


def test_an_answer_that_cannot_be_read_is_asked_for_again_and_then_is_none():
    said = iter(["no idea", "<answer>4</answer>"])
    with ChatServer(lambda messages: next(said)) as server:
        assert judged(server, dialogue(("a", "x"))) == {"a": [0.4]}
        assert len(server.requests) == 2
    with ChatServer(lambda messages: "<answer>eleven</answer>") as server:
        found = judged(server, dialogue(("a", "x")), attempts=3)
        assert found == Ungraded("a: unread: 'eleven' is no number from 0 to 10")
        assert len(server.requests) == 3


def test_an_endpoint_that_does_not_answer_is_no_mark_either():
    with ChatServer(lambda messages: "") as server:
        reward = load_reward("judge", {"remote": "critic"})
        (found,) = reward([dialogue(("a", "x"))], asking(server, retries=1))
        assert isinstance(found, Ungraded)
        assert "remotes.critic: no usable answer" in found.cause
        terms = {"opinion": (reward, 1.0, "stop", None, "rewards[2]")}
        with pytest.raises(RewardError, match=r"reward opinion could not grade e0: .*set rewards\[2\].on_error skip"):
            score_all([dialogue(("a", "x"))], terms, ask=asking(server, retries=0))


def test_nobody_can_be_asked_where_there_is_no_endpoint():
    with pytest.raises(EngineError, match="nobody may be asked as 'critic' here"):
        Asking(None).ask("critic", [])


def test_twins_count_against_one_limit():
    with ChatServer(lambda messages: "<answer>1</answer>", usage=60) as server:
        engine = RemoteEngine({"critic": Remote(url=server.url, model="m", spend_limit=100)})
        first, second = Asking(engine), Asking(engine)
        assert first.ask("critic", [[("user", "x")]]) == ["<answer>1</answer>"]
        second.ask("critic", [[("user", "x")]])
        assert engine.counters["remote:critic"].tokens == 120
        (refused,) = first.ask("critic", [[("user", "x")]])
        assert "120 tokens are spent and the limit is 100" in str(refused)
        engine.go_on({"remote:critic": {"answers": 0, "failures": 0, "tokens": 0, "estimated": 0}})
        assert first.ask("critic", [[("user", "x")]]) == ["<answer>1</answer>"]


def recipe_with(server, **options):
    recipe = recipe_data("train.updates=2")
    entry = {"use": "judge", "name": "opinion", "on_error": "skip", "options": {"remote": "critic", **options}}
    recipe["rewards"] = ["payoff", entry]
    recipe["remotes"] = {"critic": {"url": server.url, "model": "m", "retries": 0}}
    return parse_recipe(recipe)


def test_a_judge_in_a_run_is_counted_and_paid_for(tmp_path):
    """12 episodes of two seats; what it says to its sixth question can never be read, and it is asked once."""
    count = iter(range(1000))
    with ChatServer(lambda messages: "?" if next(count) == 5 else "<answer>1</answer>", usage=10) as server:
        train(recipe_with(server, attempts=1, rubric="{{ text }}"), tmp_path / "run")
        assert len(server.requests) == 24
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["reward/opinion/failed"] for line in lines] == [1.0, 0.0]
    assert [line["reward/opinion"] for line in lines] == [2.0, 2.0]
    assert [line["remote/critic/tokens"] for line in lines] == [120.0, 240.0]
    (lost,) = [episode for episode in read_episodes(tmp_path / "run") if episode.failed]
    assert "unread: no mark in '?'" in lost.failures["opinion"]


def test_a_judge_that_is_no_remote_is_an_error_of_the_recipe():
    entry = yaml.safe_dump({"use": "judge", "options": {"remote": "critic"}}, default_flow_style=True).strip()
    with pytest.raises(RecipeError, match=r"rewards\[0\].options.remote: no remote 'critic'; add remotes.critic"):
        make_recipe(f"rewards=[{entry}]")
    for options in ({}, {"seat": "a", "remote": "b"}):
        with pytest.raises(ValueError, match="give either seat or remote"):
            load_reward("judge", options)([dialogue(("a", "x"))], None)
