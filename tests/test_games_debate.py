"""Debates: who is asked what, who is paid, what is shown, and the numbers that tell first answers from listening."""

from collections import Counter
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_play import reading, started

from marft.compliance import check_game
from marft.episode import Episode, Turn
from marft.errors import GameError, RecipeError
from marft.game import play_scripted
from marft.games import make_game
from marft.games.debate_metrics import FLIPS, majority

LARGEST = {"options": {"kind": "largest", "terms": 2}}


def said(**answers):
    return {seat: f"I say <answer>{one}</answer>" for seat, one in answers.items()}


def other_than(truth):
    return str(int(truth) + 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seats": 2, "rounds": 3, "show": "answer", "pay": "each"},
        {"rounds": 1, "message_limit": 5},
        {"form": "sides"},
        {"form": "sides", "assign": False, "rounds": 1},
        {"form": "sides", "hidden": True, "quotes": True},
    ],
)
def test_it_keeps_the_contract(options):
    check_game(lambda: make_game("debate", options), seeds=(0, 1), texts=["<answer>1</answer>", "It is \\boxed{3}"])


def test_a_society_answers_reads_the_others_and_answers_again():
    game = started("debate", 3, task=LARGEST)
    truth = game.facts()["answer"]
    first = reading(game, "p1")
    assert first.count("You are p1") == 1
    assert f"Question: {game.facts()['question']}" in first
    result = game.act({"p1": f"<answer>{truth}</answer>", "p2": 'so "be" it', "p3": f"x \\boxed{{{truth}}}"})
    assert result.rewards == {}
    assert result.invalid == ("p2",)
    assert [result.actions[seat]["answer"] for seat in ("p1", "p2", "p3")] == [truth, None, truth]
    assert game.clock == 1
    assert reading(game, "p1") == f"""p2: "so 'be' it"\np3: "x \\boxed{{{truth}}}"\nRound 2 of 2. Your answer?"""
    result = game.act(said(p1=truth, p2=truth, p3=other_than(truth)))
    assert result.rewards == {"p1": 1.0, "p2": 1.0, "p3": 0.0}
    assert game.acting() == ()


def test_only_answers_are_shown_where_the_recipe_says_so():
    game = started("debate", 3, show="answer", seats=2)
    game.act({"p1": "my secret <answer>4</answer>", "p2": "?"})
    assert reading(game, "p2").splitlines()[0] == "p1: 4"
    assert reading(game, "p1").splitlines()[0] == "p2: no answer"


def test_each_answer_is_paid_where_the_recipe_says_so():
    game = started("debate", 1, pay="each", seats=2, rounds=2)
    truth = game.facts()["answer"]
    paid = [game.act(said(p1=truth, p2=other_than(truth))).rewards for _ in range(2)]
    assert paid == [{"p1": 1.0, "p2": 0.0}] * 2


def test_two_sides_argue_before_a_judge_who_is_not_told():
    game = started("debate", 5, form="sides", rounds=2)
    truth, defends = game.facts()["answer"], game.facts()["defends"]
    assert sorted(defends) == ["alice", "bob"]
    assert list(defends.values()).count(truth) == 1
    assert game.acting() == ("alice", "bob")
    assert f"You say that the answer is {defends['alice']}, bob that it is {defends['bob']}." in reading(game, "alice")
    game.act({"alice": "argument one", "bob": "argument two"})
    assert reading(game, "bob").startswith('alice: "argument one"')
    game.act({"alice": "more", "bob": "less"})
    assert game.acting() == ("judge",)
    text = reading(game, "judge")
    assert 'alice: "more"' in text
    assert 'bob: "less"' in text
    result = game.act({"judge": f"<answer>{defends['bob']}</answer>"})
    right = float(defends["bob"] == truth)
    assert result.rewards == {"alice": 0.0, "bob": 1.0, "judge": right}


def test_sides_and_their_order_are_drawn_each_way_alike():
    game = make_game("debate", {"form": "sides"})
    found = Counter()
    for seed in range(4000):
        game.reset(seed)
        facts = game.facts()
        found[facts["defends"]["alice"] == facts["answer"], facts["order"][0]] += 1
    assert all(count == pytest.approx(1000, abs=120) for count in found.values())  # four standard deviations
    assert len(found) == 4


def test_a_row_may_bring_the_wrong_answer_to_defend(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(
        '{"question": "2 + 2", "answer": 4, "wrong": [4, 5]}\n{"question": "1 + 1", "answer": 2, "wrong": 3}\n'
    )
    game = make_game("debate", {"form": "sides", "task": {"path": str(path), "test_share": 0.01}})
    found = set()
    for seed in range(40):
        game.reset(seed)
        found.add((game.facts()["question"], *sorted(game.facts()["defends"].values())))
    assert found == {("2 + 2", "4", "5"), ("1 + 1", "2", "3")}


def test_a_row_whose_wrong_answers_are_all_right_is_an_error(tmp_path):
    (tmp_path / "own.jsonl").write_text(
        '{"question": "a", "answer": 4, "wrong": ["4.0"]}\n{"question": "b", "answer": 5}\n'
    )
    game = make_game("debate", {"form": "sides", "task": {"path": str(tmp_path / "own.jsonl"), "test_share": 0.01}})
    with pytest.raises(GameError, match=r"game\.assign: no false answer to 'a' in its column `wrong`"):
        [game.reset(seed) for seed in range(20)]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ('{"question": "a"}\n{"question": "b"}\n', r"game\.assign: .* has tasks without an answer"),
        (
            '{"question": "a", "answer": 1}\n{"question": "b", "answer": 1}\n',
            r"game\.assign: all answers of .* the same",
        ),
    ],
)
def test_sides_need_two_answers_to_defend(tmp_path, rows, complaint):
    (tmp_path / "own.jsonl").write_text(rows)
    task = {"path": str(tmp_path / "own.jsonl"), "test_share": 0.01}
    with pytest.raises(RecipeError, match=complaint):
        make_game("debate", {"form": "sides", "task": task})
    make_game("debate", {"form": "sides", "assign": False, "task": task})


def test_sides_without_given_answers_are_paid_for_their_own():
    game = started("debate", 2, form="sides", assign=False, rounds=1)
    truth = game.facts()["answer"]
    game.act(said(alice=truth, bob=other_than(truth)))
    assert f'"I say <answer>{truth}</answer>"' in reading(game, "judge")
    assert game.act(said(judge=truth)).rewards == {"alice": 1.0, "bob": 0.0, "judge": 1.0}


@pytest.mark.parametrize("form", ["society", "sides"])
def test_the_truth_is_in_no_message_and_credit_is_told_the_roles(form):
    """Products of six digits and more, which no factor of five digits can hold."""
    game = make_game("debate", {"form": form, "assign": False, "task": {"options": {"kind": "product", "digits": 5}}})
    long = 0
    for seed in range(20):
        game.reset(seed)
        truth = game.facts()["answer"]
        long += len(truth) > 5
        while seats := game.acting():
            for seat in seats:
                assert len(truth) < 6 or truth not in reading(game, seat)
                assert game.marks(seat) == {"role": "judge" if seat == "judge" else "debater"}
            game.act(dict.fromkeys(seats, "<answer>1</answer>"))
    assert long > 5


def episode(answers, truth="7", judge=None, defends=None):
    """answers: seat -> what it answered, round by round."""
    turns = []
    for seat, row in answers.items():
        turns += [Turn(seat, n, 0, "x", "", action={"answer": one, "say": ""}) for n, one in enumerate(row)]
    roles = dict.fromkeys(answers, "debater")
    if judge is not None:
        turns.append(Turn("judge", 9, 0, "x", "", action={"answer": judge, "say": ""}))
        roles["judge"] = "judge"
    facts = {"answer": truth, "roles": roles, "played": 1, "defends": defends or {}}
    return Episode("e", "debate", tuple(roles), {}, 0, 0, 0, turns=turns, rewards=[{}], facts=facts)


def test_metrics_of_a_debate_worked_out_by_hand():
    game = make_game("debate")
    one = episode({"p1": ["7", "7"], "p2": ["7.0", "3"], "p3": ["3", "07"]})
    two = episode({"p1": ["1", "1"], "p2": ["7", "1"], "p3": [None, "2"]})
    found = game.metrics([one, two])
    assert found["first_accuracy"] == pytest.approx(3 / 6)
    assert found["final_accuracy"] == pytest.approx(2 / 6)
    assert [found[flip] for flip in FLIPS] == pytest.approx([1 / 6, 2 / 6, 1 / 6, 2 / 6])
    assert found["corrected"] == pytest.approx(1 / 3)
    assert found["misled"] == pytest.approx(2 / 3)
    assert found["majority_accuracy"] == pytest.approx(1 / 2)  # 7 of {7, 3, 7}; 1 of {1, 1, 2}
    assert found["agreement"] == pytest.approx(2 / 6)
    assert found["p2/first_accuracy"] == 1
    assert found["p2/final_accuracy"] == 0
    judged = episode({}, judge="3", defends={"alice": "7", "bob": "3"})
    off = episode({}, judge="5", defends={"alice": "7", "bob": "3"})
    right = episode({}, judge="7", defends={"alice": "7", "bob": "3"})
    found = game.metrics([judged, off, right])
    assert found["judge_accuracy"] == pytest.approx(1 / 3)
    assert found["truth_wins"] == pytest.approx(1 / 2)


@given(st.lists(st.lists(st.sampled_from(["7", "3", None]), min_size=2, max_size=4), min_size=1, max_size=5))
def test_the_flip_matrix_adds_up_to_both_accuracies(answers):
    found = make_game("debate").metrics([episode({f"p{n}": given for n, given in enumerate(answers)})])
    rr, rw, wr, ww = (found[flip] for flip in FLIPS)
    assert rr + rw + wr + ww == pytest.approx(1)
    assert found["first_accuracy"] == pytest.approx(rr + rw)
    assert found["final_accuracy"] == pytest.approx(rr + wr)


@pytest.mark.parametrize("given", list(product(["1", "1.0", "2", "b", "B ", None], repeat=3)))
def test_the_majority_is_the_most_frequent_answer_however_written(given):
    plain = [one and {"1.0": "1", "B ": "b"}.get(one, one) for one in given]
    counts = Counter(one for one in plain if one is not None)
    best = [one for one in plain if one is not None and counts[one] == max(counts.values())]
    found = majority(given)
    assert (found and {"1.0": "1", "B ": "b"}.get(found, found)) == (best[0] if best else None)


def test_players_know_six_of_ten_and_listen_in_different_ways():
    game = make_game("debate", {"task": LARGEST})
    for name, first in (("right", 1.0), ("wrong", 0.0), ("stubborn", 0.6), ("follower", 0.6), ("swayed", 0.6)):
        turns = [play_scripted(game, seed, dict.fromkeys(game.seats, game.players[name])) for seed in range(300)]
        answers = [[(step.actions[seat]["answer"]) for seat in game.seats] for step in (t[0] for t in turns)]
        right = []
        for seed, row in enumerate(answers):
            game.reset(seed)
            right += [one == game.facts()["answer"] for one in row]
        assert sum(right) / len(right) == pytest.approx(first, abs=0.07)
        changed = sum(t[0].actions[s]["answer"] != t[1].actions[s]["answer"] for t in turns for s in game.seats)
        assert (changed == 0) == (name in ("right", "wrong", "stubborn"))


def test_a_clone_goes_its_own_way():
    game = started("debate", 4)
    game.act(said(p1=1, p2=2, p3=3))
    twin = game.clone()
    twin.act(said(p1=1, p2=1, p3=1))
    assert game.acting() == ("p1", "p2", "p3")
    assert reading(game, "p1").startswith('p2: "I say <answer>2</answer>"')
