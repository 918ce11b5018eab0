"""Small dialogues for the tests of rewards: who said what, and what the task held."""

from marft.episode import Episode, Turn


def dialogue(*said, answer="12", facts=None, columns=None, number=0, group=0, seats=None, marks=None):
    """An episode whose turns are (seat, text), one a step; `facts` and `columns` beside the true answer."""
    turns = [
        Turn(seat, step, 0, f"policy-{seat}", text, agent=seat, marks=dict((marks or {}).get(seat, {})))
        for step, (seat, text) in enumerate(said)
    ]
    seats = seats or tuple(dict.fromkeys(seat for seat, _ in said))
    known = {"question": "6 + 6?", "answer": answer, "task": "sums", "columns": columns or {}, "roles": {}}
    return Episode(
        f"e{number}",
        "talk",
        seats,
        {seat: seat for seat in seats},
        0,
        group=group,
        index=number,
        turns=turns,
        rewards=[{} for _ in turns],
        facts=known | (facts or {}),
    )


def paid(function, *episodes, services=()):
    """What a reward pays: a mapping, or for several episodes a list of them."""
    from marft.rewards import takes_all

    found = function(list(episodes), *services) if takes_all(function) else [function(one) for one in episodes]
    return found[0] if len(episodes) == 1 else found
