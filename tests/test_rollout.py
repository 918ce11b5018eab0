"""Groups of episodes from plans: who is asked what, what is recorded, and what happens when something breaks."""

import asyncio
import time

import pytest
from helpers import Speaker

from marft.config import Sampling
from marft.engines.base import Completion
from marft.engines.hf import HFEngine
from marft.engines.scripted import ScriptedEngine
from marft.errors import EngineError, GameError, ModelError
from marft.game import Game, Message, StepResult
from marft.games import make_game
from marft.games.players import PLAYERS
from marft.rollout import Plan, Rollout, plan_update, spoken
from marft.seeds import derive
from marft.team import game_maker, make_rollout

TEAM = {"alice": "alice", "bob": "bob"}
SCRIPTED = ScriptedEngine({f"scripted:{name}": player for name, player in PLAYERS.items()})


class Relay(Game):
    """Two rounds; in each, first `left` then `right` sends a message and then names a number, both in one step.

    A number pays its speaker that much and the other seat one tenth of it.
    """

    name = "relay"
    seats = ("left", "right")

    def reset(self, seed):
        self.clock, self.news, self.said = 0, {seat: [f"Deal {seed}."] for seat in self.seats}, None

    def acting(self):
        return () if self.clock == 4 else (self.seats[self.clock % 2],)

    def observe(self, seat):
        news, self.news[seat] = self.news[seat], []
        return [Message("user", text) for text in [*news, "Number?" if self.said else "Message?"]]

    def act(self, texts):
        ((seat, text),) = texts.items()
        other = self.seats[1 - self.seats.index(seat)]
        if self.said is None:
            self.said = text
            self.news[other].append(f"{seat} says: {text}")
            return StepResult({}, {seat: {"say": text}})
        self.said = None
        self.clock += 1
        number = int(text) if text.isdigit() else 0
        return StepResult({seat: number, other: number / 10}, {seat: number}, () if text.isdigit() else (seat,))

    def facts(self):
        return {"steps": self.clock}


def rollout(chat, say, game=None, **settings):
    engine = say if hasattr(say, "generate") else Speaker(chat, say)
    make = game or game_maker(make_game("prisoners_dilemma", {"rounds": 3}))
    return Rollout(make, chat, engine, SCRIPTED, Sampling(), ["alice", "bob"], **({"seed": 5} | settings))


def play(chat, say, plans=(Plan(0, 0, 1, TEAM),), game=None, **settings):
    return asyncio.run(rollout(chat, say, game, **settings).play(plans))


def test_a_group_shares_its_instance_and_differs_in_sampling(chat, bank, make_recipe):
    recipe = make_recipe(game={"shuffle_names": True}, rollout={"groups": 6, "group_size": 5})
    plans = plan_update(recipe, 3)
    assert [(plan.group, plan.index) for plan in plans] == [(group, index) for group in range(6) for index in range(5)]
    rolls = make_rollout(recipe, chat, bank, HFEngine(bank, chat.stop_ids))
    groups = {}
    for episode in asyncio.run(rolls.play(plans)):
        groups.setdefault(episode.group, []).append(episode)
    for episodes in groups.values():
        assert len({episode.seed for episode in episodes}) == 1
        assert (
            len({str(turn.messages) for episode in episodes for turn in episode.turns if turn.order == 0 == turn.step})
            == 1
        )
        assert len({str([turn.completion_ids for turn in episode.turns]) for episode in episodes}) > 1
    assert len({episodes[0].seed for episodes in groups.values()}) == 6
    assert len({str(episodes[0].facts["names"]) for episodes in groups.values()}) == 2
    assert not {plan.instance for plan in plans} & {plan.instance for plan in plan_update(recipe, 4)}


def test_request_seeds_are_different_for_every_seat_decision_and_episode(chat):
    engine = Speaker(chat, lambda request: "<A>")
    play(chat, engine, [Plan(group, index, group, TEAM) for group in range(4) for index in range(4)])
    assert len({request.seed for request in engine.requests}) == len(engine.requests) == 4 * 4 * 3 * 2


def test_learners_frozen_and_scripted_policies_play_together(chat, bank, make_recipe, adapters):
    folder = str(adapters["bob"])
    for other, name in [
        ({"scripted": "TFT"}, "scripted:TFT"),
        ({"frozen": "base"}, "frozen:base"),
        ({"frozen": folder}, f"frozen:{folder}"),
    ]:
        recipe = make_recipe(agents={"alice": None}, team={"alice": "bob", "bob": other})
        engine = HFEngine(bank, chat.stop_ids)
        engine.publish("bob", 4)
        (episode,) = asyncio.run(make_rollout(recipe, chat, bank, engine).play(plan_update(recipe, 0)[:1]))
        assert episode.team == {"alice": "bob", "bob": name}
        for turn in episode.turns_of("alice"):
            assert (turn.policy, turn.agent, turn.version) == ("bob", "bob", 4)
            assert len(turn.completion_ids) == len(turn.logprobs) > 0
        for turn in episode.turns_of("bob"):
            assert (turn.policy, turn.agent, turn.version) == (name, None, -1)
            assert bool(turn.completion_ids) is (name != "scripted:TFT")
        moves = {seat: [turn.action for turn in episode.turns_of(seat)] for seat in ("alice", "bob")}
        if name == "scripted:TFT":
            assert moves["bob"] == ["C", *moves["alice"][:-1]]


def test_one_agent_may_fill_every_seat(chat):
    (episode,) = play(chat, lambda request: "<A>", [Plan(0, 0, 1, {"alice": "alice", "bob": "alice"})])
    assert {turn.agent for turn in episode.turns} == {"alice"}
    assert {turn.seat for turn in episode.turns} == {"alice", "bob"}


def test_what_a_turn_records_is_what_the_engine_saw_and_said(chat):
    engine = Speaker(chat, lambda request: "<B>" if request.policy == "bob" else "<A>")
    (episode,) = play(chat, engine)
    assert [(turn.seat, turn.step, turn.order) for turn in episode.turns] == [
        (seat, step, order) for step in range(3) for order, seat in enumerate(("alice", "bob"))
    ]
    for seat in ("alice", "bob"):
        asked = [request.prompt_ids for request in engine.requests if request.policy == seat]
        assert [context for _, context in episode.contexts(seat)] == asked
        assert [turn.fresh for turn in episode.turns_of(seat)] == [True, False, False]
        assert len({request.session for request in engine.requests if request.policy == seat}) == 1
    assert [turn.action for turn in episode.turns_of("bob")] == ["D"] * 3
    assert episode.rewards == [{"alice": 0, "bob": 5}] * 3
    assert {turn.version for turn in episode.turns} == {7}
    assert engine.sessions_ended == 1


def test_a_cut_answer_is_recorded_as_cut_and_without_an_end(chat):
    engine = Speaker(chat, lambda request: chat.plain("<A>"))
    (episode,) = play(chat, engine)
    for seat in TEAM:
        assert all(turn.truncated and chat.end_id not in turn.completion_ids for turn in episode.turns_of(seat))
        assert [turn.prompt_ids[0] == chat.end_id for turn in episode.turns_of(seat)] == [False, True, True]


def test_seats_may_alternate_and_a_message_shares_its_moves_step(chat):
    numbers = iter(["hello", "3", "<|end|>x", "40", "again", "5", "bye", "none"])
    engine = Speaker(chat, lambda request: next(numbers))
    (episode,) = play(chat, engine, [Plan(0, 0, 8, {"left": "alice", "right": "bob"})], Relay)
    assert [(turn.seat, turn.step) for turn in episode.turns] == [
        (seat, step) for step, seat in enumerate(("left", "right") * 2) for _ in range(2)
    ]
    assert episode.rewards == [
        {"left": 3, "right": 0.3},
        {"left": 4.0, "right": 40},
        {"left": 5, "right": 0.5},
        {"left": 0.0, "right": 0},
    ]
    assert [turn.invalid for turn in episode.turns] == [False] * 7 + [True]
    assert episode.returns() == pytest.approx({"left": 12, "right": 40.8})
    assert episode.facts == {"steps": 4}
    right = next(episode.turns_of("right"))
    assert right.messages == [("user", "Deal 8."), ("user", "left says: hello"), ("user", "Message?")]
    assert [context for _, context in episode.contexts("left")] == [
        request.prompt_ids for request in engine.requests if request.policy == "alice"
    ]


class PayTwice(Relay):
    """Pays for the message too, at the step it shares with the number."""

    def act(self, texts):
        result = super().act(texts)
        result.rewards = result.rewards or {"left": 1.5}
        return result


def test_rewards_of_one_step_add_up(chat):
    (episode,) = play(chat, lambda request: "2", [Plan(0, 0, 8, {"left": "alice", "right": "bob"})], PayTwice)
    assert episode.rewards[0] == {"left": 3.5, "right": 0.2}
    assert episode.rewards[1] == {"left": 1.7, "right": 2}


def test_a_game_hears_what_comes_after_the_thinking(chat):
    assert spoken("no thinking <A>") == "no thinking <A>"
    assert spoken("<think>\nA? </think> no, <B>? </think>\n\n<A>") == "<A>"
    assert spoken("<think> never ends") == "<think> never ends"
    (episode,) = play(chat, lambda request: "<think>\n<A> or <B>?\n</think>\n\n<B>")
    assert [turn.action for turn in episode.turns] == ["D"] * 6
    assert not any(turn.invalid for turn in episode.turns)
    assert all(turn.text == "<think>\n<A> or <B>?\n</think>\n\n<B>" for turn in episode.turns)


# --- what breaks


def breaking(chosen, method="act", at=2, error=ValueError):
    """A maker of Relay games of which those with the numbers `chosen` (in order of making) raise."""
    made = []

    class Breaks(Relay):
        pass

    def broken(self, *arguments):
        self.calls += 1
        if self.number in chosen and self.calls == at:
            raise error("the dice fell off the table")
        return getattr(Relay, method)(self, *arguments)

    setattr(Breaks, method, broken)

    def make():
        game = Breaks()
        game.number, game.calls = len(made), 0
        made.append(game)
        return game

    return make


PLANS = [Plan(0, index, 77, {"left": "alice", "right": "bob"}) for index in range(3)]


@pytest.mark.parametrize(("method", "at"), [("act", 3), ("observe", 2), ("acting", 2), ("reset", 1), ("facts", 1)])
def test_a_failed_episode_is_kept_with_its_cause_and_played_again(chat, method, at):
    engine, ended = Speaker(chat, lambda request: "1"), []
    episodes = play(chat, engine, PLANS, breaking({1}, method, at), on_episode=ended.append)
    assert [(e.id, e.index, e.attempt, e.status) for e in episodes] == [
        ("u000000-g0000-e000", 0, 0, "done"),
        ("u000000-g0000-e001+1", 1, 1, "done"),
        ("u000000-g0000-e002", 2, 0, "done"),
        ("u000000-g0000-e001", 1, 0, "failed"),
    ]
    failed, again = episodes[3], episodes[1]
    assert "ValueError: the dice fell off the table" in failed.cause
    assert "test_rollout.py:" in failed.cause
    assert (failed.seed, failed.group) == (again.seed, again.group) == (77, 0)
    assert sorted(e.id for e in ended) == sorted(e.id for e in episodes)
    if method != "reset":
        assert again.turns[0].messages == episodes[0].turns[0].messages
    seeds = {}
    for request in engine.requests:
        seeds.setdefault(request.session.rpartition("/")[0], set()).add(request.seed)
    assert seeds[again.id].isdisjoint(seeds.get(failed.id, ()))


def test_a_game_that_always_raises_stops_the_run_and_names_the_cause(chat):
    ended = []
    with pytest.raises(GameError, match=r"instance seed 77\) failed 3 times.*ValueError: the dice fell off"):
        play(chat, lambda request: "1", PLANS, breaking(set(range(99))), on_episode=ended.append)
    assert {episode.status for episode in ended} == {"failed"}


def test_a_game_that_never_ends_is_stopped(chat, monkeypatch):
    monkeypatch.setattr("marft.rollout.NEVER_ENDS", 20)

    class Endless(Relay):
        def acting(self):
            return ("left",)

    with pytest.raises(GameError, match="relay has not ended after 20 decisions"):
        play(chat, lambda request: "1", PLANS, Endless, attempts=2)


def test_a_scripted_player_that_raises_is_named(chat):
    def clumsy(view, rng):
        raise KeyError("lost")

    rolls = rollout(chat, lambda request: "<A>")
    rolls.scripted = ScriptedEngine({"scripted:clumsy": clumsy, "scripted:mute": lambda view, rng: None})
    for name, words in [("clumsy", "player scripted:clumsy raised KeyError: 'lost'"), ("mute", "returned None")]:
        with pytest.raises(GameError, match=words):
            asyncio.run(rolls.play([Plan(0, 0, 1, {"alice": "alice", "bob": f"scripted:{name}"})]))


@pytest.mark.parametrize(
    ("completion", "words"),
    [
        (Completion([], [], "stop"), "alice was answered with 0 token ids and 0 log-prob"),
        (Completion([5, 6], [-1.0], "stop"), "alice was answered with 2 token ids and 1 log-prob"),
    ],
)
def test_an_answer_without_ids_or_log_probs_stops_the_run(chat, completion, words):
    with pytest.raises(EngineError, match=words):
        play(chat, lambda request: completion)


@pytest.mark.parametrize("others", ["bob", "scripted:TFT"])
def test_an_engine_that_loses_requests_stops_the_run(chat, others):
    class Loses(Speaker):
        async def generate(self, requests):
            return (await super().generate(requests))[:-1]

    with pytest.raises(EngineError, match=r"requests were answered with \d completions"):
        play(chat, Loses(chat, lambda request: "<A>"), [Plan(0, 0, 1, {"alice": "alice", "bob": others})])


def test_an_error_of_the_engine_is_not_blamed_on_the_game(chat):
    def say(request):
        raise RuntimeError("the card fell out")

    with pytest.raises(RuntimeError, match="the card fell out"):
        play(chat, say, PLANS, Relay)


def test_a_template_that_refuses_is_not_played_again(chat, monkeypatch):
    def refuse(*arguments):
        raise ModelError("its chat template refuses")

    conversation = type(chat.conversation())
    monkeypatch.setattr(conversation, "hear", refuse)
    with pytest.raises(ModelError, match="refuses"):
        play(chat, lambda request: "1", PLANS, Relay)


def test_an_engine_that_hangs_meets_the_deadline(chat):
    class Hangs(Speaker):
        async def generate(self, requests):
            if "e002" in requests[0].session and len(self.requests) > 10:
                await asyncio.Event().wait()
            return await super().generate(requests)

    engine = Hangs(chat, lambda request: "1")
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"2 of 3 episodes were over after 0\.3 s; raise rollout\.deadline"):
        play(chat, engine, PLANS, Relay, deadline=0.3)
    assert time.monotonic() - began < 5
    assert engine.sessions_ended == 1


def test_the_same_seed_plays_the_same_episodes_and_another_seed_others(chat, bank, make_recipe):
    def played(**changes):
        recipe = make_recipe(game={"shuffle_names": True, "cheap_talk": True}, **changes)
        rolls = make_rollout(recipe, chat, bank, HFEngine(bank, chat.stop_ids))
        return asyncio.run(rolls.play(plan_update(recipe, 1)))

    first = played()
    assert first == played()
    assert first != played(seed=1)


def test_instances_follow_from_seed_update_and_group_alone(make_recipe):
    recipe = make_recipe(seed=9)
    wide = make_recipe(seed=9, rollout={"groups": 5, "group_size": 2})
    assert {(p.group, p.instance) for p in plan_update(recipe, 7)} <= {
        (p.group, p.instance) for p in plan_update(wide, 7)
    }
    assert plan_update(recipe, 7)[0].instance == derive(9, "instance", 7, 0)
