"""Play that goes on while the trainer works: the bound, whole groups, errors, deadlines, gauges; no model."""

import collections
import random
import threading
import time

import pytest
from helpers import Delayed, Speaker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marft.engines.balance import Balancer
from marft.engines.scripted import ScriptedEngine
from marft.errors import EngineError, GameError, RecipeError
from marft.games import make_game
from marft.recipe import merge, parse_recipe
from marft.rollout import Rollout
from marft.seeds import derive
from marft.team import game_maker
from marft.train.asynchronous import Asynchronous
from marft.train.workers import Workers

AGENTS = ("alice", "bob")


@pytest.fixture(scope="module")
def make(chat, make_recipe):
    """make(engine, **rollout): a source of prisoner's dilemmas of two rounds."""
    made = []

    def make_source(engine, updates=6, game=None, workers=None, **rollout):
        recipe = make_recipe(
            rollout={"groups": 3, "group_size": 2, "attempts": 50} | rollout, train={"updates": updates}
        )
        maker = game or game_maker(make_game("prisoners_dilemma", {"rounds": 2}))
        rest = {"attempts": recipe.rollout.attempts, "deadline": recipe.rollout.deadline}
        scripted = ScriptedEngine({})
        rolls = Rollout(maker, chat, engine, scripted, recipe.sampling, AGENTS, derive(recipe.seed, "rollout"), **rest)
        made.append(Asynchronous(recipe, rolls, workers or Workers()))
        return made[-1]

    yield make_source
    for source in made:
        source.close()
        assert source._thread is None or not source._thread.is_alive()


def publish(engine, version):
    for agent in AGENTS:
        engine.publish(agent, version)
    return dict.fromkeys(AGENTS, version)


def groups_of(played):
    """The name that an episode's group was planned under -> its episodes that are no failures."""
    found = collections.defaultdict(list)
    for episode in played:
        if not episode.failed:
            found[episode.id.rpartition("-")[0]].append(episode)
    return found


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 4), st.floats(0.0, 0.3))
def test_random_delays_and_failures(make, chat, seed, staleness, groups, failing):
    rng = random.Random(seed)

    def delay(request):  # now and then one that others overtake
        return rng.choice([0.0, 0.001, 0.002, 0.03])

    engine = Delayed(chat, lambda request: "<A>", delay, lambda request: rng.random() < failing / 4)
    source, updates = make(engine, max_staleness=staleness, groups=groups), 6
    taken, gone, failed = [], 0, 0
    for update in range(updates):
        versions = publish(engine, update)
        supply = source.take(update, versions)
        found = groups_of(supply.played)
        assert len(found) == groups  # so many, each whole
        for name, episodes in found.items():
            assert sorted(episode.id.rpartition("-")[2][:4] for episode in episodes) == ["e000", "e001"], name
            assert len({episode.seed for episode in episodes}) == 1
            assert all(len(episode.turns) == 4 for episode in episodes)
            assert len({episode.group for episode in episodes}) == 1
        assert {episode.group for episode in supply.played} == set(range(groups))
        assert {episode.update for episode in supply.played} == {update}
        ages = [update - turn.version for name in found for episode in found[name] for turn in episode.turns]
        assert 0 <= min(ages) <= max(ages) <= staleness
        assert supply.gauges["async/staleness_max"] == max(ages)
        gone += supply.gauges["episodes/dropped"]
        failed += sum(episode.failed for episode in supply.played)
        taken += list(found)
        time.sleep(rng.choice([0.0, 0.01]))  # the trainer works
    assert len(set(taken)) == len(taken) == groups * updates  # none twice
    state = source.state()
    asked = {request.session.rpartition("-")[0] for request in engine.requests}
    assert len(asked - set(taken)) <= gone / 2 + len(state["open"])
    assert state["next"] == groups * updates + gone / 2 + len(state["open"])  # each taken, dropped, or open
    if failing == 0:
        assert failed == 0


def test_an_overtaken_group_is_dropped_counted_and_never_seen(make, chat):
    # The first group takes as long as four updates.
    engine = Delayed(chat, lambda request: "<A>", lambda request: 0.15 if "u000000-g0001" in request.session else 0.0)
    source, seen, gone = make(engine, max_staleness=1, groups=2, updates=10), [], 0
    for update in range(10):
        supply = source.take(update, publish(engine, update))
        seen += groups_of(supply.played)
        gone += supply.gauges["episodes/dropped"]
        time.sleep(0.05)
    assert "u000000-g0001" not in seen
    assert gone == 2
    assert source.state() == {"next": 21, "open": []}


def test_play_goes_on_while_the_trainer_works_and_waits_at_the_bound(make, chat):
    engine = Delayed(chat, lambda request: "<A>", lambda request: 0.02)
    source = make(engine, max_staleness=1, updates=100)
    source.take(0, publish(engine, 0))
    began = time.perf_counter()
    time.sleep(0.3)
    supply = source.take(1, publish(engine, 1))
    assert supply.gauges["async/wait"] < 0.05  # they were ready
    assert 0.15 < supply.gauges["async/back_pressure"] < time.perf_counter() - began + 0.02  # and play stood still
    assert supply.gauges["async/queue"] == 0
    supply = source.take(2, publish(engine, 2))
    assert supply.gauges["async/wait"] > 0.03
    assert supply.gauges["async/back_pressure"] < 0.02  # never both
    assert len({request.session.rpartition("-")[0] for request in engine.requests}) == 3 * 4


def test_rollout_and_update_of_equal_length_take_little_more_than_half_the_time(make, chat):
    def run(**rollout):
        engine = Delayed(chat, lambda request: "<A>", lambda request: 0.1)  # two decisions of 0.1 s
        source = make(engine, updates=8, **rollout)
        began = time.perf_counter()
        for update in range(8):
            source.take(update, publish(engine, update))
            time.sleep(0.2)
        return time.perf_counter() - began

    assert run(max_staleness=1) <= 0.65 * run(max_staleness=0)  # 8 × 0.2 + 0.2 s against 8 × 0.4 s


def test_sessions_of_a_group_end_with_it_and_no_others(make, chat):
    engine = Delayed(chat, lambda request: "<A>", lambda request: 0.0)
    source = make(engine, max_staleness=1, updates=1)
    source.take(0, publish(engine, 0))
    assert sorted(engine.ended) == ["u000000-g0000-", "u000000-g0001-", "u000000-g0002-"]
    assert all(any(request.session.startswith(end) for end in engine.ended) for request in engine.requests)


def test_an_error_of_the_rollout_reaches_the_trainer(make, chat):
    engine = Delayed(chat, lambda request: "<A>", lambda request: 0.0, lambda request: True)
    with pytest.raises(GameError, match="failed 2 times.*the game broke"):
        make(engine, max_staleness=1, attempts=2).take(0, publish(engine, 0))


def test_a_wait_past_the_deadline_says_what_it_waited_for(make, chat):
    engine = Delayed(chat, lambda request: "<A>", lambda request: 30.0)
    source = make(engine, max_staleness=2, deadline=0.2)
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"rollout\.deadline"):
        source.take(0, publish(engine, 0))
    assert time.monotonic() - began < 5


def test_a_thread_that_hangs_is_noticed(make, chat, monkeypatch):
    monkeypatch.setattr("marft.train.asynchronous.GRACE", 0.1)
    naps = iter([1.0])
    engine = Delayed(chat, lambda request: time.sleep(next(naps, 0.0)) or "<A>", lambda request: 0.0)
    with pytest.raises(EngineError, match=r"did not answer within 0\.3 s"):
        make(engine, max_staleness=1, deadline=0.2).take(0, publish(engine, 0))


def test_an_engine_with_the_trainers_weights_is_refused(make, chat):
    engine = Speaker(chat, lambda request: "<A>")
    engine.shares_weights = True
    with pytest.raises(RecipeError, match=r"rollout\.max_staleness is 1.*kind hf"):
        make(engine, max_staleness=1)


def test_a_resumed_source_plays_again_what_was_open_and_nothing_that_was_taken_or_dropped(make, chat):
    engine = Delayed(chat, lambda request: "<A>", lambda request: 0.0 if "e000" in request.session else 0.01)
    first, seen = make(engine, max_staleness=2, updates=9), []
    for update in range(3):
        seen += groups_of(first.take(update, publish(engine, update)).played)
    state = first.state()
    first.close()
    names = [f"u{ticket // 3:06d}-g{ticket % 3:04d}" for ticket in state["open"]]
    assert names
    assert not set(names) & set(seen)
    second = make(engine, max_staleness=2, updates=9)
    second.restore(3, state)
    again = [name for update in range(3, 9) for name in groups_of(second.take(update, publish(engine, update)).played)]
    assert not set(again) & set(seen)
    assert set(names) <= set(again)
    assert sorted([*seen, *again]) == [f"u{ticket // 3:06d}-g{ticket % 3:04d}" for ticket in range(27)]


class Together:
    """Two processes in threads: `gather` waits for both."""

    def __init__(self, rank, shared, barrier):
        self.rank, self.size, self.shared, self.barrier = rank, 2, shared, barrier

    mine = Workers.mine

    def gather(self, items):
        self.shared[self.rank] = items
        self.barrier.wait(10)
        found = [item for one in self.shared for item in one]
        self.barrier.wait(10)
        return found

    def wait(self):
        self.barrier.wait(10)


def test_each_process_brings_the_same_share_of_every_update(make, chat):
    shared, barrier, found = [None, None], threading.Barrier(2), {}

    def work(rank):
        engine = Delayed(chat, lambda request: "<A>", lambda request: 0.01 * rank)
        source = make(engine, max_staleness=1, groups=5, workers=Together(rank, shared, barrier))
        supplies = [source.take(update, publish(engine, update)) for update in range(4)]
        found[rank] = supplies, source.state()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for supplies in zip(found[0][0], found[1][0], strict=True):
        assert [{episode.group for episode in supply.played} for supply in supplies] == [{0, 2, 4}, {1, 3}]
        assert supplies[0].gauges == supplies[1].gauges
    names = [name for supplies, _ in found.values() for supply in supplies for name in groups_of(supply.played)]
    assert len(set(names)) == len(names) == 20
    assert found[0][1] == found[1][1]
    state = found[0][1]
    numbers = {int(name[1:7]) * 5 + int(name[-4:]) for name in names}
    assert sorted([*numbers, *state["open"]]) == list(range(state["next"]))


def test_the_engine_is_told_of_all_that_may_be_drawn_and_of_what_still_plays(make, chat):
    # what was planned for update 2 still plays when update 1 asks
    engine = Delayed(chat, lambda request: "<A>", lambda request: 5.0 if "u000002" in request.session else 0.0)
    for name in ("past:alice@0", "past:alice@1", "past:alice@2"):
        engine.publish(name, 0)
    source = make(engine, max_staleness=2, updates=9)
    past = {"past": {"every": 1, "keep": 1}, "team": {"bob": {"past": "alice"}}}
    source.recipe = parse_recipe(merge(source.recipe.model_dump(by_alias=True), past | {"agents": {"bob": None}}))
    source.take(0, {"alice": engine.versions.setdefault("alice", 0)})
    assert engine.prepared == {"alice", "past:alice@0"}
    engine.publish("alice", 1)
    source.take(1, {"alice": 1})
    assert engine.prepared == {"alice", "past:alice@0", "past:alice@1"}


def test_a_balancer_forgets_the_episodes_of_a_group_and_no_others():
    balancer = Balancer()
    for name in ("one", "two"):
        balancer.add(name)
    home = {session: balancer.pick(session) for session in ("g1-a", "g1-b", "g2-a")}
    balancer.clear("g1-")
    assert balancer.pick("g2-a") == home["g2-a"]
    assert balancer.pick("g3-a") != home["g2-a"]  # the other one has nobody left
