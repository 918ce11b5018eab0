"""The recipes of teams that pass a text on (CORY, ReMA, M-GRPO): a short run of each does what its README says."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from marft.answers import final_answer
from marft.credit import assess
from marft.episode import Episode, Turn
from marft.games import make_game
from marft.lookup import load_object
from marft.recipe import load_recipe
from marft.rollout import draw_team
from marft.store import read_episodes
from marft.train.folder import read_metrics
from marft.train.loop import train

ROOT = Path(__file__).parents[1]
SMALL = (
    *("model.device=cpu", "trackers=[]", "model.tiny.hidden=32", "model.tiny.intermediate=48"),
    *("model.tiny.warmup_steps=40", "model.tiny.warmup_episodes=96", "model.tiny.warmup_batch=16"),
    *("rollout.groups=2", "rollout.group_size=3", "train.updates=1"),
)
PLAYERS = "recipes/coordinator_workers/players.py"
JUDGE = "recipes/coordinator_workers/judge.py"


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch):
    """Recipes name their own files from there."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("recipe", "roles", "terms", "learns"),
    [
        ("cory/cory", {"pioneer", "observer"}, {"payoff", "invalid_answer#1"}, {"alice", "bob"}),
        ("rema/rema", {"planner", "executor"}, {"payoff", "invalid_answer#1", "form"}, {"planner"}),
        ("rema/multi_turn", {"planner", "executor"}, {"payoff", "invalid_answer#1", "form"}, {"planner"}),
        ("coordinator_workers/m_grpo", {"main", "sub"}, {"format", "correct", "judge"}, {"main", "sub"}),
        ("coordinator_workers/main_only", {"main", "sub"}, {"format", "correct", "judge"}, {"main"}),
    ],
)
def test_a_short_run_has_the_roles_terms_and_learners_of_the_readme(cache, tmp_path, recipe, roles, terms, learns):
    """ReMA's agents are trained in turn, so one update trains one of them."""
    loaded = load_recipe(ROOT / "recipes" / f"{recipe}.yaml", SMALL)
    run = train(loaded, tmp_path / "run")
    (line,) = read_metrics(run / "metrics.jsonl")
    episodes = list(read_episodes(run, 0))
    assert len(episodes) == 6
    assert {role for episode in episodes for role in episode.facts["roles"].values()} == roles
    assert all(set(episode.terms) == terms for episode in episodes)
    assert {key for key in line if key.startswith("reward/")} == {f"reward/{term}" for term in terms}
    assert {key.split("/")[1] for key in line if key.endswith("/grad_norm")} == learns


def test_the_agents_of_cory_change_places_every_five_updates():
    recipe = load_recipe(ROOT / "recipes/cory/cory.yaml")
    pioneers = [draw_team(recipe, update, 0, {})["pioneer"] for update in range(15)]
    assert pioneers == ["alice"] * 5 + ["bob"] * 5 + ["alice"] * 5
    fixed = load_recipe(ROOT / "recipes/cory/fixed.yaml")
    assert {draw_team(fixed, update, 0, {})["pioneer"] for update in range(15)} == {"alice"}


@pytest.mark.parametrize(
    ("first", "second", "paid"), [("7", "7", 2.0), ("7", "1", 1.0), ("1", "7", 1.0), ("1", "1", 0)]
)
def test_both_agents_of_cory_earn_the_sum_of_what_both_answers_earn(first, second, paid):
    """Eq. 4 of the paper, r(s, a1) + r(s, a2), for the pioneer as for the observer."""
    game = played("cory/cory", "largest of 3, 7, 1", "7")
    game.act({"pioneer": f"<answer>{first}</answer>"})
    heard = "\n".join(message.text for message in game.observe("observer"))
    assert f"<answer>{first}</answer>" in heard
    assert "largest of 3, 7, 1" in heard
    assert game.act({"observer": f"<answer>{second}</answer>"}).rewards == pytest.approx(
        {"pioneer": paid, "observer": paid} if paid else {"pioneer": 0.0, "observer": 0.0}
    )


def played(recipe, question, answer):
    """The recipe's game at its begin, about this question."""
    loaded = load_recipe(ROOT / "recipes" / f"{recipe}.yaml")
    game = make_game(loaded.game.name, loaded.game.options)
    game.reset(0)
    game.task = replace(game.task, question=question, answer=answer)
    return game


def test_questions_of_rema_are_answered_by_their_rule_and_stand_there_once():
    rows = [json.loads(line) for line in (ROOT / "recipes/rema/questions.jsonl").read_text().splitlines()]
    assert len({row["question"] for row in rows}) == len(rows) == 900
    for row in rows:
        word, numbers = row["question"].split(" of ")
        numbers = [int(number) for number in numbers.split(", ")]
        ordered = sorted(numbers)
        assert int(row["answer"]) == {"most": ordered[-1], "least": ordered[0], "earliest": numbers[0]}[word]


def test_the_executor_of_rema_does_what_the_plan_says_be_it_wrong():
    obedient = load_object("recipes/rema/players.py:obedient", "test")
    for plan, answer in {"Take the largest.": "8", "Take the smallest.": "1", "Take the first.": "3"}.items():
        game = played("rema/rema", "most of 3, 8, 1", "8")
        game.act({"planner": plan})
        assert final_answer(obedient(game.view("executor"), random.Random(0))) == answer


@pytest.mark.parametrize("player", ["diligent", "forgetful", "hasty"])
def test_players_of_the_coordinator_end_every_episode_with_an_answer(player):
    play = load_object(f"{PLAYERS}:{player}", "test")
    calls = set()
    for seed in range(60):
        game = played("coordinator_workers/m_grpo", "largest of 3, 8, 1, 5", "8")
        rng = random.Random(seed)
        texts = {}
        while seats := game.acting():
            texts = {seat: play(game.view(seat), rng) for seat in seats}
            if "coordinator" in texts:
                calls.add(texts["coordinator"].count("<call>"))
            result = game.act(texts)
            assert not result.invalid
        assert final_answer(texts["coordinator"]) is not None
    assert calls == {"diligent": {0, 1, 2, 3}, "forgetful": {0, 1}, "hasty": {0}}[player]


def test_a_worker_is_judged_by_its_own_sub_task():
    worth = load_object(f"{JUDGE}:worth", "test")
    cases = {("largest of 3, 1", "3"): 1, ("largest of 3, 1", "8"): 0, ("largest of 3, 1", None): 0, ("3, 1", "3"): 0}
    cases |= {("largest of 7", "7"): 1, ("largest of 3, 1 or so", "3"): 0, ("largest of 10, 9", "10"): 1}
    assert {case: worth(*case) for case in cases} == cases


def test_calls_of_all_worker_seats_are_brought_to_eight_and_compared_together():
    """Worked out by hand: main earns .1 and .9 and sub .1, .4 and .5, of form, main's success and the judge's word.

    Episode 0 has main right, calls judged 1 and 0; episode 1 has main wrong, one call judged 1. Rewards: main 1.0 and
    0.1; calls 1.0, 0.5 and 0.6. Counted 4, 4 and 8 times, the calls' mean is (4 + 2 + 4.8) / 16 = 0.675.
    """
    algorithm = load_recipe(ROOT / "recipes/coordinator_workers/m_grpo.yaml").algorithm
    seats = ["coordinator", "worker1", "worker2", "coordinator", "worker1"]
    table = {
        "episode": [0, 0, 0, 1, 1],
        "group": [0] * 5,
        "seat": seats,
        "agent": ["main" if seat == "coordinator" else "sub" for seat in seats],
        "role": ["main" if seat == "coordinator" else "sub" for seat in seats],
        "step": [2, 1, 1, 2, 1],
        "call": [0, 1, 2, 0, 1],
        "format": [1.0] * 5,
        "correct": [1.0, 0.0, 0.0, 0.0, 0.0],
        "judge": [0.0, 1.0, 0.0, 0.0, 1.0],
        "reward": [0.0] * 5,
    }
    credit = assess(algorithm, table)
    assert credit.copies_U.tolist() == [1, 4, 4, 1, 8]
    main = credit.advantage_U[[0, 3]]
    assert main == pytest.approx([0.5**0.5, -(0.5**0.5)], rel=1e-5)  # 0.45 over an unbiased deviation of 0.6364
    subs = credit.advantage_U[[1, 2, 4]]
    deviation = ((4 * 0.325**2 + 4 * 0.175**2 + 8 * 0.075**2) / 15) ** 0.5
    assert subs == pytest.approx([0.325 / deviation, -0.175 / deviation, -0.075 / deviation], rel=1e-5)


@pytest.mark.parametrize("folder", ["cory", "rema", "coordinator_workers"])
def test_the_settings_for_a_real_model_are_a_recipe(tmp_path, folder):
    """As the README has them, with a question file and without the model."""
    text = (ROOT / "recipes" / folder / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    (name,) = re.findall(r"path: (\w+\.jsonl)", block)
    rows = [{"question": f"{number} + 1", "answer": number + 1} for number in range(20)]
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    block = block.replace(f"path: {name}", f"path: {tmp_path / name}")
    block = block.replace("base: ", f"base: {ROOT / 'recipes' / folder}/")
    (tmp_path / "real.yaml").write_text(block, encoding="utf-8")
    recipe = load_recipe(tmp_path / "real.yaml")
    assert recipe.model.dtype == "bfloat16"
    assert recipe.model.name.startswith("path/to/")


def test_the_judge_pays_each_call_at_the_step_that_answered_it():
    judge = load_object(f"{JUDGE}:sub_task_done", "test")
    parts = ["largest of 3, 8", "largest of 1"]
    turns = [
        Turn("coordinator", 0, 0, "main", "", action={"say": "", "calls": parts}),
        Turn("worker1", 1, 0, "sub", "", action={"say": "", "answer": "1"}, marks={"role": "sub", "call": 1}),
        Turn("worker2", 1, 1, "sub", "", action={"say": "", "answer": "1"}, marks={"role": "sub", "call": 2}),
        Turn("coordinator", 2, 0, "main", "", action={"say": "", "answer": "8"}),
    ]
    seats = ("coordinator", "worker1", "worker2", "worker3")
    episode = Episode("e", "pipeline", seats, {}, 0, 0, 0, turns=turns, rewards=[{}, {}, {}], facts={"answer": "8"})
    assert judge(episode) == {seat: [0, float(seat == "worker2"), 0] for seat in seats}
