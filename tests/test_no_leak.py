"""No seat reads more than it may know: its messages are a function of what the rules let it know.

Each game is played many times in small settings, so that what is hidden (hands, values, votes, bids, moves of this
step, what comes later, what others write beside their answers) differs where what the seat may know, written down in
`knowledge`, does not. Wherever that is so, the seat must have read the same, and its scripted player seen the same.
"""

import asyncio
import random

import pytest

pytest.importorskip("pyspiel")

import knowledge
from knowledge import Step, learnt

from marft.config import Sampling
from marft.engines.route import SCRIPTED
from marft.engines.scripted import ScriptedEngine
from marft.games import GAMES, deal_or_no_deal, make_game
from marft.games.openspiel import SpielGame
from marft.rollout import Plan, Rollout

EPISODES = 400
BESIDE = ["", "", "", " My secret is 7. ", "I have nothing. "]
SAID = ["yes", "Mine is high."]
DEALS = [((1, 1, 1), (1, 4, 5), (5, 5, 0)), ((1, 1, 1), (1, 4, 5), (2, 2, 6)), ((1, 1, 2), (4, 4, 1), (2, 6, 1))]
TASK = {"options": {"kind": "largest", "terms": 1}}

CASES = [
    *((name, {"rounds": 2}) for name in ("prisoners_dilemma", "chicken", "battle_of_sexes", "matching_pennies")),
    ("coordination", {"rounds": 2, "shuffle_names": False}),
    ("stag_hunt", {"rounds": 3, "continue_probability": 0.5, "cheap_talk": True}),
    ("trust_and_split", {"rounds": 2, "coins": 1}),
    ("trust_and_split", {"rounds": 2, "coins": 1, "reveal_claim": False}),
    ("trust_and_split", {"rounds": 3, "coins": 1, "alternating_hands": True}),
    ("split", {"rounds": 2, "quantity": 1}),
    ("split_info", {"digits": 3}),
    ("split_info", {"digits": 2, "seats": 3, "in_turn": True, "answering": "one"}),
    ("split_info", {"digits": 3, "rounds": 2, "channel": False}),
    ("split_info", {"kind": "facts", "people": 3}),
    ("split_info", {"kind": "maze", "side": 2, "walls": 0.25, "path": [1, 2], "moves": 2}),
    ("word_spy", {"seats": 3, "rounds": 1, "pairs": [["sun", "moon"]]}),
    ("public_goods", {"rounds": 2, "seats": 3, "endowment": 1, "punishment": True, "punishment_budget": 1}),
    ("public_goods", {"rounds": 2, "seats": 2, "endowment": 1, "talk": True}),
    ("sequential_public_goods", {"rounds": 2, "seats": 3, "endowment": 1}),
    ("fishery", {"rounds": 2, "seats": 2, "capacity": 4, "collapse": 1}),
    ("ultimatum", {"rounds": 2, "endowment": 1}),
    ("trust_game", {"rounds": 2, "endowment": 1, "multiplier": 2}),
    ("two_dollar", {"rounds": 2, "stake": 12, "fallback": 5, "turns": 2}),
    ("deal_or_no_deal", {"rounds": 2, "turns": 1}),
    ("guess_two_thirds", {"rounds": 2, "seats": 3, "most": 1}),
    ("el_farol", {"rounds": 2, "seats": 3}),
    ("divide_dollar", {"rounds": 2, "seats": 3, "gold": 1}),
    ("public_goods_tokens", {"rounds": 2, "seats": 3, "tokens": 1}),
    ("diners_dilemma", {"rounds": 2, "seats": 3}),
    ("sealed_bid_auction", {"rounds": 2, "seats": 3, "most": 1}),
    ("battle_royale", {"rounds": 1, "seats": 3}),
    ("pirates", {"rounds": 2, "seats": 4, "gold": 4}),
    ("tic_tac_toe", {}),
    ("connect_four", {"rows": 3, "columns": 3, "in_a_row": 3}),
    ("kuhn_poker", {"first": "random"}),
    ("leduc_poker", {}),
    ("liars_dice", {"sides": 3}),
    ("mini_hanabi", {}),
    ("mini_hanabi", {"hand": 1, "ranks": 3}),
    ("goofspiel", {"cards": 4, "hidden_bids": True}),
    ("goofspiel", {"cards": 3}),
    ("rock_paper_scissors", {"throws": 3}),
    ("openspiel", {"game": "kuhn_poker", "first": "random"}),
    ("openspiel", {"game": "goofspiel(num_cards=3,imp_info=True)"}),
    ("openspiel", {"game": "phantom_ttt"}),
    ("openspiel", {"game": "liars_dice(dice_sides=2)"}),
    ("openspiel", {"game": "kuhn_poker(players=3)", "first": "random"}),
    ("openspiel", {"game": "goofspiel(players=3,num_cards=3,imp_info=True)"}),
    ("openspiel", {"game": "social_deduction(players=3,max_rounds=1)"}),
    ("bandit", {"seats": 2}),
    ("debate", {"seats": 2, "rounds": 2, "task": TASK}),
    ("debate", {"seats": 3, "rounds": 2, "show": "answer", "task": TASK}),
    ("debate", {"form": "sides", "rounds": 1, "task": TASK}),
    ("debate", {"form": "sides", "rounds": 1, "assign": False, "show": "answer", "task": TASK}),
    ("pipeline", {"topology": "generator_verifier_refiner", "task": TASK}),
    ("pipeline", {"topology": "writer_reviewer", "task": TASK}),
    ("pipeline", {"topology": "coordinator_workers", "task": TASK}),
    ("mixture", {"games": [{"name": "prisoners_dilemma", "options": {"rounds": 2}}, "ultimatum"]}),
]
"""Every game whose messages are this project's, in all settings that hide or show something."""
PLAYERS = {"pirates": ("best", "even", "greedy", "mutinous"), "two_dollar": ("random", "impatient", "soft")}


def speak(game, seat, rng):
    """An answer with something beside it that is for nobody to read, a message, or what cannot be read."""
    if getattr(game.view(seat), "phase", None) == "talk" and game.name != "trust_and_split":
        return rng.choice(SAID)
    if getattr(game.view(seat), "phase", None) == "punish":  # the scripted players that are random punish nobody
        return rng.choice(["<answer>none</answer>", *(f"<answer>{other} 1</answer>" for other in game.seats)])
    if rng.random() < 0.1:
        return rng.choice(["?", "I keep my 7."])
    names = PLAYERS.get(game.name, ("random", "first", "last") if isinstance(game, SpielGame) else ("random",))
    return rng.choice(BESIDE) + game.players[rng.choice(names)](game.view(seat), rng) + rng.choice(BESIDE)


def openspiels_view(game, seat):
    """What OpenSpiel itself says that the seat knows, from its own state."""
    state, player, kind = game.state, game.facts()["players"][seat], game.state.get_game().get_type()
    if kind.provides_information_state_string:
        return state.information_state_string(player)
    return repr(state.history()) if kind.information.name == "PERFECT_INFORMATION" else state.observation_string(player)


def contexts(name, options, seed):
    """One episode: (what the seat may know, what it read and its player saw, what was the case) for each answer."""
    game, rng = make_game(name, options), random.Random(seed)
    game.reset(seed)
    log, asked, seen = [], [], dict.fromkeys(game.seats, ())
    while seats := game.acting():
        for seat in seats:
            if isinstance(game, SpielGame):
                seen[seat] += (openspiels_view(game, seat),)
            view = game.view(seat)
            view = view._replace(luck=0) if isinstance(game, SpielGame) else view  # its own generator's seed
            asked.append((seat, len(log), seen[seat], repr((game.observe(seat), view))))
        phase, texts = getattr(game, "phase", None), {seat: speak(game, seat, rng) for seat in seats}
        result = game.act(texts)
        log.append(Step(phase, result.actions, result.invalid, getattr(game, "winner", None)))
    facts = game.facts()
    for seat, number, views, told in asked:
        yield learnt(game, seat, log[:number], facts, views), told, repr((facts, log))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_seat_reads_nothing_but_what_it_may_know(name, options, monkeypatch):
    monkeypatch.setattr(deal_or_no_deal, "instances", lambda: DEALS)
    read, worlds = {}, {}
    for seed in range(EPISODES):
        for known, told, world in contexts(name, options, seed):
            assert read.setdefault(known, told) == told, f"both knew {known}, and one read {told}, one {read[known]}"
            worlds.setdefault(known, set()).add(world)
    alike = [known for known, found in worlds.items() if len(found) > 1]
    assert len(alike) >= 6, "hardly anything was compared"


def test_every_game_with_messages_of_its_own_is_checked():
    assert {name for name, _ in CASES} == set(knowledge.OF) == set(GAMES) - {"pettingzoo", "textarena"}


@pytest.mark.parametrize(("name", "options"), CASES)
def test_who_is_asked_second_reads_the_same_whatever_was_answered_first(name, options, monkeypatch):
    """Through the rollout, where all seats of a step are asked one after the other."""
    monkeypatch.setattr(deal_or_no_deal, "instances", lambda: DEALS)
    game = make_game(name, options)
    asked = set()
    for number in range(6):
        players = dict.fromkeys(game.seats, lambda view, rng: "?")
        players[game.seats[0]] = lambda view, rng, number=number: f"{number} {SAID[number % 2]}"
        scripted = ScriptedEngine({f"{SCRIPTED}{seat}": player for seat, player in players.items()})
        rollout = Rollout(lambda: make_game(name, options), None, scripted, scripted, Sampling(), (), 0, attempts=1)
        team = {seat: f"{SCRIPTED}{seat}" for seat in game.seats}
        (episode,) = asyncio.run(rollout.play([Plan(0, number, 5, team)]))
        starts = (place for place, turn in enumerate(episode.turns) if place and turn.order == 0)
        start = next(starts, len(episode.turns))  # a pipeline whose caller calls nobody has one turn
        asked.add(repr([(turn.seat, turn.messages) for turn in episode.turns[:start]]))
    assert len(asked) == 1
