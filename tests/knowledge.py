"""What a seat may know by the rules of each game, written down without any of the messages it reads.

`learnt(game, seat, log, facts)` is that knowledge after the decisions in `log`, from what was played and, once the
episode is over, from its facts. Episodes in which it is the same must read the same to the seat.
"""

from dataclasses import dataclass
from typing import Any


@dataclass
class Step:
    """A decision: where in the play, what the answers were taken for, who could not be read, who won it if it says."""

    phase: str | None
    actions: dict[str, Any]
    invalid: tuple[str, ...]
    winner: str | None


def own(seat, log):
    """Its own moves, and whether they were read."""
    return [(step.actions[seat], seat in step.invalid) for step in log if seat in step.actions]


def played(log, *phases):
    """What everybody did, in these phases or all."""
    return [(step.phase, step.actions) for step in log if not phases or step.phase in phases]


def over(log, phase):
    """How many rounds are finished, where `phase` is the last of a round."""
    return sum(step.phase == phase for step in log)


def all_moves(game, seat, log, facts):
    return played(log)


def matrix(game, seat, log, facts):
    return played(log), facts["names"]


def nothing_of_others(game, seat, log, facts):
    return ()


def trust_and_split(game, seat, log, facts):
    """Own hand of this round, which hand won in those before; messages, and that there was none; claims if revealed."""
    me, done = game.seats.index(seat), over(log, "claim")
    talk = [(step.actions, step.invalid) for step in log if step.phase == "talk"]
    claims = played(log, "claim") if game.options.reveal_claim else ()
    return facts["first"], [hands[me] for hands in facts["hands"][: done + 1]], facts["upper"][:done], talk, claims


def split(game, seat, log, facts):
    """What items are worth to both in this round and before; all claims."""
    return facts["values"][: len(log) + 1], played(log)


def split_info(game, seat, log, facts):
    """The question, its own part, messages if they arrive; in a maze what all named and where that led."""
    columns, steps = facts["columns"], played(log, "step")
    talk = played(log, "talk") if game.options.channel else over(log, "talk")
    places = columns["places"][: len(steps) + 1] if "places" in columns else ()
    return facts["question"], columns["parts"][seat], talk, steps, places


def word_spy(game, seat, log, facts):
    """Its own word, who begins, all clues; no vote."""
    return facts["columns"]["words"][seat], facts["columns"]["order"], played(log, "talk")


def public_goods(game, seat, log, facts):
    """Who gave what and said what; of the points only how many it got."""
    got = [
        sum(action["punish"].get(seat, 0) for action in step.actions.values()) for step in log if step.phase == "punish"
    ]
    return played(log, "give", "talk"), got


def two_dollar(game, seat, log, facts):
    """Its own fallbacks of this round and before; offers and messages."""
    done = sum(sum(facts["turns"][: number + 1]) <= len(log) for number in range(len(facts["turns"])))
    return [fallbacks[seat] for fallbacks in facts["fallbacks"][: done + 1]], played(log)


def deal_or_no_deal(game, seat, log, facts):
    """What there is and its own worth of it, in this round and before; what was said and proposed."""
    me, done = game.seats.index(seat), over(log, "propose")
    return facts["pool"][: done + 1], [worth[me] for worth in facts["values"][: done + 1]], played(log)


def auction(game, seat, log, facts):
    """Its own values of this round and before; who won at what price."""
    me = game.seats.index(seat)
    sold = []
    for step in log:
        bids = {one: action["move"] for one, action in step.actions.items()}
        best = [one for one, bid in bids.items() if bid == max(bids.values())]
        sold.append((best[0] if len(best) == 1 else step.winner, max(bids.values())))
    return [values[me] for values in facts["values"][: len(log) + 1]], sold


def pirates(game, seat, log, facts):
    """The plans made while it was aboard, and how many were for them; not who."""
    told, plans, games = [], 0, 0
    for number, step in enumerate(log):
        if step.phase == "plan":
            aboard, accepted = facts["living"][plans], facts["accepted"][plans]
            plans += 1
            votes = log[number + 1].actions.values() if number + 1 < len(log) else None
            ayes = votes and sum(action["vote"] == "accept" for action in votes)
            if seat in aboard:
                told.append((games, aboard, step.actions, ayes))
            if votes:
                games += accepted or len(aboard) == 2
    return told, games


def openspiel(game, seat, log, facts):
    """Which side it is on, beside what OpenSpiel says that it knows."""
    return facts["players"][seat]


def hanabi(game, seat, log, facts):
    """The same, and all moves: OpenSpiel's observation there is of the moment only."""
    return facts["players"][seat], played(log)


def debate(game, seat, log, facts):
    """The question, unless it is hidden from the judge; what all have said, or only answered; between sides who defends
    what, and the judge's order."""
    heard = played(log)
    if game.options.show == "answer" and not facts["defends"]:
        heard = [{one: action["answer"] for one, action in step.actions.items()} for step in log]
    judge = seat == "judge"
    question = None if judge and game.options.hidden else facts["question"]
    return question, heard, facts["defends"], facts["order"] if judge else ()


def pipeline(game, seat, log, facts):
    """The question and the texts of the roles, unless they are hidden; sub-tasks it was given, answers to its own.

    The answer too: messages must not tell it, but scripted players see it."""
    roles = game.topology.roles
    names = {f"{name}{n}" if role.seats > 1 else name: name for name, role in roles.items() for n in range(1, 21)}
    me = roles[names[seat]]
    sources = {*me.after, *(me.sees or ()), *([me.calls] if me.calls else [])}
    sources |= {loop.end for loop in game.topology.loops if loop.back_to == names[seat]}
    if me.sees is not None:
        sources -= set(me.after) - set(me.sees)
    heard = [[(one, a) for one, a in step.actions.items() if names[one] in sources] for step in log]
    callers = [name for name, role in roles.items() if role.calls == names[seat]]
    number = int(seat[-1]) - 1 if callers else 0
    given = [a["calls"][number : number + 1] for step in log for a in step.actions.values() if "calls" in a]
    asked = (facts["question"] if me.question else "", facts["answer"])
    return asked, heard, given if callers else ()


def mixture(game, seat, log, facts):
    """Which game was drawn, and what one may know there."""
    return game.played, OF[game.drawn.name](game.drawn, game.there(seat), log, facts)


OF = dict.fromkeys(
    ("prisoners_dilemma", "stag_hunt", "chicken", "battle_of_sexes", "matching_pennies", "coordination"), matrix
)
OF |= dict.fromkeys(("fishery", "ultimatum", "trust_game", "battle_royale", "guess_two_thirds", "el_farol"), all_moves)
OF |= dict.fromkeys(("divide_dollar", "public_goods_tokens", "diners_dilemma"), all_moves)
OF |= dict.fromkeys(("public_goods", "sequential_public_goods"), public_goods)
OF |= dict.fromkeys(("tic_tac_toe", "connect_four", "kuhn_poker", "leduc_poker", "liars_dice", "goofspiel"), openspiel)
OF |= dict.fromkeys(("rock_paper_scissors", "openspiel"), openspiel)
OF |= {
    "trust_and_split": trust_and_split,
    "split": split,
    "split_info": split_info,
    "word_spy": word_spy,
    "two_dollar": two_dollar,
    "deal_or_no_deal": deal_or_no_deal,
    "sealed_bid_auction": auction,
    "pirates": pirates,
    "mini_hanabi": hanabi,
    "bandit": nothing_of_others,
    "debate": debate,
    "pipeline": pipeline,
    "mixture": mixture,
}


def learnt(game, seat, log, facts, seen):
    """Everything `seat` may know after the decisions in `log`, as a text that is equal where the knowledge is.

    seen: in OpenSpiel's games, what OpenSpiel says that the seat knows, at each of its decisions up to the one to come.
    """
    return repr((seat, own(seat, log), seen, OF[game.name](game, seat, log, facts)))
