"""Pipelines: who speaks when, who sees what, loops, sub-agents, who is paid, and the numbers that come of it."""

import pytest
from table_play import started

from marft.compliance import check_game
from marft.config import Branching
from marft.episode import Episode, Turn
from marft.errors import GameError
from marft.games import make_game


def begun(topology, seed=0, **options):
    return started("pipeline", seed, topology=topology, **options)


def read(game, seat):
    return "\n".join(message.text for message in game.observe(seat))


def order(game, answer="<answer>1</answer>"):
    """Who speaks at each step, everybody saying the same."""
    steps = []
    while seats := game.acting():
        steps.append(seats)
        game.act(dict.fromkeys(seats, answer) if isinstance(answer, str) else {seat: answer(seat) for seat in seats})
    return steps


def right(game):
    return f"<answer>{game.facts()['answer']}</answer>"


def wrong(game):
    return f"<answer>{int(game.facts()['answer']) + 1}</answer>"


def test_each_sees_the_question_and_those_it_may_see():
    game = begun("generator_verifier_refiner")
    question = game.facts()["question"]
    texts = {}
    for seat in ("generator", "verifier", "refiner"):
        assert game.acting() == (seat,)
        texts[seat] = read(game, seat)
        game.act({seat: f"{seat} thinks <answer>3</answer>"})
    assert all(f"Question: {question}" in text for text in texts.values())
    assert "generator: generator thinks <answer>3</answer>" in texts["verifier"]
    assert "verifier: verifier thinks" in texts["refiner"]
    assert "generator: generator thinks" in texts["refiner"]
    assert "You are the refiner." in texts["refiner"]
    assert game.facts()["roles"] == {"generator": "generator", "verifier": "verifier", "refiner": "refiner"}


def test_roles_that_wait_for_the_same_speak_at_once_and_do_not_hear_each_other():
    game = begun(
        {
            "roles": {
                "plan": {},
                "left": {"after": "plan"},
                "right": {"after": "plan", "seats": 2},
                "end": {"after": ["left", "right"]},
            }
        }
    )
    assert order(game) == [("plan",), ("left", "right1", "right2"), ("end",)]
    game.reset(1)
    game.act({"plan": "go"})
    assert "plan: go" in read(game, "left")
    game.act({"left": "L <answer>1</answer>", "right1": "R1", "right2": "R2"})
    assert all(
        f"{seat}: {text}" in read(game, "end") for seat, text in (("left", "L"), ("right1", "R1"), ("right2", "R2"))
    )


def test_lines_of_a_text_are_kept_for_the_next_role():
    game = begun("aux_main")
    game.act({"aux": "def aux(x):\n    return x + 1\x00"})
    assert "aux:\ndef aux(x):\n    return x + 1 " in read(game, "main")
    assert game.act({"main": "def main(): pass"}).invalid == ()


def test_a_loop_ends_with_its_word_or_its_bound():
    assert order(begun("writer_reviewer"), lambda seat: "I ACCEPT" if seat == "reviewer" else "<answer>1</answer>") == [
        ("writer",),
        ("reviewer",),
    ]
    assert order(begun("writer_reviewer"), "<answer>no</answer>") == [("writer",), ("reviewer",)] * 3


def test_in_a_loop_only_what_is_new_is_told():
    game = begun("writer_reviewer")
    first = read(game, "writer")
    game.act({"writer": "<answer>1</answer>"})
    game.act({"reviewer": "look again"})
    assert read(game, "writer") == "reviewer: look again\nYour answer?"
    assert "Question" in first
    game.act({"writer": "<answer>2</answer>"})
    assert read(game, "reviewer") == "writer: <answer>2</answer>\nYour text?"


def test_a_text_from_outside_a_loop_is_told_once():
    roles = {"plan": {}, "writer": {"after": "plan"}, "reviewer": {"after": "writer", "sees": ["plan", "writer"]}}
    game = begun({"roles": roles, "loops": [{"end": "reviewer", "back_to": "writer"}]})
    read_by = {"writer": [], "reviewer": []}
    while seats := game.acting():
        for seat in seats:
            read_by.get(seat, []).append(read(game, seat))
        game.act(dict.fromkeys(seats, f"said at {game.clock}"))
    assert [text.count("plan: said at 0") for text in read_by["writer"]] == [1, 0]
    assert [text.count("plan: said at 0") for text in read_by["reviewer"]] == [1, 0]
    assert "reviewer: said at 2" in read_by["writer"][1]
    assert "writer: said at 3" in read_by["reviewer"][1]


def test_a_loop_repeats_the_roles_between_its_ends_and_nobody_else():
    roles = {"a": {}, "b": {"after": "a"}, "c": {"after": "b"}, "side": {"after": "a"}, "end": {"after": ["c", "side"]}}
    game = begun({"roles": roles, "loops": [{"end": "c", "back_to": "b", "repeat": 2}]})
    assert order(game) == [("a",), ("b", "side"), ("c",), ("b",), ("c",), ("end",)]


def test_two_loops_in_a_row_count_for_themselves():
    roles = {"a": {}, "b": {"after": "a"}}
    loops = [{"end": "a", "back_to": "a", "repeat": 2}, {"end": "b", "back_to": "b", "repeat": 3, "until": "stop"}]
    game = begun({"roles": roles, "loops": loops})
    assert order(game) == [("a",)] * 2 + [("b",)] * 3
    game.reset(1)
    assert order(game, "stop") == [("a",)] * 2 + [("b",)]


def test_a_player_is_told_the_texts_that_its_seat_was_shown():
    game = begun("planner_executor")
    assert game.view("planner").now["texts"] == ()
    game.act({"planner": "Look twice."})
    assert game.view("executor").now["texts"] == ("Look twice.",)
    game = begun("coordinator_workers")
    game.act({"coordinator": "<call>one</call>"})
    game.act({"worker1": "it is <answer>5</answer>"})
    assert game.view("coordinator").now["texts"] == ("it is <answer>5</answer>",)


def test_sub_agents_are_called_as_often_as_the_coordinator_says():
    game = begun("coordinator_workers")
    question = game.facts()["question"]
    assert question in read(game, "coordinator")
    result = game.act({"coordinator": "<call>one</call> and <call>two\nlines</call><call></call>"})
    assert result.actions["coordinator"]["calls"] == ["one", "two\nlines"]
    assert result.invalid == ()
    assert game.acting() == ("worker1", "worker2")
    assert "Sub-task: one" in read(game, "worker1")
    assert question not in read(game, "worker1")
    assert [game.marks(seat) for seat in game.acting()] == [{"role": "sub", "call": 1}, {"role": "sub", "call": 2}]
    game.act({"worker1": "<answer>5</answer>", "worker2": "it is <answer>6</answer>"})
    assert game.acting() == ("coordinator",)
    assert game.marks("coordinator") == {"role": "main"}
    text = read(game, "coordinator")
    assert "Sub-task 'one': <answer>5</answer>" in text
    assert "hand out sub-tasks 1 more time" in text
    game.act({"coordinator": "<call>three</call>"})
    assert game.marks("worker1") == {"role": "sub", "call": 3}
    game.act({"worker1": "<answer>7</answer>"})
    assert "No more sub-tasks." in read(game, "coordinator")
    result = game.act({"coordinator": f"<call>four</call> {right(game)}"})
    assert "calls" not in result.actions["coordinator"]
    assert game.acting() == ()
    assert result.rewards == dict.fromkeys(game.seats, 1.0)


def test_a_coordinator_need_not_call_anybody():
    game = begun("coordinator_workers")
    assert order(game) == [("coordinator",)]


def test_more_calls_than_seats_are_answered_in_turn():
    roles = {"main": {"calls": "sub", "max_calls": 3}, "sub": {"seats": 2, "question": False}}
    game = begun({"roles": roles})
    game.act({"main": "<call>a</call><call>b</call><call>c</call><call>d</call>"})
    assert game.acting() == ("sub1", "sub2")
    game.act({"sub1": "A", "sub2": "B"})
    assert game.acting() == ("sub1",)
    assert read(game, "sub1").startswith("Sub-task: c")
    game.act({"sub1": "C"})
    text = read(game, "main")
    assert [line for line in text.splitlines() if line.startswith("Sub-task")] == [
        "Sub-task 'a': A",
        "Sub-task 'b': B",
        "Sub-task 'c': C",
    ]


def test_two_callers_at_once_get_their_own_answers():
    roles = {"one": {"calls": "sub"}, "two": {"calls": "sub"}, "end": {"after": ["one", "two"]}, "sub": {"seats": 2}}
    game = begun({"roles": roles})
    game.act({"one": "<call>a</call>", "two": "nothing to ask"})
    assert game.acting() == ("sub1",)
    game.act({"sub1": "A"})
    assert game.acting() == ("one",)
    game.act({"one": "done"})
    assert game.acting() == ("end",)
    game.reset(1)
    game.act({"one": "<call>a</call>", "two": "<call>b</call>"})
    game.act({"sub1": "A", "sub2": "B"})
    assert game.acting() == ("one", "two")
    assert "Sub-task 'b': B" in read(game, "two")
    assert "'b'" not in read(game, "one")


def test_prompts_of_the_recipe_are_filled_in():
    roles = {
        "writer": {
            "system": "S {{ role }} {{ seat }}",
            "template": "T {{ question }}",
            "again": "{{ passes }}: {{ outputs.critic }}",
        },
        "critic": {"after": "writer", "template": "[{{ outputs.writer }}]"},
    }
    game = begun({"roles": roles, "loops": [{"end": "critic", "back_to": "writer"}], "final": "writer"})
    system, user = game.observe("writer")
    assert (system.role, user.role) == ("system", "user")
    assert system.text == "S writer writer End with your answer as <answer>…</answer>."
    assert user.text == f"T {game.facts()['question']}"
    game.act({"writer": "{{ 7 * 7 }} {% raw %}"})
    assert game.observe("critic")[-1].text == "[{{ 7 * 7 }} {% raw %}]"
    game.act({"critic": "bad"})
    assert [tuple(message) for message in game.observe("writer")] == [("user", "2: bad")]


def test_a_prompt_that_grows_beyond_all_bounds_is_an_error_with_its_key():
    roles = {"a": {}, "b": {"after": "a", "template": "{% for one in outputs.a %}{{ outputs.a }}{% endfor %}"}}
    game = begun({"roles": roles}, message_limit=100_000)
    game.act({"a": "x" * 5000})
    with pytest.raises(GameError, match=r"game\.topology\.roles\.b\.template: more than 100000 characters"):
        game.observe("b")


@pytest.mark.parametrize(
    ("pay", "rewards"), [("team", {"pioneer": 1.0, "observer": 1.0}), ("own", {"pioneer": 0.0, "observer": 1.0})]
)
def test_a_right_final_answer_pays_the_team_or_its_own_seat(pay, rewards):
    game = begun("pioneer_observer", pay=pay)
    assert game.act({"pioneer": wrong(game)}).rewards == {}
    assert game.act({"observer": right(game)}).rewards == rewards


def test_both_right_pay_both_to_a_team():
    game = begun("pioneer_observer")
    game.act({"pioneer": right(game)})
    assert game.act({"observer": right(game)}).rewards == {"pioneer": 2.0, "observer": 2.0}


def test_no_answer_is_flagged_where_one_is_asked_for_and_nowhere_else():
    game = begun("planner_executor")
    assert game.act({"planner": "no idea"}).invalid == ()
    result = game.act({"executor": "<answer>"})
    assert result.invalid == ("executor",)
    assert result.actions["executor"]["answer"] is None
    assert result.rewards == {"planner": 0.0, "executor": 0.0}


def test_questions_without_an_answer_ask_for_none(tmp_path):
    (tmp_path / "own.jsonl").write_text('{"question": "Write about rain."}\n')
    task = {"path": str(tmp_path / "own.jsonl"), "test_share": 0.001}
    game = begun("planner_executor", task=task)
    assert "answer as" not in read(game, "planner")
    game.act({"planner": "wet"})
    assert game.act({"executor": "It rains."}).invalid == ()
    check_game(lambda: make_game("pipeline", {"topology": "writers_parallel", "task": task}), seeds=(0,))


def test_metrics_of_a_pipeline_worked_out_by_hand():
    def episode(*answers, calls=0):
        turns = [
            Turn("a" if n == 0 else "b", n, 0, "x", "", action={"answer": one, "say": ""})
            for n, one in enumerate(answers)
        ]
        turns += [Turn("a", 9, 0, "x", "", action={"say": "", "calls": ["x"] * calls})] * bool(calls)
        facts = {"answer": "7", "final": ["b"], "played": 1}
        return Episode("e", "pipeline", ("a", "b"), {}, 0, 0, 0, turns=turns, rewards=[{}], facts=facts)

    found = make_game("pipeline").metrics(
        [episode("7", "7"), episode("7", "1"), episode("1", "7", calls=3), episode("1", "2")]
    )
    assert found["accuracy"] == pytest.approx(4 / 8)
    assert found["a/accuracy"] == pytest.approx(2 / 4)
    assert found["final_accuracy"] == pytest.approx(2 / 4)
    assert found["majority_accuracy"] == found["final_accuracy"]  # of one final answer
    assert found["changed_right"] == found["changed_wrong"] == pytest.approx(1 / 4)
    assert found["turns"] == pytest.approx(9 / 4)
    assert found["calls"] == pytest.approx(3 / 4)


def test_the_majority_is_the_most_frequent_of_the_final_answers():
    def episode(*answers):
        turns = [Turn(seat, 0, 0, "x", "", action={"answer": one}) for seat, one in zip("abc", answers, strict=True)]
        facts = {"answer": "7", "final": ["a", "b", "c"], "played": 1}
        return Episode("e", "pipeline", ("a", "b", "c"), {}, 0, 0, 0, turns=turns, rewards=[{}], facts=facts)

    for answers, right in ((("7", "7.0", "1"), 1), (("1", "7", "1"), 0), (("7", "1", "2"), 1), (("1", "7", None), 0)):
        assert make_game("pipeline").metrics([episode(*answers)])["majority_accuracy"] == right


@pytest.mark.parametrize("plan", [{"samples": 3}, {"samples": 2, "pairing": "cross"}])
def test_a_tree_of_a_pipeline_has_all_its_paths(plan):
    """Three decisions in a row of one seat each: 27 ways through a tree of three, 8 through one of two."""
    import asyncio

    from marft.config import Sampling
    from marft.engines.scripted import ScriptedEngine
    from marft.rollout import Plan, Rollout

    game = make_game("pipeline")
    players = ScriptedEngine({f"scripted:{name}": player for name, player in game.players.items()})
    branching = Branching(kind="tree", **plan)
    rollout = Rollout(lambda: make_game("pipeline"), None, players, players, Sampling(), (), 0, plan=branching)
    episodes = asyncio.run(rollout.play([Plan(0, 0, 3, dict.fromkeys(game.seats, "scripted:shaky"))]))
    assert len(episodes) == plan["samples"] ** 3
    for episode in episodes:
        assert [turn.seat for turn in episode.turns] == list(game.seats)
        assert episode.facts["question"] == episodes[0].facts["question"]
        assert episode.turns[1].messages[-1][1].count(episode.turns[0].text) == 1
