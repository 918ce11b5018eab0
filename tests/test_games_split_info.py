"""Split information: puzzles against brute force, who needs whom, the cut channel, mazes, metrics, any text."""

import random
from collections import deque
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_play import (
    megabytes_are_read_at_once,
    players_are_readable,
    reading,
    record,
    refused,
    scripted,
    started,
    survives,
)

from marft.compliance import check_game
from marft.errors import GameError
from marft.game import play_scripted
from marft.games import make_game, maze

NAME = "split_info"
SMALL_MAZE = {"kind": "maze", "side": 3, "path": [2, 3]}
LADDER = [
    {},
    {"kind": "numbers", "seats": 3, "rounds": 2, "in_turn": True},
    {"kind": "facts", "answering": "one"},
    {"kind": "facts", "seats": 3, "people": 6},
    SMALL_MAZE,
]


def say(game, texts):
    return game.act(texts if isinstance(texts, dict) else dict.fromkeys(game.acting(), texts))


def parts(game):
    return game.facts()["columns"]["parts"]


@pytest.mark.parametrize("options", [*LADDER, {"channel": False}])
def test_it_keeps_the_contract(options):
    check_game(lambda: make_game(NAME, options), seeds=(0,), texts=["\\boxed{7}", "<answer>up</answer>"])


@pytest.mark.parametrize("options", LADDER)
def test_who_tells_all_solves_all(options):
    metrics, _ = scripted(NAME, "candid", 30, **options)
    assert metrics["solved"] == metrics["exact"] == metrics["told"] == 1


@pytest.mark.parametrize(("options", "chance"), [({}, 0.1), ({"digits": 2}, 0.5)])
@pytest.mark.parametrize("why", ["nothing is told", "nothing arrives"])
def test_without_talk_sums_are_guessed_at_chance(options, chance, why):
    """The other's digit is uniform, so that no answer is right more often than once in `digits`."""
    told = why == "nothing arrives"
    metrics, _ = scripted(NAME, "candid" if told else "silent", 1500, **options, channel=not told)
    assert metrics["exact"] == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 3000) ** 0.5)
    assert metrics["told"] == told


@pytest.mark.parametrize("options", [{}, {"kind": "numbers", "length": 3}, {"seats": 5}])
def test_the_answer_is_the_sum_of_the_parts(options):
    for seed in range(50):
        game = started(NAME, seed, **options)
        numbers = [int(part) for part in parts(game).values()]
        assert int(game.facts()["answer"]) == sum(numbers)
        length = options.get("length", 1)
        assert all(len(str(number)) == length for number in numbers)


def tops(people, texts):
    """Who is at the top of any order of the people that all facts allow: all orders are tried."""
    pairs = [pair.split(" above ") for text in texts for pair in text.split(", ")]
    orders = [order for order in permutations(people) if all(order.index(a) < order.index(b) for a, b in pairs)]
    return {order[0] for order in orders}


@pytest.mark.parametrize(("seats", "people"), [(2, 3), (2, 5), (3, 5)])
def test_all_facts_leave_one_answer_and_without_any_seat_there_are_several(seats, people):
    for seed in range(15):
        game = started(NAME, seed, kind="facts", seats=seats, people=people)
        names = game.facts()["question"].split(" stand")[0].split(", ")
        assert len(names) == people
        texts = list(parts(game).values())
        assert tops(names, texts) == {game.facts()["answer"]}
        for left in range(seats):
            assert len(tops(names, texts[:left] + texts[left + 1 :])) > 1


def test_who_hears_nothing_reads_that_and_all_else_is_equal():
    talk, cut = started(NAME, 3), started(NAME, 3, channel=False)
    assert reading(talk, "bob") == reading(cut, "bob")
    for game in (talk, cut):
        say(game, {"alice": "My part is 4.", "bob": "hm"})
    assert reading(talk, "bob") == 'alice says: "My part is 4."\nYour answer?'
    assert reading(cut, "bob") == "Nothing is heard of alice.\nYour answer?"


@pytest.mark.parametrize(
    "form", ["<answer>{}</answer>", "so \\boxed{{{}}}", "<answer>1000</answer> no: \\boxed{{{}.0}}"]
)
def test_each_right_answer_pays_its_seat(form):
    game = started(NAME, 1)
    say(game, "hello")
    result = game.act({"alice": form.format(game.facts()["answer"]), "bob": "<answer>1000</answer>"})
    assert result.rewards == {"alice": 1.0, "bob": 0.0}
    assert result.invalid == ()
    assert game.acting() == ()
    assert game.facts()["columns"]["right"] == {"alice": 1.0, "bob": 0.0}


def test_an_answer_without_marks_is_flagged_and_earns_nothing():
    game = started(NAME, 1)
    say(game, "hello")
    answer = game.facts()["answer"]
    result = game.act({"alice": answer, "bob": f"<answer>{answer}</answer>"})
    assert (result.rewards, result.invalid) == ({"alice": 0.0, "bob": 1.0}, ("alice",))
    assert result.actions == {"alice": {"answer": None}, "bob": {"answer": answer}}


def test_where_one_answers_all_are_paid():
    game = started(NAME, 1, answering="one", seats=3)
    say(game, "hello")
    assert game.acting() == ("p1",)
    assert game.marks("p1") == {"role": "answers"}
    assert game.marks("p3") == {"role": "tells"} == {"role": game.facts()["roles"]["p3"]}
    assert game.act({"p1": f"\\boxed{{{game.facts()['answer']}}}"}).rewards == {"p1": 1.0, "p2": 1.0, "p3": 1.0}


def test_talk_in_turn_is_heard_by_who_talks_next():
    game = started(NAME, seats=3, rounds=2, in_turn=True, message_limit=5)
    order = []
    heard = []
    for _ in range(6):
        (seat,) = game.acting()
        order.append(seat)
        heard.append(reading(game, seat).splitlines()[-3:-1])
        say(game, f"{seat} is here")
    assert order == ["p1", "p2", "p3"] * 2
    assert game.acting() == game.seats
    assert heard[2:4] == [['p1 says: "p1 is"', 'p2 says: "p2 is"'], ['p2 says: "p2 is"', 'p3 says: "p3 is"']]
    assert reading(game, "p2") == 'p3 says: "p3 is"\nYour answer?'


def shortest(rows, start, goal):
    """An independent search: rounds of spreading over a set of places."""
    reached, moves = {start}, 0
    free = {(r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell == "-"}
    while goal not in reached:
        more = {(r + d, c + e) for r, c in reached for d, e in ((0, 1), (1, 0), (0, -1), (-1, 0))} & free
        if more <= reached:
            return None
        reached, moves = reached | more, moves + 1
    return moves


def test_mazes_are_those_of_the_paper():
    """arXiv 2511.02687: 6 x 6, 30 % walls, shortest path of 7 to 9 moves; copies that complement each other."""
    lengths = set()
    for seed in range(40):
        game = started(NAME, seed, kind="maze")
        facts = game.facts()["columns"]
        rows, (start, *_) = facts["rows"], facts["places"]
        assert [len(row) for row in rows] == [6] * 6
        assert "".join(rows).count("#") == 11  # 30 % of 36, rounded
        length = shortest(rows, tuple(start), tuple(facts["goal"]))
        assert length == facts["length"] == facts["left"]
        lengths.add(length)
        for cells in zip("/".join(rows), *facts["parts"].values(), strict=True):
            assert sorted(set(cells[1:])) == ["/"] if cells[0] == "/" else sorted(cells[1:]) == sorted([cells[0], "?"])
    assert lengths == {7, 8, 9}


WAYS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def in_a_corner():
    """A maze whose start has a free place on one side and a wall or the edge on another: (game, row, column, sides)."""
    for seed in range(50):
        game = started(NAME, seed, **SMALL_MAZE)
        rows, (row, column) = game.facts()["columns"]["rows"], game.facts()["columns"]["places"][0]
        is_free = {
            step: row + d in range(3) and column + e in range(3) and rows[row + d][column + e] == "-"
            for step, (d, e) in WAYS.items()
        }
        if set(is_free.values()) == {True, False}:
            return game, row, column, *(next(s for s in WAYS if is_free[s] is wanted) for wanted in (True, False))
    raise AssertionError("no seed drew that")


def test_a_step_is_made_where_all_name_it_and_no_wall_is_there():
    game, row, column, free, blocked = in_a_corner()
    here = f"row {row + 1}, column {column + 1}"

    def step(alice, bob):
        say(game, "hello")
        result = game.act({"alice": f"<answer>{alice}</answer>", "bob": f"\\boxed{{{bob}}}"})
        return result, reading(game, "alice").splitlines()[0]

    result, told = step(free, blocked)
    assert told == f"No step: alice {free}, bob {blocked}. You are at {here}."
    result, told = step(free, "there")
    assert told == f"No step: alice {free}, bob nothing readable. You are at {here}."
    assert (result.invalid, result.actions["bob"]) == (("bob",), {"move": None})
    result, told = step(blocked, blocked)
    assert told == f"No step: {blocked} is a wall. You are at {here}."
    result, told = step(free.upper(), free)
    d, e = WAYS[free]
    assert told == f"You went {free} and are at row {row + d + 1}, column {column + e + 1}."
    assert game.facts()["columns"]["places"] == [[row, column]] * 4 + [[row + d, column + e]]


def test_a_maze_ends_after_its_moves_and_tells_how_far_they_came():
    game = started(NAME, 5, kind="maze", moves=10)
    length, acts = game.facts()["columns"]["length"], 0
    players = dict.fromkeys(game.seats, game.players["candid"])
    rng = random.Random(0)
    while game.acting():
        good = acts < 6  # three steps the right way, then nothing
        game.act({seat: players[seat](game.view(seat), rng) if good else "no" for seat in game.acting()})
        acts += 1
    columns = game.facts()["columns"]
    assert acts == 20
    assert columns["left"] == length - 3
    assert shortest(columns["rows"], tuple(columns["places"][-1]), tuple(columns["goal"])) == length - 3
    metrics, _ = scripted(NAME, "idle", 5, kind="maze")
    assert metrics["solved"] == 0
    assert 0 <= metrics["path"] < 1


def test_the_share_of_the_path_of_hand_made_play():
    game = make_game(NAME, {"kind": "maze"})
    rng, steps = random.Random(0), []

    def speak(game, seat):
        if game.phase == "talk":
            return game.players["candid"](game.view(seat), rng)
        steps.append(seat)
        return game.players["candid"](game.view(seat), rng) if len(steps) <= 8 else "no"

    episode = record(game, 2, speak)
    metrics = game.metrics([episode], ["bob"])
    assert metrics["path"] == pytest.approx(4 / episode.facts["columns"]["length"])
    assert metrics["solved"] == metrics["bob/exact"] == 0
    assert metrics["bob/told"] == 1
    assert metrics["invalid"] == pytest.approx(12 / 16)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.floats(0, 0.6), st.integers(0, 2**32), st.integers(2, 4))
def test_the_way_through_a_maze_is_a_shortest_one(side, walls, seed, number):
    rng = random.Random(seed)
    try:
        found = maze.draw(rng, side, walls, 1, side * side)
    except GameError:
        return
    assert shortest(found.rows, found.start, found.goal) == found.length
    copies = maze.copies(rng, found.rows, number)
    assert maze.merged(copies) == found.rows
    place, walked = found.start, deque()
    while place != found.goal:
        walked.append(maze.toward(found.rows, place, found.goal))
        place = maze.after(place, walked[-1])
        assert maze.at(found.rows, place) == "-"
    assert len(walked) == found.length


def test_a_maze_that_is_not_to_be_had_says_what_to_change():
    with pytest.raises(GameError, match=r"game\.side, game\.walls or game\.path"):
        started(NAME, kind="maze", side=2, path=[7, 9])


def test_whoever_lies_misleads_the_other():
    game = make_game(NAME)
    players = {"alice": game.players["liar"], "bob": game.players["candid"]}
    for seed in range(50):
        (_, result) = play_scripted(game, seed, players)
        assert result.rewards == {"alice": 1.0, "bob": 0.0}


@settings(max_examples=40)
@given(data=st.data())
def test_any_text_is_survived(data):
    options = data.draw(st.sampled_from([*LADDER, {"channel": False}]))
    survives(make_game(NAME, options), data, data.draw(st.integers(0, 2**63)))


@pytest.mark.parametrize("options", [{}, SMALL_MAZE])
def test_a_megabyte_is_read_at_once(options):
    megabytes_are_read_at_once(make_game(NAME, options), "\\boxed{" * 140_000, "My part is " * 90_000)


@pytest.mark.parametrize("options", [*LADDER, {"channel": False}])
def test_players_are_never_unreadable(options):
    players_are_readable(NAME, **options)


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("people", {"people": 4}),
        ("walls", {"kind": "facts", "walls": 0.2}),
        ("people", {"kind": "facts", "people": 3, "seats": 3}),
        ("path", {"kind": "maze", "path": [9, 7]}),
        ("moves", {"kind": "maze", "moves": 8}),
        ("answering", {"kind": "maze", "answering": "one"}),
        ("digits", {"digits": 11}),
        ("kind", {"kind": "chess"}),
    ],
)
def test_bad_options_are_named(key, options):
    refused(NAME, key, options)
