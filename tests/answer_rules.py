"""What each game's rules make of a text, written down a second time, without any of the code that the games read with.

Slow, a character at a time. `meant(game, seat, text)` is the action that the text stands for, or UNREAD. It must be
called before the answer is given. What it returns is compared with what `act` says of the seat; of an action that says
more than what was read (whether a shot hit), only the keys returned here.
"""

from test_spiel_games import in_our_words

UNREAD = object()
DIGITS = "0123456789"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def places(text, mark):
    """Where a mark begins, every time it does."""
    found, at = [], text.find(mark)
    while at >= 0:
        found.append(at)
        at = text.find(mark, at + 1)
    return found


def trimmed(text):
    start, stop = 0, len(text)
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    return text[start:stop]


def marked(text, opening="<answer>", closing="</answer>", limit=400):
    """(what is before, what is between) the last closing mark and the opening mark nearest before it; (text, None)
    where there is no such pair. Too long between them, and it is None too: more than `limit` characters once outer
    space is gone, or more than 4000 above that with it."""
    ends = places(text, closing)
    starts = [at for at in places(text, opening) if ends and at + len(opening) <= ends[-1]]
    if not starts:
        return text, None
    inner = text[starts[-1] + len(opening) : ends[-1]]
    short = limit is None or len(inner) <= limit + 4000
    inner = trimmed(inner) if short else ""
    return text[: starts[-1]], inner if short and (limit is None or len(inner) <= limit) else None


def integer(text, least, most):
    """A sign or none, then 1 to 12 of the ten digits and nothing else, within the bounds."""
    if text is None or len(text) > 13:
        return UNREAD
    sign, digits = (text[0], text[1:]) if text[:1] in ("+", "-") else ("+", text)
    if not 1 <= len(digits) <= 12 or any(c not in DIGITS for c in digits):
        return UNREAD
    value = 0
    for c in digits:
        value = 10 * value + DIGITS.index(c)
    value = -value if sign == "-" else value
    return value if least <= value <= most else UNREAD


def fraction(text, least, most):
    """As `integer`, and then perhaps a point and 1 to 12 digits."""
    if text is None or len(text) > 26:
        return UNREAD
    head, point, tail = text.partition(".")
    unsigned = head[1:] if head[:1] in ("+", "-") else head
    for digits in (unsigned, tail) if point else (unsigned,):
        if not 1 <= len(digits) <= 12 or any(c not in DIGITS for c in digits):
            return UNREAD
    value = sum(DIGITS.index(c) * 10**place for place, c in enumerate(reversed(unsigned)))
    value = value + int(tail) / 10 ** len(tail) if point else value
    value = -value if head[:1] == "-" else value
    return value if least <= value <= most else UNREAD


def proposal(text, items, most):
    """After the last "Proposal:", number and item by item, in order; at most three spaces where spaces may be."""
    starts = places(text, "Proposal:")
    if not starts:
        return UNREAD
    rest, at, numbers = text[starts[-1] + len("Proposal:") :][:400], 0, []

    def spaces(at):
        stop = at
        while stop < len(rest) and rest[stop] == " " and stop - at < 3:
            stop += 1
        return stop

    for place, item in enumerate(items):
        if place:
            at += rest[at : at + 1] == ","
        at = spaces(at)
        digits = ""
        while at < len(rest) and rest[at] in DIGITS and len(digits) < 4:
            digits, at = digits + rest[at], at + 1
        at = spaces(at)
        if not digits or not rest.startswith(item, at):
            return UNREAD
        at += len(item)
        at += rest[at : at + 1] == "s"
        numbers.append(int(digits))
    after = rest[at : at + 1]
    if after and (after in DIGITS or after.lower() in LETTERS):
        return UNREAD
    return numbers if all(n <= top for n, top in zip(numbers, most, strict=True)) else UNREAD


def quoted(text, limit):
    """A message as others are shown it."""
    shown = ""
    for c in trimmed(text)[:limit]:
        shown += "'" if c == '"' else c if c.isprintable() else " "
    return shown


def choice(text, words):
    inner = marked(text)[1]
    return inner if inner in words else UNREAD


def under(key, value):
    return UNREAD if value is UNREAD else {key: value}


def of_matrix(game, seat, text):
    if game.view(seat).phase == "talk":
        return {"say": quoted(text, game.options.message_limit)}
    if len(trimmed(text)) > 4000:
        return UNREAD
    named = [label for label, name in game.facts()["names"].items() if places(text, name)]
    return named[0] if len(named) == 1 else UNREAD


def of_bandit(game, seat, text):
    named = [number for number, arm in enumerate(game.options.arms) if places(text, arm)]
    return named[0] if len(named) == 1 and len(text) <= 4000 else UNREAD


def of_trust_and_split(game, seat, text):
    if game.phase == "talk":
        inner = marked(text, "<<message_start>>", "<<message_end>>", None)[1]
        return UNREAD if inner is None else {"say": quoted(inner, game.options.message_limit)}
    inner = marked(text, "<<proposal_start>>", "<<proposal_end>>")[1]
    return under("claim", fraction(inner, 0, game.options.coins))


def of_split(game, seat, text):
    return under("claim", proposal(text, ("hat", "book", "ball"), [game.options.quantity] * 3))


def of_deal(game, seat, text):
    if game.phase == "talk":
        return {"say": quoted(text, game.options.message_limit)}
    return under("propose", proposal(text, ("book", "hat", "ball"), game.known(seat)["pool"]))


def of_public_goods(game, seat, text):
    o = game.options
    if game.phase == "talk":
        return {"say": quoted(text, o.message_limit)}
    inner = marked(text)[1]
    if game.phase == "give":
        return under("give", integer(inner, 0, o.endowment))
    if inner is None:
        return UNREAD
    points = {}
    for part in [] if inner == "none" else inner.split(","):
        seat_named, _, number = trimmed(part).partition(" ")
        value = integer(trimmed(number), 0, o.punishment_budget)
        if value is UNREAD or seat_named not in game.seats or seat_named == seat or seat_named in points:
            return UNREAD
        points[seat_named] = value
    return {"punish": points} if sum(points.values()) <= o.punishment_budget else UNREAD


def of_fishery(game, seat, text):
    if game.phase == "talk":
        return {"say": quoted(text, game.options.message_limit)}
    return under("harvest", integer(marked(text)[1], 0, int(game.stock)))


def of_ultimatum(game, seat, text):
    if game.phase == "offer":
        return under("offer", integer(marked(text)[1], 0, game.options.endowment))
    word = choice(text, ("accept", "reject"))
    return under("accept", UNREAD if word is UNREAD else word == "accept")


def of_trust_game(game, seat, text):
    o = game.options
    if game.phase == "send":
        return under("send", integer(marked(text)[1], 0, o.endowment))
    return under("return", integer(marked(text)[1], 0, o.multiplier * game.sent))


def of_two_dollar(game, seat, text):
    before, inner = marked(text)
    message = quoted(before, game.options.message_limit)
    (other,) = (one for one in game.seats if one != seat)
    if inner in ("pass", "end") or (inner == "accept" and other in game.offers):
        return {"move": inner, "message": message}
    if inner is None or not inner.startswith("propose "):
        return UNREAD
    value = integer(trimmed(inner[len("propose ") :]), 0, game.options.stake)
    return UNREAD if value is UNREAD else {"propose": value, "message": message}


def of_gama(game, seat, text):
    menu = {
        "guess_two_thirds": lambda o: o.most,
        "el_farol": lambda o: ("go", "stay"),
        "divide_dollar": lambda o: o.gold,
        "public_goods_tokens": lambda o: o.tokens,
        "diners_dilemma": lambda o: ("cheap", "costly"),
        "sealed_bid_auction": lambda o: o.most,
    }[game.name](game.options)
    return under("move", integer(marked(text)[1], 0, menu) if isinstance(menu, int) else choice(text, menu))


def of_battle(game, seat, text):
    return under("shoot", choice(text, ["miss", *(other for other in game.living if other != seat)]))


def of_pirates(game, seat, text):
    if game.phase == "vote":
        return under("vote", choice(text, ("accept", "reject")))
    inner, numbers, word = marked(text)[1] or "", [], ""
    for c in inner + " ":
        if c == "," or c.isspace():
            numbers += [integer(word, 0, game.options.gold)] if word else []
            word = ""
        else:
            word += c
    if UNREAD in numbers or len(numbers) != len(game.living) or sum(numbers) != game.options.gold:
        return UNREAD
    return {"plan": numbers}


def of_spiel(game, seat, text):
    """Between the last opening mark that is closed before another opens, and the first closing mark after it. A word of
    at most 200 characters (400 in the general game), whatever its case and spaces."""
    starts = places(text, "<answer>")
    inner = None
    for place, start in enumerate(starts):
        part = text[start + len("<answer>") : [*starts, len(text)][place + 1]]
        inner = part[: part.index("</answer>")] if "</answer>" in part else inner
    state, player = game.state, game.facts()["players"][seat]
    generic = game.name == "openspiel"
    names = [state.action_to_string(player, action) for action in state.legal_actions(player)]
    if not generic:
        names = [in_our_words(game.name, name) for name in names]
    if inner in names:
        return inner
    if inner is None or len(inner) > (400 if generic else 200):
        return UNREAD
    said = " ".join(inner.split())
    plain = {name: " ".join(name.split()) for name in names}
    same = [name for name, one in plain.items() if one == said]
    same = same or [name for name, one in plain.items() if one.lower() == said.lower()]
    return same[0] if len(same) == 1 else UNREAD


def final(text):
    """The last marked answer: between the last opening mark with a closing one after it and the first such closing one,
    or in the last box up to where its braces are even, 2000 characters on at most; of both the one that ends later."""
    found, ends = [], places(text, "</answer>")
    starts = [at + len("<answer>") for at in places(text, "<answer>") if ends and at + len("<answer>") <= ends[-1]]
    if starts:
        stop = min(at for at in ends if at >= starts[-1])
        found.append((stop, trimmed(text[starts[-1] : stop])))
    boxes = places(text, "\\boxed{")
    if boxes:
        begin, depth = boxes[-1] + len("\\boxed{"), 1
        for at, c in enumerate(text[begin : begin + 2001], begin):
            depth += (c == "{") - (c == "}")
            if depth == 0:
                found.append((at, trimmed(text[begin:at])))
                break
    said = max(found)[1] if found else ""
    return said if 1 <= len(said) <= 2000 else UNREAD


def answered(text):
    """The same, as others are shown it."""
    said = final(text)
    return UNREAD if said is UNREAD else trimmed(kept(said, len(said))) or UNREAD


def kept(text, limit):
    """A text as others are shown it, with its lines."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in trimmed(text)[:limit])


def looked_up(text, source):
    """Quotes marked by whether they stand in the source; marks of verification are quotes too. Only the opening mark
    nearest before a closing one counts."""
    for mark in ("verified", "unverified"):
        text = text.replace(f"<{mark}>", "<quote>").replace(f"</{mark}>", "</quote>")
    shown = ""
    while "</quote>" in text:
        head, text = text.split("</quote>", 1)
        if "<quote>" not in head:
            shown += head + "</quote>"
            continue
        before, inner = head.rsplit("<quote>", 1)
        words = " ".join(inner.split())
        mark = "verified" if words and words in " ".join(source.split()) else "unverified"
        shown += f"{before}<{mark}>{inner}</{mark}>"
    return shown + text


def of_debate(game, seat, text):
    said = {"say": quoted(text, game.options.message_limit)}
    if game.options.quotes and game.phase == "argue":
        said = {"say": looked_up(said["say"], quoted(game.facts()["question"], 10**6))}
    if game.phase == "argue" and game.options.assign:
        return said
    answer = answered(text)
    return UNREAD if answer is UNREAD else {**said, "answer": answer}


def of_pipeline(game, seat, text):
    """Sub-tasks, where they may be handed out, go before an answer; without an answer to give any text is read."""
    limit, most = game.options.message_limit, game.view(seat).now["calls"]
    said, calls, rest = {"say": kept(text, limit)}, [], text
    while len(calls) < most and "<call>" in rest and "</call>" in rest.split("<call>", 1)[1]:
        inner, rest = rest.split("<call>", 1)[1].split("</call>", 1)
        calls += [kept(inner, limit)] if trimmed(kept(inner, limit)) else []
    if calls:
        return {**said, "calls": calls}
    if seat not in game.facts()["asked"]:
        return said
    answer = answered(text)
    return UNREAD if answer is UNREAD else {**said, "answer": answer}


def of_split_info(game, seat, text):
    if game.phase == "talk":
        return {"say": quoted(text, game.options.message_limit)}
    said = final(text)
    if game.phase == "answer" or said is UNREAD:
        return under("answer", said)
    words = [word for word in said.lower().split() if word]
    bare = " ".join(words)
    while bare[:1] and bare[0] in "$\"'":
        bare = bare[1:]
    while bare[-1:] and bare[-1] in "$\"'":
        bare = bare[:-1]
    bare = trimmed(bare[:-1] if bare[-1:] == "." else bare)
    return under("move", bare if bare in ("up", "down", "left", "right") else UNREAD)


def of_word_spy(game, seat, text):
    if game.phase == "vote":
        return under("vote", choice(text, [other for other in game.seats if other != seat]))
    clue = quoted(text, game.options.message_limit)
    word = game.known(seat)["word"]
    spoilt = not trimmed(clue) or "".join(word.lower().split()) in "".join(clue.lower().split())
    return UNREAD if spoilt else {"say": clue}


def of_pettingzoo(game, seat, text):
    choices = game.view(seat).choices
    if choices is not None:
        value = integer(marked(text)[1], min(choices), max(choices))
        return value if value in choices else UNREAD
    return text if 1 <= len(text) <= 5 and all(c in "abc" for c in text) else UNREAD  # zoo.Echo's words


def of_mixture(game, seat, text):
    return RULES[game.drawn.name](game.drawn, game.there(seat), text)


RULES = dict.fromkeys(
    ("prisoners_dilemma", "stag_hunt", "chicken", "battle_of_sexes", "matching_pennies", "coordination"), of_matrix
)
RULES |= dict.fromkeys(
    ("guess_two_thirds", "el_farol", "divide_dollar", "public_goods_tokens", "diners_dilemma", "sealed_bid_auction"),
    of_gama,
)
RULES |= dict.fromkeys(
    ("tic_tac_toe", "connect_four", "kuhn_poker", "leduc_poker", "liars_dice", "mini_hanabi", "goofspiel"), of_spiel
)
RULES |= dict.fromkeys(("rock_paper_scissors", "openspiel"), of_spiel)
RULES |= {
    "trust_and_split": of_trust_and_split,
    "split": of_split,
    "deal_or_no_deal": of_deal,
    "public_goods": of_public_goods,
    "sequential_public_goods": of_public_goods,
    "fishery": of_fishery,
    "ultimatum": of_ultimatum,
    "trust_game": of_trust_game,
    "two_dollar": of_two_dollar,
    "battle_royale": of_battle,
    "pirates": of_pirates,
    "split_info": of_split_info,
    "word_spy": of_word_spy,
    "bandit": of_bandit,
    "pettingzoo": of_pettingzoo,
    "debate": of_debate,
    "pipeline": of_pipeline,
    "mixture": of_mixture,
}


def meant(game, seat, text):
    """The action that a text of `seat` stands for in this place of the play, or UNREAD."""
    return RULES[game.name](game, seat, text)


def agrees(action, wanted):
    """Whether the game's action is the one wanted."""
    if isinstance(wanted, dict):
        return isinstance(action, dict) and all(action.get(key) == value for key, value in wanted.items())
    return action == wanted and type(action) is type(wanted)
