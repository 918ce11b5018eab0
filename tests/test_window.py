"""The bound on staleness, without clock or thread: random orders of starting, ending and taking."""

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from marft.episode import Episode, Turn
from marft.train.window import Group, Window, whole


def group(ticket: int, version: int) -> Group:
    return Group(ticket, [], {"alice": version})


def test_the_oldest_turn_of_a_learner_counts_and_failed_episodes_do_not():
    def episode(*turns, status="done"):
        made = [Turn("s", 0, 0, who, "", agent=who, version=version) for who, version in turns]
        return Episode("id", "g", ("s",), {}, 0, turns=made, status=status)

    found = whole(3, [episode(("a", 5), ("b", 2), (None, -1)), episode(("a", 4)), episode(("a", 0), status="failed")])
    assert found.oldest == {"a": 4, "b": 2}
    assert found.staleness({"a": 5, "b": 5}) == 3
    assert Group(0, [], {}).staleness({"a": 9}) == 0


def test_what_starts_is_what_the_papers_formula_allows():
    # AReaL (2505.24298), eq. 3: ⌊(N − 1) / B⌋ ≤ i + η, N groups started, batch B, version i, staleness η
    for groups, staleness, update in itertools.product((1, 3, 4), (0, 1, 3), (0, 1, 5)):
        window = Window(groups, staleness, 100, itertools.count(), update)
        allowed = max(n for n in range(1, 1000) if (n - 1) // groups <= update + staleness)
        assert len(window.admit()) == allowed - update * groups
        assert window.admit() == []


def test_nothing_is_started_for_updates_that_will_not_be():
    window = Window(4, 3, 5, itertools.count(), 3)
    assert len(window.admit()) == 8
    assert window.exhausted


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 3), st.integers(1, 6))
def test_every_group_is_taken_or_dropped_once_and_none_is_too_old(seed, groups, staleness, updates):
    rng, window = random.Random(seed), Window(groups, staleness, updates, itertools.count())
    started, taken, gone, born = [], [], set(), {}
    for update in range(updates):
        window.update, batch = update, []
        while len(batch) < groups:
            stale = {one.ticket for one in window.ready if update - born[one.ticket] > staleness}
            before = {one.ticket for one in window.ready}
            window.drop_stale({"alice": update})
            assert before - {one.ticket for one in window.ready} == stale
            gone |= stale
            new = window.admit()
            born |= dict.fromkeys(new, update)
            started += new
            assert len(started) - len(gone) <= (update + staleness + 1) * groups
            playing = sorted(window.playing)
            for ticket in rng.sample(playing, rng.randint(0, len(playing))):  # each turn's as old as the group's start
                window.finish(group(ticket, born[ticket]))
            if len([one for one in window.ready if update - born[one.ticket] <= staleness]) >= groups:
                gone |= {one.ticket for one in window.ready if update - born[one.ticket] > staleness}
                window.drop_stale({"alice": update})
                batch = window.take(groups)
        assert len(batch) == groups
        assert all(update - born[one.ticket] <= staleness for one in batch)
        taken += [one.ticket for one in batch]
    assert started == list(range(len(started)))
    assert len(set(taken)) == groups * updates
    assert not gone & set(taken)
    assert window.dropped == len(gone)
    assert sorted([*taken, *gone, *window.open]) == started
