"""Arbitrary texts to every game: no exception, no slow reading, and each read exactly as `answer_rules` says.

`test_fuzz_answers.py` gives each game some hundred; `python tests/fuzz_answers.py [TEXTS [SEED]]` gives them a million,
evenly over GAMES, and prints a table. Games are played on with whatever the texts bring, from episode to episode, so
that every phase of every game is reached.
"""

import random
import re
import sys
import time
from dataclasses import dataclass

from answer_rules import RULES, UNREAD, agrees, meant

from marft.compliance import NASTY
from marft.games import make_game

LIMIT = 0.05
"""Seconds of processor time that the answers to one decision, all seats together, may take."""
MEGABYTE = 1_000_000
HUGE = 1 / 1500
"""The share of texts that are a megabyte long, beside a game's first one."""

TALK = {"talk": True, "message_limit": 40}
GAMES = [
    ("prisoners_dilemma", {}),
    ("prisoners_dilemma", {"cheap_talk": True, "shuffle_names": True, "invalid": "forfeit"}),
    ("stag_hunt", {"action_names": ["cooperate", "defect"]}),
    ("chicken", {"continue_probability": 0.5}),
    ("battle_of_sexes", {}),
    ("matching_pennies", {}),
    ("coordination", {}),
    ("trust_and_split", {}),
    ("split", {}),
    ("split_info", {}),
    ("split_info", {"kind": "maze", "side": 3, "path": [1, 2]}),
    ("word_spy", {}),
    ("public_goods", {"punishment": True, "rounds": 3, **TALK}),
    ("sequential_public_goods", {"seats": 2, "punishment": True, "rounds": 3}),
    ("fishery", {}),
    ("ultimatum", {}),
    ("trust_game", {}),
    ("two_dollar", {}),
    ("deal_or_no_deal", {"turns": 1, "rounds": 5, "leftovers": True}),
    ("guess_two_thirds", {"seats": 3}),
    ("el_farol", {"seats": 3}),
    ("divide_dollar", {"seats": 3}),
    ("public_goods_tokens", {"seats": 3}),
    ("diners_dilemma", {"seats": 3}),
    ("sealed_bid_auction", {"seats": 3}),
    ("battle_royale", {"seats": 4}),
    ("pirates", {"seats": 3}),
    ("tic_tac_toe", {}),
    ("connect_four", {}),
    ("kuhn_poker", {}),
    ("leduc_poker", {"invalid": "forfeit"}),
    ("liars_dice", {"dice": 2}),
    ("mini_hanabi", {}),
    ("goofspiel", {}),
    ("rock_paper_scissors", {}),
    ("openspiel", {"game": "breakthrough"}),
    ("openspiel", {"game": "phantom_ttt"}),
    ("openspiel", {"game": "social_deduction(players=3)"}),
    ("pettingzoo", {"env": "zoo:Nim", "render": "zoo:nim_text"}),
    ("pettingzoo", {"env": "zoo:Echo"}),
    ("bandit", {}),
    ("debate", {"message_limit": 40}),
    ("debate", {"form": "sides", "rounds": 1}),
    ("debate", {"form": "sides", "rounds": 1, "hidden": True, "quotes": True, "message_limit": 60}),
    ("pipeline", {"topology": "generator_verifier_refiner"}),
    ("pipeline", {"topology": "coordinator_workers", "message_limit": 40}),
    ("mixture", {"games": ["trust_and_split", "kuhn_poker", {"name": "public_goods", "options": {"seats": 2}}]}),
]
"""Every game of `marft.games.GAMES` in the settings that bring all its phases; TextArena reads its answers itself."""

MARKS = ["<answer>", "</answer>", "<<message_start>>", "<<message_end>>", "<<proposal_start>>", "<<proposal_end>>"]
MARKS += ["Proposal:", "<think>", "</think>", "<A>", "<B>", "[1]"]
HALVES = ["<answer", "answer>", "</answer", "<<proposal_start>", "<message_end>>", "<", ">", "</", "Proposal"]
NUMBERS = [
    "0",
    "1",
    "5",
    "10",
    "100",
    "200",
    "-0",
    "+3",
    "-1",
    "007",
    "1e309",
    "1e1",
    "nan",
    "inf",
    "-inf",
    "2.5",
    "5.",
]
NUMBERS += [".5", "1_0", "3_", "1,5", "0x10", "١٢", "²", "５", "Ⅻ", "九", "0.1e1"]
NUMBERS += ["+ 3", "9" * 12, "9" * 13, "9" * 400, "1" + "0" * 30]
DIGITS = ["٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９", "⁰¹²³⁴⁵⁶⁷⁸⁹", "०१२३४५६७८९"]
WORDS = ["accept", "reject", "pass", "end", "miss", "none", "go", "stay", "cheap", "bet", "call", "rock", "hint red"]
WORDS += ["p1", "p2 3", "p2 3, p3 4", "propose 120", "propose", " 3 hats, 0 books, 10 balls", " 1 book, 2 hats"]
WORDS += ["100 0 0", "50, 50", "a1b1", "ab", "c", "liar", "1-2", "play 1"]
OTHERS = ['alice says: "<answer>5</answer>"', "bob: <<proposal_start>>10<<proposal_end>>", "p2 <answer>3</answer>"]
OTHERS += ['The other says: "<A>"', "\nUser: <answer>1</answer>\nAssistant:", "You are p1. <answer>miss</answer>"]
SPACES = [" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u2003", "\u200b", "\u3000", "\x00", "\x1b[2J", "\x1c", "\u202e"]
PIECES = MARKS * 3 + HALVES + NUMBERS * 2 + WORDS + OTHERS + SPACES + [*NASTY[:15], "\ud800", "e\u0301", "👩‍👩‍👧"]
PLANES = [(0, 0x20), (0x20, 0x7F), (0x20, 0x7F), (0x80, 0x2FF), (0x600, 0x6FF), (0x2000, 0x206F), (0xD800, 0xDFFF)]
PLANES += [(0x1F300, 0x1FAFF), (0, 0x10FFFF)]
ROOM = 60
"""Readable answers in a place of a game that are kept to be spoilt: the newest."""
POINTS = ["p1 1", "p2 3", "p1 0, p2 10", "p2 3, p3 4", "p4 2, p1 1,p3 7", "p3  +1 , p1 2", "p2 1, p2 1", "none"]
"""What no random player says: who is punished how much."""


def unicode_text(rng):
    least, most = rng.choice(PLANES)
    return "".join(chr(rng.randint(least, most)) for _ in range(rng.randrange(60)))


def pieces(rng):
    return "".join(rng.choices(PIECES, k=rng.randrange(9)))


def spoilt(rng, answer):
    """A readable answer with a few places changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(answer) + 1)
        to = min(len(answer), at + rng.choice((0, 1, 1, 3, 10)))
        answer = answer[:at] + rng.choice((rng.choice(PIECES), rng.choice("0123456789 ,.-+"), "")) + answer[to:]
    return answer


def otherwise_marked(rng, answer):
    """What a readable answer says, between other marks, half of them, or none."""
    for mark in MARKS[:6]:
        answer = answer.replace(mark, "")
    edges = [*MARKS[:6], *HALVES, "<Answer>", "</ANSWER>", "", "", "", " ", "\n", "I say "]
    return f"{rng.choice(edges)}{answer}{rng.choice(edges)}"


def rewritten(rng, answer):
    """A readable answer with other numbers, digits or letters in it, or with something else between its marks."""
    kind = rng.randrange(5)
    if kind == 0:
        return re.sub(r"[0-9]+", lambda found: rng.choice(NUMBERS), answer)
    if kind == 1:
        return answer.translate({ord(digit): rng.choice(DIGITS)[int(digit)] for digit in "0123456789"})
    if kind == 2:
        change = rng.choice((str.upper, str.title, str.swapcase))
    elif kind == 3:
        change = lambda inner: rng.choice(NUMBERS + WORDS)  # noqa: E731
    else:
        change = lambda inner: f"{inner}, {inner}"  # noqa: E731
    return re.sub(r">([^<>]*)<", lambda found: f">{change(found[1])}<", answer)


def surrounded(rng, answer):
    """A readable answer with something around it, mostly still readable."""
    kind = rng.randrange(5)
    if kind == 0:
        return f"{pieces(rng)}{answer}"
    if kind == 1:
        return f"{answer}{pieces(rng)}"
    if kind == 2:
        return f"{unicode_text(rng)}{answer}{unicode_text(rng)}"
    if kind == 3:
        gap = rng.choice(SPACES) * rng.choice((1, 1, 3, 190, 390, 3990, 4500))
        return (
            answer.replace(">", f">{gap}", 1) if rng.random() < 0.5 else answer.replace("</", f"{gap}{pieces(rng)}</")
        )
    return answer.swapcase() if rng.random() < 0.5 else f"{answer}{rng.choice(OTHERS)}{answer}"


def megabyte(rng, answer):
    """One piece over and over, a readable answer before, after or in the midst of it, or none."""
    unit = rng.choice(
        (rng.choice(PIECES) or "x", answer or "x", rng.choice(" 19<>a\n\u2003"), unicode_text(rng) or "x")
    )
    filling = (unit * (MEGABYTE // len(unit) + 1))[:MEGABYTE]
    at = rng.choice((0, MEGABYTE, rng.randrange(MEGABYTE)))
    return filling[:at] + rng.choice((answer, "", "<answer>", "</answer>")) + filling[at:]


def arbitrary(rng, readable):
    """A text; `readable` holds answers that the game could read, the newest last."""
    kind, answer = rng.random(), rng.choice((rng.choice(readable), readable[-1]))
    if kind < 0.25:
        return answer
    if kind < 0.40:
        return surrounded(rng, answer)
    if kind < 0.48:
        return otherwise_marked(rng, answer)
    if kind < 0.60:
        return rewritten(rng, answer)
    if kind < 0.75:
        return spoilt(rng, answer)
    if kind < 0.85:
        return pieces(rng)
    return unicode_text(rng) if kind < 0.97 else rng.choice(NASTY[:19])


@dataclass
class Found:
    """texts given and how many of them were readable; decisions taken; the slowest decision in seconds; megabytes."""

    texts: int = 0
    readable: int = 0
    decisions: int = 0
    slowest: float = 0.0
    huge: int = 0


def fuzz(name, options, texts, seed=0):
    """Give a game so many texts. AssertionError for the first that is read otherwise than the rules say, or slowly."""
    rng, found, game, episode = random.Random(f"{seed}/{name}/{options}"), Found(), None, 0
    rooms = {}  # phase -> answers that it could read
    while found.texts < texts:
        if game is None or not game.acting():
            game = game or make_game(name, options)
            game.reset(episode)
            episode += 1
            if not game.acting():
                continue
        seats = game.acting()
        readable = rooms.setdefault((getattr(game, "phase", None), len(getattr(game, "living", ()))), [])
        if getattr(game, "phase", None) == "punish":
            readable.append(f"<answer>{rng.choice(POINTS)}</answer>")
        for seat in seats:
            if len(readable) < ROOM or rng.random() < 0.3:
                readable.append(game.players["random"](game.view(seat), rng))
        del readable[:-ROOM]
        if rng.random() < 0.05:
            readable = rng.choice(list(rooms.values()))
        said = {seat: arbitrary(rng, readable) for seat in seats}
        if not found.decisions or rng.random() < HUGE * len(seats):
            said[rng.choice(seats)] = megabyte(rng, rng.choice(readable))
            found.huge += 1
        for seat in seats:  # the rest of the contract: it is asked before it answers
            game.observe(seat)
        wanted = {seat: meant(game, seat, text) for seat, text in said.items()}
        start = time.process_time()
        result = game.act(said)
        took = time.process_time() - start
        assert took < LIMIT, f"{name}: {took:.3f} s for {_shown(said)}"
        for seat, want in wanted.items():
            read = seat not in result.invalid
            right = read == (want is not UNREAD) and (not read or agrees(result.actions[seat], want))
            wish = "nothing" if want is UNREAD else repr(want)
            assert right, (
                f"{name} {options}, {seat}: {_shown(said)[seat]} was read as "
                f"{repr(result.actions[seat]) if read else 'nothing':.200}, wanted {wish:.200}"
            )
            found.readable += read
        found.texts += len(seats)
        found.decisions += 1
        found.slowest = max(found.slowest, took)
    return found


def _shown(said):
    return {
        seat: repr(text) if len(text) <= 400 else f"{text[:200]!r} ... {text[-200:]!r} ({len(text)} characters)"
        for seat, text in said.items()
    }


def main(texts=1_000_000, seed=0):
    began, each = time.perf_counter(), -(-texts // len(GAMES))
    total = Found()
    print(f"{'game':24}{'texts':>9}{'1 MB':>6}{'readable':>10}{'slowest decision':>18}")
    for name, options in GAMES:
        found = fuzz(name, options, each, seed)
        share = found.readable / found.texts
        print(f"{name:24}{found.texts:9}{found.huge:6}{share:10.1%}{1000 * found.slowest:15.2f} ms", flush=True)
        total = Found(
            *(getattr(total, key) + getattr(found, key) for key in ("texts", "readable", "decisions")),
            max(total.slowest, found.slowest),
            total.huge + found.huge,
        )
    print(
        f"{total.texts} texts in {time.perf_counter() - began:.0f} s, {total.huge} of them a megabyte long; "
        f"{total.readable / total.texts:.1%} readable; slowest decision {1000 * total.slowest:.1f} ms of processor time"
    )


assert set(RULES) == {name for name, _ in GAMES}

if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
