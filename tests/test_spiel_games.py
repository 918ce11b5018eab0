"""Games of OpenSpiel through text: what is dealt, legal and paid is OpenSpiel's; what is told leaks nothing."""

import random
import re
from itertools import permutations

import pyspiel
import pytest

from marft.compliance import check_game
from marft.game import play_scripted
from marft.games import GAMES, make_game
from marft.games.openspiel import SpielGame, answer, read_answer
from marft.games.spiel import load_game

COLOURS = {"R": "red", "Y": "yellow", "G": "green", "W": "white", "B": "blue"}
OWN_WORDS = sorted(name for name, cls in GAMES.items() if issubclass(cls, SpielGame) and name != "openspiel")

COMPLIANT = [
    ("tic_tac_toe", {"first": "random"}),
    ("connect_four", {"rows": 4, "columns": 5, "in_a_row": 3, "first": "bob"}),
    ("kuhn_poker", {"first": "random"}),
    ("kuhn_poker", {"invalid": "forfeit"}),
    ("leduc_poker", {}),
    ("leduc_poker", {"first": "random", "invalid": "forfeit"}),
    ("liars_dice", {}),
    ("liars_dice", {"dice": 2, "sides": 3, "first": "random"}),
    ("mini_hanabi", {}),
    ("mini_hanabi", {"colours": 5, "ranks": 5, "hand": 5, "hints": 8, "first": "bob"}),
    ("mini_hanabi", {"invalid": "forfeit"}),
    ("goofspiel", {}),
    ("goofspiel", {"cards": 4, "hidden_bids": True, "invalid": "forfeit"}),
    ("goofspiel", {"cards": 3, "prizes": "descending", "returns": "point_difference"}),
    ("rock_paper_scissors", {"throws": 3}),
    ("openspiel", {}),
    ("openspiel", {"game": "phantom_ttt", "first": "random"}),
    ("openspiel", {"game": "bargaining", "invalid": "forfeit"}),
    ("openspiel", {"game": "pig(winscore=15)"}),
    ("openspiel", {"game": "matrix_pd"}),
    ("openspiel", {"game": "goofspiel(num_cards=3,imp_info=True)"}),
    ("openspiel", {"game": "goofspiel(players=3,num_cards=3)", "invalid": "forfeit"}),
    ("openspiel", {"game": "kuhn_poker(players=3)", "first": "random", "invalid": "forfeit"}),
    ("openspiel", {"game": "social_deduction(players=4,max_rounds=2)", "first": "p3"}),
]


@pytest.mark.parametrize(("name", "options"), COMPLIANT)
def test_the_games_comply(name, options):
    check_game(lambda: make_game(name, options), seeds=(0,), texts=[answer("1"), answer("pass"), answer("hint red")])


def in_our_words(name, text):
    """OpenSpiel's name of an action as this project's, written down here a second time."""
    if name == "tic_tac_toe":
        return str(3 * int(text[2]) + int(text[4]) + 1)
    if name == "connect_four":
        return str(int(text[1:]) + 1)
    if name == "goofspiel":
        return text.removeprefix("[P0]Bid: ").removeprefix("[P1]Bid: ")
    if name == "mini_hanabi":
        if hint := re.fullmatch(r"\(Reveal player \+1 (color|rank) (.)\)", text):
            return f"hint {COLOURS.get(hint[2], hint[2])}"
        move, place = text.strip("()").split()
        return f"{move.lower()} {int(place) + 1}"
    return text.lower()


PLAYED = [*((name, {}) for name in OWN_WORDS), ("liars_dice", {"dice": 2}), ("mini_hanabi", {"colours": 5, "ranks": 5})]


@pytest.mark.parametrize(("name", "options"), [*PLAYED, ("leduc_poker", {"first": "bob"})])
def test_random_play_through_the_text_earns_what_openspiel_pays(name, options):
    game = make_game(name, options)
    bare_game = pyspiel.load_game(game.spiel())
    order = game.seats[::-1] if options.get("first") == "bob" else game.seats
    rng = random.Random(7)
    for seed in range(1000 if name != "mini_hanabi" or not options else 100):
        game.reset(seed)
        bare = bare_game.new_initial_state()
        earned = dict.fromkeys(order, 0.0)
        while not bare.is_terminal():
            if bare.is_chance_node():
                dealt = game.facts()["history"][len(bare.history())]
                assert dict(bare.chance_outcomes())[dealt] > 0
                bare.apply_action(dealt)
                continue
            movers = [0, 1] if bare.is_simultaneous_node() else [bare.current_player()]
            assert game.acting() == tuple(order[player] for player in movers)
            chosen = {player: rng.choice(bare.legal_actions(player)) for player in movers}
            texts = {}
            for player, action in chosen.items():
                words = in_our_words(name, bare.action_to_string(player, action))
                texts[order[player]] = f"I think <answer>?</answer> {rng.random()}\n<answer>{words}</answer>"
                legal = [
                    answer(in_our_words(name, bare.action_to_string(player, a))) for a in bare.legal_actions(player)
                ]
                if seed < 20:
                    assert list(game.view(order[player]).say) == legal
            result = game.act(texts)
            assert result.invalid == ()
            if len(movers) == 2:
                bare.apply_actions([chosen[0], chosen[1]])
            else:
                bare.apply_action(chosen[movers[0]])
            for seat, reward in result.rewards.items():
                earned[seat] += reward
        assert game.acting() == ()
        assert [earned[seat] for seat in order] == pytest.approx(bare.returns(), abs=1e-12)
        assert game.facts()["history"] == bare.history()
        assert [game.facts()["returns"][seat] for seat in order] == pytest.approx(bare.returns(), abs=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        *("oware", "backgammon", "chess", "phantom_ttt", "liars_dice", "blotto", "hex(board_size=4)"),
        *("blotto(players=4)", "chinese_checkers(players=3)", "kuhn_poker(players=4)", "matching_pennies_3p"),
        *("social_deduction(players=3)", "social_deduction(players=10,imposters=3)"),
    ],
)
def test_the_generic_game_plays_what_openspiel_plays(text):
    game = make_game("openspiel", {"game": text})
    for seed in range(3):
        results = play_scripted(game, seed, dict.fromkeys(game.seats, game.players["random"]))
        bare = pyspiel.load_game(text).new_initial_state()
        history = iter(game.facts()["history"])
        for action in history:
            if bare.is_simultaneous_node():
                bare.apply_actions([action, *(next(history) for _ in game.seats[1:])])
            else:
                bare.apply_action(action)
        assert bare.is_terminal()
        assert [sum(r.rewards.get(seat, 0.0) for r in results) for seat in game.seats] == bare.returns()
        assert not any(result.invalid for result in results)


def test_names_that_differ_only_in_case_are_told_apart():
    game = make_game("openspiel", {"game": "chess"})
    game.reset(0)
    for move in ("d3", "c5", "Be3", "a6", "b4", "a5"):
        assert game.act(dict.fromkeys(game.acting(), answer(move))).invalid == ()
    (white,) = game.acting()  # OpenSpiel's player 1
    captures = [read_answer(say) for say in game.view(white).say if say.lower() == "<answer>bxc5</answer>"]
    assert sorted(captures) == ["Bxc5", "bxc5"]  # the bishop's and the pawn's
    for capture in captures:
        assert game.clone().act({white: answer(capture)}).actions == {white: capture}
    assert game.clone().act({white: answer("BXA5")}).actions == {white: "bxa5"}
    assert game.act({white: answer("BXC5")}).invalid == (white,)


@pytest.mark.parametrize(
    ("name", "options"), [("kuhn_poker", {}), ("liars_dice", {}), ("leduc_poker", {}), ("goofspiel", {"cards": 5})]
)
def test_chance_falls_as_openspiel_says(name, options):
    game, first = make_game(name, options), []
    for seed in range(3000):
        game.reset(seed)
        first.append(game.facts()["history"][0])
    for action, probability in pyspiel.load_game(game.spiel()).new_initial_state().chance_outcomes():
        assert abs(first.count(action) / 3000 - probability) < 4 * (probability * (1 - probability) / 3000) ** 0.5


@pytest.mark.parametrize(
    ("name", "options"), [("goofspiel", {"cards": 6}), ("leduc_poker", {}), ("mini_hanabi", {"colours": 4})]
)
def test_what_is_said_changes_no_card_dealt_later(name, options):
    """Prizes, the public card and the deck belong to the seed: episodes of one group share them to the end."""
    longest = 0
    for seed in range(60):
        dealt = []
        for speaks in (lambda view: "", lambda view: view.say[-1], lambda view: view.say[0]):
            game = make_game(name, options)
            game.reset(seed)
            while seats := game.acting():
                game.act({seat: speaks(game.view(seat)) for seat in seats})
            dealt.append([event.action for event in game.state.full_history() if event.player < 0])
        for cards in dealt:
            shared = min(len(cards), len(dealt[0]))
            assert cards[:shared] == dealt[0][:shared]
            longest = max(longest, shared)
    assert longest >= {"goofspiel": 5, "leduc_poker": 3, "mini_hanabi": 9}[name]  # deals in the middle were compared


def contexts(game):
    """(player, OpenSpiel's information state) -> everything a seat has read and said by then, over all histories."""
    tree = load_game(game.spiel())
    tree = pyspiel.convert_to_turn_based(tree) if tree.get_type().dynamics.name == "SIMULTANEOUS" else tree
    stack, found = [tree.new_initial_state()], {}
    while stack:
        state = stack.pop()
        if state.is_terminal():
            continue
        player = state.current_player()
        if player >= 0:
            history = state.full_history()
            game.deal([event.action for event in history if event.player < 0])
            texts, read = {}, []
            for event in history:
                if event.player >= 0:
                    seat = game.seats[event.player]
                    texts[seat] = answer(game.name_of(event.player, event.action))
                    if event.player == player:
                        read.append((*game.observe(seat), texts[seat]))
                    if len(texts) == len(game.acting()):
                        game.act(texts)
                        texts = {}
            read.append(tuple(game.observe(game.seats[player])))
            found.setdefault((player, state.information_state_string(player)), set()).add(tuple(read))
        stack.extend(state.child(action) for action in state.legal_actions())
    return found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kuhn_poker", {}),
        ("leduc_poker", {}),
        ("liars_dice", {"sides": 3}),
        ("liars_dice", {"dice": 2, "sides": 2}),
        ("goofspiel", {"cards": 3, "hidden_bids": True}),
        ("goofspiel", {"cards": 3}),
        ("openspiel", {"game": "kuhn_poker(players=3)"}),
    ],
)
def test_a_seat_reads_exactly_its_information_state(name, options):
    """Over the whole tree: the same information state reads the same whatever is hidden, and no two read alike."""
    found = contexts(make_game(name, options))
    assert all(len(texts) == 1 for texts in found.values())
    assert len({(player, *texts) for (player, _), texts in found.items()}) == len(found)


def test_own_cards_of_hanabi_reach_nobody_but_the_partner():
    """All orders of alice's three cards: she reads the same through hints and the partner's moves, bob does not."""
    game = make_game("mini_hanabi")
    heard = {"alice": set(), "bob": set()}
    for own in set(permutations([0, 0, 1])):
        for hint in ("hint red", "hint 1"):
            game.deal([*own, 2, 0, 3, 2, 2])
            read = {"alice": [], "bob": []}
            for text in ("hint yellow", "discard 1", hint, "discard 2"):
                (seat,) = game.acting()
                read[seat] += game.observe(seat)
                assert game.act({seat: answer(text)}).invalid == ()
            heard["alice"].add((hint, *read["alice"]))
            heard["bob"].add((hint, *read["bob"]))
    assert len(heard["alice"]) == 2
    assert len(heard["bob"]) == 6


def test_what_is_told_of_hidden_bids_is_only_who_won():
    told = set()
    for other in ("1", "2", "3"):
        game = make_game("goofspiel", {"cards": 4, "hidden_bids": True, "prizes": "descending"})
        game.reset(0)
        game.act({"alice": answer("4"), "bob": answer(other)})
        told.add(game.observe("alice")[0].text)
    assert told == {"You won it. Points: you 4, the other 0. The prize is 3. Your cards: 1 2 3. Your bid?"}


@pytest.mark.parametrize("name", [*OWN_WORDS, "openspiel"])
def test_rules_are_told_once_and_then_only_what_is_new(name):
    game = make_game(name)
    rng = random.Random(1)
    for seed in range(5):
        game.reset(seed)
        seen = {seat: [] for seat in game.seats}
        while seats := game.acting():
            for seat in seats:
                messages = game.observe(seat)
                assert messages == game.observe(seat)
                seen[seat] += [message.text for message in messages]
            game.act({seat: game.players["random"](game.view(seat), rng) for seat in seats})
        for texts in seen.values():
            assert all("You play" in text for text in texts[:1])
            assert not any("You play" in text for text in texts[1:])


def totals(game, *steps):
    earned = dict.fromkeys(game.seats, 0.0)
    for texts in steps:
        for seat, reward in game.act({seat: answer(text) for seat, text in texts.items()}).rewards.items():
            earned[seat] += reward
    assert game.acting() == ()
    assert earned == game.facts()["returns"]
    return earned["alice"], earned["bob"]


def test_fixed_deals_give_known_returns():
    """Kuhn by its rules: cards 0 jack, 1 queen, 2 king; player 0 is alice."""
    cases = [
        ((2, 1), ["bet", "bet"], (2, -2)),
        ((0, 1), ["bet", "bet"], (-2, 2)),
        ((0, 2), ["bet", "pass"], (1, -1)),
        ((1, 0), ["pass", "pass"], (1, -1)),
        ((2, 0), ["pass", "bet", "pass"], (-1, 1)),
        ((2, 0), ["pass", "bet", "bet"], (2, -2)),
    ]
    for deal, moves, returns in cases:
        game = make_game("kuhn_poker")
        game.deal(deal)
        assert (
            totals(game, *({"ab"[i % 2].replace("a", "alice").replace("b", "bob"): m} for i, m in enumerate(moves)))
            == returns
        )


@pytest.mark.parametrize(
    ("die", "other", "bid"), [(d, o, b) for d in range(1, 7) for o in range(1, 7) for b in range(1, 7)]
)
def test_a_bid_of_two_dice_holds_by_the_rules_as_told(die, other, bid):
    game = make_game("liars_dice")
    game.deal([die - 1, other - 1])
    holds = all(face in (bid, 6) for face in (die, other))
    assert totals(game, {"alice": f"2-{bid}"}, {"bob": "liar"}) == ((1, -1) if holds else (-1, 1))


def test_a_clone_plays_on_by_itself():
    game = make_game("leduc_poker")
    game.reset(3)
    game.act({"alice": "?"})
    twin = game.clone()
    first, second = game.act({"bob": ""}), twin.act({"bob": ""})
    assert first == second
    assert game.facts() == twin.facts()
    if twin.acting():
        twin.act(dict.fromkeys(twin.acting(), answer("call")))
    assert game.facts()["moves"] == 2


def test_acting_after_the_end_is_the_callers_defect():
    game = make_game("kuhn_poker")
    game.reset(0)
    game.act({"alice": answer("bet")})
    game.act({"bob": answer("pass")})
    with pytest.raises(RuntimeError, match="over"):
        game.act({"alice": answer("bet")})
