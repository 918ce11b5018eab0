"""Balancing against a slow version that looks at every replica, at random and by hand."""

import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marft.engines.balance import Balancer
from marft.errors import EngineError

NAMES = [f"r{number}" for number in range(5)]
SESSIONS = ["", *(f"s{number}" for number in range(6))]
KINDS = ["ask"] * 10 + ["end"] * 8 + ["forget"] * 3 + ["sick", "well", "well", "remove", "add", "add", "clear"]
CALL = st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES), st.sampled_from(SESSIONS))


class Slow:
    """What a balancer promises, written as a scan. `flying` are requests not yet over, of removed replicas too."""

    def __init__(self, strategy, move_above):
        self.strategy, self.move_above = strategy, move_above
        self.there, self.flying, self.home = [], Counter(), {}  # there: [name, healthy], in the order of adding

    def healthy(self):
        return [name for name, healthy in self.there if healthy]

    def least(self):
        count = Counter(self.home.values())
        ranks = [(self.flying[name], count[name], place, name) for place, name in enumerate(self.healthy())]
        return min(ranks)[3] if ranks else None

    def pick(self, session):
        if self.strategy == "least_loaded" or session == "":
            return self.least()
        own, least = self.home.get(session), self.least()
        if own in self.healthy() and (
            self.move_above is None or self.flying[own] - self.flying[least] <= self.move_above
        ):
            return own
        if least is not None:
            self.home[session] = least
        return least


@settings(max_examples=400)
@given(
    st.sampled_from([("least_loaded", None), ("affinity", None), ("affinity", 0), ("affinity", 2)]),
    st.integers(0, 5),
    st.lists(CALL, min_size=20, max_size=120),
)
def test_it_picks_as_a_scan_of_all_replicas_would(kind, replicas, calls):
    strategy, move_above = kind
    fast, slow = Balancer(strategy, move_above=move_above), Slow(strategy, move_above)
    for call, name, session in [("add", one, "") for one in NAMES[:replicas]] + calls:
        known = name in [one for one, _ in slow.there]
        if call == "add" and not known:
            fast.add(name)
            slow.there.append((name, True))
        elif call == "remove" and known:
            fast.remove(name)
            slow.there = [one for one in slow.there if one[0] != name]
            slow.home = {session: place for session, place in slow.home.items() if place != name}
        elif call in ("sick", "well") and known:
            fast.set_health(name, call == "well")
            slow.there = [(one, call == "well") if one == name else (one, health) for one, health in slow.there]
        elif call == "end" and slow.flying[name]:
            fast.end(name)
            slow.flying[name] -= 1
        elif call == "ask":
            found = fast.pick(session)
            assert found == slow.pick(session)
            if found is not None:
                fast.begin(found)
                slow.flying[found] += 1
        elif call == "forget":
            fast.forget(session)
            slow.home.pop(session, None)
        elif call == "clear":
            fast.clear()
            slow.home.clear()
        names = [one for one, _ in slow.there]
        assert fast.loads == {one: slow.flying[one] for one in names}
        if strategy == "affinity":
            count = Counter(slow.home.values())
            assert fast.sessions == {one: count[one] for one in names}


@given(st.lists(st.booleans(), min_size=1, max_size=6), st.integers(0, 2**32))
def test_random_picks_are_healthy_and_all_of_them_come(health, seed):
    balancer = Balancer("random", seed=seed)
    for number, healthy in enumerate(health):
        balancer.add(f"r{number}")
        balancer.set_health(f"r{number}", healthy)
    found = Counter(balancer.pick("s") for _ in range(200))
    expected = {f"r{number}" for number, healthy in enumerate(health) if healthy} or {None}
    assert set(found) == expected


def test_random_picks_are_even():
    balancer = Balancer("random", seed=1)
    for number in range(4):
        balancer.add(f"r{number}")
    found = Counter(balancer.pick(f"s{number}") for number in range(8000))
    assert all(abs(count - 2000) < 4 * (8000 * 3 / 16) ** 0.5 for count in found.values())


def test_an_episode_stays_moves_when_its_replica_falls_ill_and_does_not_come_back():
    balancer = Balancer("affinity", move_above=None)
    for name in ("a", "b"):
        balancer.add(name)
    assert [balancer.pick(session) for session in ("1", "2", "3", "1", "2", "3")] == ["a", "b", "a", "a", "b", "a"]
    for _ in range(5):
        balancer.begin("a")
    assert balancer.pick("1") == "a"  # however busy it is
    assert balancer.pick("4") == "b"
    balancer.set_health("a", False)
    assert (balancer.pick("1"), balancer.pick("3")) == ("b", "b")
    balancer.set_health("a", True)
    assert balancer.pick("1") == "b"
    assert balancer.sessions == {"a": 0, "b": 4}
    balancer.set_health("a", False)
    balancer.set_health("b", False)
    assert balancer.pick("1") is None
    assert balancer.pick("new") is None


def test_an_episode_moves_when_its_replica_is_far_busier():
    balancer = Balancer("affinity")
    for name in ("a", "b"):
        balancer.add(name)
    assert balancer.pick("1") == "a"
    for _ in range(8):
        balancer.begin("a")
    assert balancer.pick("1") == "a"
    balancer.begin("a")
    assert [balancer.pick("1"), balancer.pick("1")] == ["b", "b"]
    assert balancer.sessions == {"a": 0, "b": 1}


def test_what_is_left_of_a_removed_replica_counts_when_it_comes_back():
    balancer = Balancer("least_loaded")
    for name in ("a", "b"):
        balancer.add(name)
    for _ in range(3):
        balancer.begin("a")
    balancer.remove("a")
    balancer.end("a")
    balancer.add("a")
    assert balancer.loads == {"b": 0, "a": 2}
    balancer.end("a")
    balancer.end("a")
    with pytest.raises(EngineError, match="a ended that had not begun"):
        balancer.end("a")


def test_wrong_names_are_told():
    balancer = Balancer()
    balancer.add("http://one")
    with pytest.raises(EngineError, match="is there already"):
        balancer.add("http://one")
    for call in (balancer.begin, balancer.remove, lambda name: balancer.set_health(name, True)):
        with pytest.raises(EngineError, match="no replica 'http://onn'; did you mean 'http://one'"):
            call("http://onn")


@pytest.mark.parametrize("strategy", ["least_loaded", "affinity"])
def test_a_request_costs_about_the_same_at_4_and_512_replicas(strategy):
    """10,000 episodes; a scan of 512 would take a hundred times as long as one of 4. Its heap stays small."""
    seconds = {}
    for replicas in (4, 512):
        balancer, rng = Balancer(strategy), random.Random(0)
        for number in range(replicas):
            balancer.add(f"r{number}")
        flying = []
        began = time.process_time()
        for _ in range(20_000):
            session = f"s{rng.randrange(10_000)}"
            name = balancer.pick(session)
            balancer.begin(name)
            flying.append(name)
            if len(flying) > 5000:
                balancer.end(flying.pop(rng.randrange(5000)))
        seconds[replicas] = time.process_time() - began
        assert len(balancer._heap) <= 4 * replicas + 64
    assert seconds[512] < 5 * seconds[4]
