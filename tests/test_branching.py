"""Rollouts that branch: how many paths, what siblings share, replay, reproducibility, failures."""

import asyncio
import itertools
import random
from collections import Counter

import pytest
from helpers import Speaker
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from trainer_fixtures import Rig
from tree_play import PHASES, Mixed, by_seed, nodes_of, plan_of, play, replayed, siblings

from marft.branching import combinations, going_on, leaves
from marft.config import Branching
from marft.credit.advice import warnings_for
from marft.engines.hf import HFEngine
from marft.episode import finished, learnable
from marft.errors import EngineError, GameError
from marft.eval.arena import evaluate
from marft.files import write_text
from marft.games import make_game
from marft.recipe import dump_recipe, facts_of
from marft.rollout import FLAT, plan_update
from marft.store import read_episodes, read_parquet, write_parquet
from marft.team import game_maker, make_rollout

PLANS = [
    {"kind": "tree", "samples": 2},
    {"kind": "tree", "samples": 3, "advance": "best"},
    {"kind": "tree", "samples": 2, "advance": "random", "pairing": "cross"},
    {"kind": "tree", "samples": 2, "pairing": "cross", "depth": 3},
    {"kind": "two_level", "samples": 3, "second": 2},
    {"kind": "two_level", "samples": 2, "second": 3, "pairing": "cross"},
    {"kind": "two_level", "samples": 4, "second": 1, "advance": "random"},
    {"kind": "per_state", "samples": 3},
    {"kind": "per_state", "samples": 2, "pairing": "cross", "depth": 2},
]


def dilemma(rounds):
    return game_maker(make_game("prisoners_dilemma", {"rounds": rounds}))


def walked(plan, seats, decisions, decision=0):
    """Paths below one state, by walking: (that came to the end, that were cut)."""
    if decision == decisions:
        return 1, 0
    samples = {"two_level": [plan.samples, plan.second]}.get(plan.kind, [plan.samples] * decisions)
    width = samples[decision] if decision < len(samples) and decision < (plan.depth or decisions) else 1
    joint = list(itertools.product(range(width), repeat=seats)) if plan.pairing == "cross" else [*range(width)]
    on = len(joint) if plan.kind != "per_state" and plan.advance == "all" else 1
    ended, cut = walked(plan, seats, decisions, decision + 1)
    return on * ended, on * cut + len(joint) - on


@pytest.mark.parametrize("settings", PLANS, ids=str)
@pytest.mark.parametrize("decisions", [1, 2, 3])
def test_there_are_as_many_paths_as_the_plan_says(chat, settings, decisions):
    plan = Branching(**settings)
    say = lambda request: random.Random(request.seed).choice(["<A>", "<B>"])  # noqa: E731
    seats = {"alice": "alice", "bob": "bob"}
    episodes = play(chat, plan, say=say, game=dilemma(decisions), team=seats, size=2)
    ended, cut = walked(plan, 2, decisions)
    for index in range(2):
        found = Counter(episode.status for episode in episodes if episode.index == index)
        assert (found["done"], found["partial"]) == (ended, cut)
    assert leaves(plan, 2, decisions) == ended + cut
    assert len({episode.id for episode in episodes}) == len(episodes)
    assert {len(episode.turns) for episode in finished(episodes)} == {2 * decisions}


def test_figures_of_the_plans_by_hand():
    assert leaves(Branching(kind="tree", samples=2), 2, 3) == 8
    assert leaves(Branching(kind="tree", samples=2, pairing="cross"), 2, 2) == 16
    assert leaves(Branching(kind="tree", samples=2, depth=1), 2, 5) == 2
    assert leaves(Branching(kind="two_level", samples=3, second=2), 4, 5) == 6
    assert leaves(Branching(kind="per_state", samples=4), 2, 3) == 1 + 3 * 3
    assert leaves(Branching(kind="per_state", samples=2, pairing="cross"), 2, 3) == 1 + 3 * 3
    assert leaves(Branching(), 2, 9) == 1


def test_plans_that_contradict_themselves_are_refused():
    for settings in ({"samples": 1}, {"kind": "per_state", "advance": "random"}, {"depth": 0}, {"kind": "bush"}):
        with pytest.raises(ValidationError):
            Branching(**settings)
    assert Branching.model_validate("tree") == Branching(kind="tree")


@given(st.integers(2, 4), st.integers(1, 3))
def test_cross_pairs_everything_with_everything_and_aligned_the_nth_with_the_nth(samples, seats):
    aligned, cross = (combinations(Branching(kind="tree", pairing=p), seats, samples) for p in ("aligned", "cross"))
    assert aligned == [tuple(n for _ in range(seats)) for n in range(samples)]
    assert len(set(cross)) == len(cross) == samples**seats
    assert set(aligned) <= set(cross)
    assert all(len(pair) == seats and set(pair) <= set(range(samples)) for pair in cross)


def test_play_goes_on_from_the_best_or_from_any():
    paid = [{"a": 1.0, "b": -3.0}, {"a": 2.0}, {"b": 2.0}, {"a": -1.0, "b": 1.0}]
    assert going_on(Branching(kind="tree"), paid, 0) == [0, 1, 2, 3]
    assert going_on(Branching(kind="tree", advance="best"), paid, 0) == [1]  # the first of two that are alike
    assert going_on(Branching(kind="per_state"), paid, 9) == [1]
    drawn = [going_on(Branching(kind="tree", advance="random"), paid, seed) for seed in range(400)]
    assert all(60 < drawn.count([number]) < 140 for number in range(4))
    assert drawn[7] == going_on(Branching(kind="tree", advance="random"), paid, 7)


@pytest.mark.parametrize("settings", PLANS, ids=str)
def test_siblings_start_from_one_state_and_their_samples_pair_as_planned(chat, settings):
    plan = Branching(**settings)
    engine = Speaker(chat, by_seed)
    episodes = play(chat, plan, engine=engine, groups=2, size=2)
    nodes = nodes_of(episodes)  # which replays every path, and compares what several paths say of a node
    asked = Counter()
    for (group, parent), joint in siblings(nodes).items():
        assert len({node.prefix for node in joint}) == 1, "the same messages, the same tokens before them"
        seats = tuple(joint[0].samples)
        trees = 2 if parent == "root" else 1
        drawn = [tuple(node.samples.values()) for node in joint]
        depth = 0 if parent == "root" else len(parent.split(".")) - 1
        width = plan.samples_at(depth)
        offset = [10_000 * tree for tree in range(trees)]
        expected = [tuple(at + n for n in pair) for at in offset for pair in combinations(plan, len(seats), width)]
        assert sorted(drawn) == sorted(expected)
        for seat in seats:
            said = {}
            for node in joint:
                said.setdefault(node.samples[seat], set()).add(node.texts[seat])
            assert all(len(texts) == 1 for texts in said.values()), "one sample is one completion"
            assert len(said) == trees * width
            asked[group] += len(said)
    assert sum(asked.values()) == len(engine.requests), "nothing was sampled that is not in the tree, or sampled twice"
    assert len({request.seed for request in engine.requests}) == len(engine.requests)


@pytest.mark.parametrize("settings", PLANS, ids=str)
def test_every_path_replays_to_its_own_rewards(chat, settings):
    for episode in play(chat, Branching(**settings), groups=2):
        steps, game = replayed(episode)
        paid = [{} for _ in range(episode.turns[-1].step + 1)]
        place = 0
        for seats, rewards in steps:
            step = paid[episode.turns[place].step]
            place += len(seats)
            for seat, value in rewards.items():
                step[seat] = step.get(seat, 0.0) + value
        assert episode.rewards == paid
        if episode.status == "done":
            assert (game.acting(), episode.facts) == ((), game.facts())
        else:
            assert (episode.status, episode.facts) == ("partial", {})


def test_the_path_that_goes_on_is_the_one_that_paid_best(chat):
    nodes = nodes_of(play(chat, plan_of("per_state", samples=4), groups=3))
    forks = 0
    for joint in siblings(nodes).values():
        on = [node for node in joint if node.children]
        assert len(on) <= 1
        if on:
            assert on[0].team == max(node.team for node in joint)
            forks += len({node.team for node in joint}) > 1
    assert forks > 3


def test_partial_paths_are_learned_from_and_kept_and_are_no_finished_games(chat, tmp_path):
    episodes = play(chat, plan_of("per_state", samples=2, pairing="cross"))
    assert learnable(episodes) == episodes
    assert {episode.status for episode in finished(episodes)} == {"done"}
    assert len(finished(episodes)) == 1
    write_parquet(episodes, tmp_path / "e.parquet")
    back = read_parquet(tmp_path / "e.parquet")
    assert [(e.id, e.status, [turn.marks for turn in e.turns]) for e in back] == [
        (e.id, e.status, [turn.marks for turn in e.turns]) for e in episodes
    ]


def test_a_policy_without_chance_plays_the_flat_episode_on_every_path(chat):
    say = lambda request: str(len(request.prompt_ids) % 4)  # noqa: E731
    (flat,) = play(chat, FLAT, say=say)
    assert not any(turn.marks for turn in flat.turns)
    for settings in PLANS[:6]:
        for episode in finished(play(chat, Branching(**settings), say=say)):
            assert (episode.rewards, episode.facts, episode.terms) == (flat.rewards, flat.facts, flat.terms)
            for ours, theirs in zip(episode.turns, flat.turns, strict=True):
                for name in ("seat", "step", "order", "messages", "prompt_ids", "completion_ids", "fresh", "action"):
                    assert getattr(ours, name) == getattr(theirs, name), name


def test_a_tree_of_one_sample_is_a_single_path(chat):
    one = Branching.model_construct(kind="tree", samples=1, second=1, advance="all", pairing="aligned", depth=None)
    (episode,) = play(chat, one)
    assert [turn.marks["sample"] for turn in episode.turns] == [0] * len(episode.turns)
    assert nodes_of([episode]).keys() == {(0, ".".join("0" * n)) for n in range(2, len(PHASES) + 2)}


def test_scripted_seats_branch_too_and_answer_each_sample_with_its_own_chance(chat):
    players = {"scripted:dice": lambda view, rng: str(rng.randrange(4))}
    team = {"left": "alice", "right": "scripted:dice"}
    nodes = nodes_of(play(chat, plan_of(samples=4), team=team, players=players))
    assert any(len({node.texts["right"] for node in joint}) > 1 for joint in siblings(nodes).values())


# --- what must not matter


def outline(episodes):
    turns = [[(t.seat, t.text, t.completion_ids, t.marks) for t in e.turns] for e in episodes]
    return [(e.id, e.group, e.index, e.status, e.rewards, e.facts) for e in episodes], turns


@pytest.mark.parametrize("settings", [PLANS[0], PLANS[2], PLANS[8]], ids=str)
def test_the_same_tree_grows_whatever_it_is_batched_with_and_in_whatever_order(bank, chat, make_recipe, settings):
    def grown(order=1, **engine):
        sizes = {"plan": settings, "groups": 2, "group_size": 2}
        recipe = make_recipe(rollout=sizes, game={"rounds": 2}, algorithm="at_grpo")
        rolls = make_rollout(recipe, chat, bank, HFEngine(bank, chat.stop_ids, **engine))
        plans = plan_update(recipe, 1)
        return sorted(asyncio.run(rolls.play(plans[::order])), key=lambda episode: (episode.group, episode.index))

    usual = grown()
    for other in (grown(max_batch=3), grown(order=-1), grown(reuse_cache=False)):
        assert outline(other) == outline(usual)
        for ours, theirs in zip(other, usual, strict=True):
            for one, two in zip(ours.turns, theirs.turns, strict=True):
                assert one.logprobs == pytest.approx(two.logprobs, abs=1e-4)
    assert len({str(turn.completion_ids) for episode in usual for turn in episode.turns}) > 3


def test_another_seed_grows_another_tree(chat):
    plan = plan_of(samples=3)
    assert outline(play(chat, plan)) == outline(play(chat, plan))
    assert outline(play(chat, plan)) != outline(play(chat, plan, seed=6))


# --- what breaks


def breaking(number, at, method="act"):
    """A maker of games; in the one with this number the call `at` of a method (its clones counted on) raises."""
    made = []

    class Breaks(Mixed):
        calls = 0

    def broken(self, *arguments):
        self.calls += 1
        if self.number == number and self.calls == at and self.bad(arguments):
            raise ValueError("the board fell off the table")
        return getattr(Mixed, method)(self, *arguments)

    setattr(Breaks, method, broken)
    Breaks.bad = lambda self, arguments: method != "act" or "1" in arguments[0].values()

    def make():
        game = Breaks()
        game.number = len(made)
        made.append(game)
        return game

    return make


@pytest.mark.parametrize(("method", "at"), [("act", 2), ("observe", 6), ("clone", 1), ("facts", 1)])
@pytest.mark.parametrize("pairing", ["aligned", "cross"])
def test_a_game_that_breaks_in_one_branch_is_replaced_as_a_whole_tree(chat, method, at, pairing):
    ended = []
    plan = plan_of(samples=3, pairing=pairing, depth=2)
    game = breaking(1, at, method)
    episodes = play(chat, plan, game=game, size=3, on_episode=ended.append)
    good, bad = learnable(episodes), [episode for episode in episodes if episode.failed]
    assert len(bad) == 1
    assert bad[0] is episodes[-1]
    assert "ValueError: the board fell off the table" in bad[0].cause
    assert bad[0].id.startswith("u000000-g0000-e001")
    assert "+" not in bad[0].id
    assert {episode.attempt for episode in good if episode.index == 1} == {1}
    assert {episode.attempt for episode in good if episode.index != 1} == {0}
    assert sorted(map(id, ended)) == sorted(map(id, episodes))
    whole = siblings(nodes_of(good))
    width = 3 if pairing == "aligned" else 9
    assert len(whole[0, "root"]) == 3 * width
    for index in range(3):
        for number in range(width):
            below = whole.get((0, f"{index}.{number}"))
            said = nodes_of(good)[0, f"{index}.{number}"].texts.values()
            ends = sum(int(text) for text, _, _ in said if text != "x") < 2
            assert (below is None) is ends
            assert below is None or len(below) == 3  # right acts alone


def test_a_tree_that_always_breaks_stops_the_run(chat):
    def make():
        game = Mixed()
        game.act = lambda texts: 1 / 0
        return game

    with pytest.raises(GameError, match="failed 2 times, the last time: the game raised ZeroDivisionError"):
        play(chat, plan_of(samples=2), game=make, attempts=2)


def test_an_engine_that_breaks_in_a_branch_is_not_blamed_on_the_game(chat):
    def say(request):
        if request.session.count(".") == 2:
            raise EngineError("the card fell out")
        return "1"

    with pytest.raises(EngineError, match="the card fell out"):
        play(chat, plan_of(samples=2), say=say)


def test_a_mark_of_the_game_may_not_pass_for_a_column_of_credits_own(chat):
    class Marked(Mixed):
        def marks(self, seat):
            return {"node": "here"}

    with pytest.raises(GameError, match="marks a decision of left with 'node'"):
        play(chat, FLAT, game=Marked, attempts=1)


# --- the recipe


def test_a_tree_of_one_instance_has_somebody_to_compare_with():
    plan = "rollout={groups: 2, group_size: 1, plan: {kind: tree, samples: 2}}"
    recipe = Rig("algorithm=magrpo", plan).recipe
    assert not any("groups of one" in sentence for sentence in warnings_for(recipe.algorithm, facts_of(recipe)))
    flat = facts_of(recipe.model_copy(update={"rollout": recipe.rollout.model_copy(update={"plan": FLAT})}))
    assert any("groups of one" in sentence for sentence in warnings_for(recipe.algorithm, flat))


def test_evaluation_plays_whole_episodes_of_a_team_that_trained_on_trees(tmp_path):
    plan = "rollout={groups: 1, group_size: 1, plan: {kind: per_state, samples: 2}}"
    rig = Rig("algorithm=at_grpo", plan)
    write_text(tmp_path / "run" / "recipe.yaml", dump_recipe(rig.recipe))
    for agent in rig.learners:
        rig.bank.save(agent, tmp_path / "run" / "adapters" / agent)
    evaluate({"one": tmp_path / "run"}, tmp_path / "out", against="AllD", episodes=2, seed=3, resamples=5)
    episodes = list(read_episodes(tmp_path / "out"))
    assert len(episodes) == 2 + 2 * 2  # itself, and the player from either seat
    assert all(episode.status == "done" and not episode.turns[0].marks for episode in episodes)


def test_behind_its_last_branch_a_path_costs_its_new_tokens_only(bank, chat):
    """As in flat play: a turn's tokens pass the model once, not once per later turn."""
    fed = {}
    for rounds in (5, 10):
        engine = HFEngine(bank, chat.stop_ids)
        plan = plan_of("two_level", samples=3, second=1)
        play(chat, plan, engine=engine, game=dilemma(rounds), team={"alice": "alice", "bob": "bob"})
        fed[rounds] = engine.counters.fed
    assert fed[10] < 2.2 * fed[5]
