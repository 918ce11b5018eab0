"""Word spy: who holds what, what a clue may hold, votes counted by hand, any text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_play import (
    do,
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
from marft.games import make_game
from marft.games.word_lists import CLUES, PAIRS

NAME = "word_spy"


def voting(seed=0, **options):
    """A game in which all clues are given."""
    game = started(NAME, seed, **options)
    while game.phase == "talk":
        game.act(dict.fromkeys(game.acting(), "a thing"))
    return game


@pytest.mark.parametrize("options", [{}, {"seats": 3, "rounds": 1, "pairs": [["sun", "moon"]]}])
def test_it_keeps_the_contract(options):
    check_game(lambda: make_game(NAME, options), seeds=(0,), texts=["<answer>p2</answer>"])


def test_one_seat_holds_the_other_word_of_a_pair_and_every_seat_may():
    spies, firsts, words = set(), set(), set()
    for seed in range(200):
        facts = started(NAME, seed).facts()
        held, spy = facts["columns"]["words"], facts["answer"]
        (common,) = {word for seat, word in held.items() if seat != spy}
        assert (common, held[spy]) in PAIRS or (held[spy], common) in PAIRS
        assert facts["roles"] == {seat: "spy" if seat == spy else "citizen" for seat in held}
        spies.add(spy)
        firsts.add(facts["columns"]["order"][0])
        words.add(common)
    assert spies == firsts == {"p1", "p2", "p3", "p4"}
    assert words == {word for pair in PAIRS for word in pair}


def test_nobody_is_told_who_is_the_spy():
    game = started(NAME, 0)
    texts = {seat: reading(game, seat) for seat in game.seats}
    held = game.facts()["columns"]["words"]
    alike = {text.replace(f"You are {seat}", "").replace(held[seat], "") for seat, text in texts.items()}
    assert len({text.split("<answer>")[0] for text in alike}) == 1


def test_clues_go_round_in_order_and_all_hear_them():
    game = started(NAME, 4, seats=3, message_limit=6)
    order, spoken = game.facts()["columns"]["order"], []
    while game.phase == "talk":
        (seat,) = game.acting()
        spoken.append(seat)
        game.act({seat: f"{seat} says it"})
    assert spoken == order * 2
    first, second, third = order
    assert reading(game, first) == f'{second}: "{second} say"\n{third}: "{third} say"\nYour vote?'
    assert reading(game, third) == "Your vote?"


@pytest.mark.parametrize("clue", ["it is a {}", "{} ", "{}s", "  "])
def test_a_clue_that_holds_the_word_is_not_shown(clue):
    game = started(NAME, 1)
    (seat,) = game.acting()
    word = game.facts()["columns"]["words"][seat]
    result = game.act({seat: clue.format(" ".join(word.upper()))})
    assert (result.invalid, result.actions) == ((seat,), {seat: {"say": "no clue"}})
    (next_seat,) = game.acting()
    assert f'{seat}: "no clue"' in reading(game, next_seat)


@pytest.mark.parametrize(
    ("counts", "caught"),
    [
        ((3, 1, 0, 0), True),
        ((2, 1, 1, 0), True),
        ((2, 2, 0, 0), False),
        ((1, 3, 0, 0), False),
        ((1, 0, 0, 0), True),
        ((0, 0, 0, 0), False),
    ],
)
@pytest.mark.parametrize("seed", range(8))
def test_the_spy_loses_only_where_it_alone_has_most_votes(seed, counts, caught):
    """counts: votes for the spy and for the others; who is left votes for nobody one can read."""
    game = voting(seed)
    spy = game.facts()["answer"]
    targets = [spy, *(seat for seat in game.seats if seat != spy)]
    ballots = [target for target, number in zip(targets, counts, strict=True) for _ in range(number)]
    votes = {}
    for seat in sorted(game.seats, key=lambda seat: seat != spy):  # the spy first: it cannot vote for itself
        place = next((place for place, target in enumerate(ballots) if target != seat), None)
        votes[seat] = ballots.pop(place) if place is not None else "nobody"
    assert ballots == []
    result = do(game, votes)
    assert result.rewards == {seat: float((seat == spy) != caught) for seat in game.seats}
    assert set(result.invalid) == {seat for seat, vote in votes.items() if vote == "nobody"}
    assert (game.facts()["columns"]["out"] == spy) == caught


def test_nobody_votes_for_itself():
    game = voting()
    result = do(game, {"p1": "p1", "p2": "p1", "p3": "p1", "p4": "p2"})
    assert result.invalid == ("p1",)
    assert game.facts()["columns"]["votes"] == {"p2": "p1", "p3": "p1", "p4": "p2"}


def test_metrics_of_hand_made_play():
    game = make_game(NAME, {"rounds": 1})

    def speak(game, seat):
        if game.phase == "talk":
            return "" if seat == "p1" else "a thing"
        spy = game.facts()["answer"]
        right = seat in ("p1", "p2")
        others = [other for other in game.seats if other not in (seat, spy)]
        return f"<answer>{spy if right and seat != spy else others[0]}</answer>"

    episode = next(found for seed in range(20) if (found := record(game, seed, speak)).facts["answer"] in ("p3", "p4"))
    metrics = game.metrics([episode])
    assert metrics["found"] == pytest.approx(2 / 3)
    assert metrics["spoilt"] == 1 / 4
    assert metrics["p1/spoilt"] == 1
    out = episode.facts["columns"]["out"]
    assert metrics["caught"] == (out == episode.facts["answer"])


def test_clues_to_the_own_word_give_the_spy_away_and_clues_to_both_do_not():
    assert scripted(NAME, "plain", 100)[0]["caught"] > 0.9
    assert scripted(NAME, "wary", 100)[0]["caught"] < 0.5
    assert all(set(CLUES[one]) & set(CLUES[other]) and set(CLUES[one]) != set(CLUES[other]) for one, other in PAIRS)
    assert not any(word in clue for word, clues in CLUES.items() for clue in clues)


@settings(max_examples=30)
@given(data=st.data())
def test_any_text_is_survived(data):
    survives(make_game(NAME, {"seats": 3}), data, data.draw(st.integers(0, 2**63)))


def test_a_megabyte_is_read_at_once():
    megabytes_are_read_at_once(make_game(NAME))


@pytest.mark.parametrize("options", [{}, {"seats": 3, "pairs": [["sun", "moon"]]}])
def test_players_are_never_unreadable(options):
    players_are_readable(NAME, **options)


@pytest.mark.parametrize(
    ("key", "options"), [("pairs", {"pairs": [["sun", "Sun "]]}), ("seats", {"seats": 2}), ("pairs", {"pairs": []})]
)
def test_bad_options_are_named(key, options):
    refused(NAME, key, options)
