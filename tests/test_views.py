"""What a critic is shown, by hand: own contexts, and one joint sequence an episode."""

import numpy as np

from marft.episode import Episode, Turn
from marft.train.views import joint_views, own_views

SEATS = ("a", "b")


def turn(seat, step, order, prompt, said, fresh=False):
    return Turn(seat, step, order, seat, "", agent=seat, prompt_ids=prompt, completion_ids=said, fresh=fresh)


def two_rounds():
    """Both act at once in two rounds; b's context starts afresh in the second."""
    turns = [
        turn("a", 0, 0, [10, 11], [20, 21], fresh=True),
        turn("b", 0, 1, [12], [22], fresh=True),
        turn("a", 1, 0, [13], [23]),
        turn("b", 1, 1, [12, 14], [24, 25], fresh=True),
    ]
    return Episode("e", "g", SEATS, {"a": "a", "b": "b"}, 0, turns=turns)


def names(text):
    return [{"\na: ": 1, "\nb: ": 2}[text]]


def read(views):
    """(ids before the place, turn, token, seat) of every value."""
    return [
        (view.ids[:place].tolist(), *map(int, rest))
        for view in views
        for place, *rest in zip(view.targets, view.turn, view.token, view.seat, strict=True)
    ]


def test_own_views_are_the_seats_contexts_up_to_each_turn():
    found = read(own_views([two_rounds(), two_rounds()]))
    assert found[:4] == [
        ([10, 11], 0, 0, 0),
        ([10, 11, 20, 21, 13], 2, 3, 0),
        ([12], 1, 2, 1),
        ([12, 14], 3, 4, 1),
    ]
    assert [(number, token) for _, number, token, _ in found[4:]] == [(4, 6), (6, 9), (5, 8), (7, 10)]


def test_by_token_there_is_a_value_before_each_of_them():
    found = read(own_views([two_rounds()], by_token=True))
    assert found[:3] == [([10, 11], 0, 0, 0), ([10, 11, 20], 0, 1, 0), ([10, 11, 20, 21, 13], 2, 3, 0)]
    assert found[-1] == ([12, 14, 24], 3, 5, 1)


def test_the_joint_view_has_all_that_was_shown_before_and_nothing_of_this_decision():
    first = [1, 10, 11, 2, 12]
    second = [*first, 1, 20, 21, 2, 22, 1, 13, 2, 12, 14]
    expected = [(first, 0, 0, 0), (first, 1, 2, 1), (second, 2, 3, 0), (second, 3, 4, 1)]
    assert read(joint_views([two_rounds()], names, chain=False)) == expected


def test_in_a_chain_the_second_agent_has_heard_the_first():
    found = read(joint_views([two_rounds()], names, chain=True))
    first = [1, 10, 11, 2, 12]
    assert found[0] == ([*first, 1], 0, 0, 0)
    assert found[1] == ([*first, 1, 20, 21, 2], 1, 2, 1)
    assert found[3][0][-3:] == [1, 23, 2]
    tokens = read(joint_views([two_rounds()], names, chain=True, by_token=True))
    assert [token for _, _, token, _ in tokens] == list(range(6))
    assert tokens[1] == ([*first, 1, 20], 0, 1, 0)


def test_a_seat_without_a_model_is_heard_as_text():
    episode = two_rounds()
    episode.turns[1] = Turn("b", 0, 1, "scripted:x", "hi", messages=[("user", "say")])
    texts = {"\na: ": [1], "\nb: ": [2], "hi": [7, 8], "say": [9]}
    found = read(joint_views([episode], texts.__getitem__, chain=False))
    assert found[0][0] == [1, 10, 11, 2, 9]
    assert found[2][0][5:10] == [1, 20, 21, 2, 7]
    own = own_views([episode])
    assert np.concatenate([view.turn for view in own]).tolist() == [0, 2, 3]  # nobody asks what a script expects
