"""Credit on rollouts that branch, against recursion over the tree; and what of it is trained, how often, how."""

import asyncio
import functools
import itertools
from collections import defaultdict
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from test_rollout import Relay
from test_update import EXACT, Plain
from trainer_fixtures import Recorder, Rig, distance, one_by_one
from tree_play import Mixed, by_seed, nodes_of, plan_of, play, siblings

from marft.credit import algorithm, assess
from marft.episode import Episode, Turn, learnable
from marft.rewards import load_reward
from marft.rollout import plan_update
from marft.train.learning import Learning
from marft.train.rewarding import score
from marft.train.table import duplicates, observations, turn_table
from marft.train.workers import Workers

STATE = ("instance", "parent", "seat")
OWN_TREE = {"attribution": "own", "return": "tree", "baseline": {"kind": "mean", "key": STATE}}
TREES = [
    {"kind": "tree", "samples": 2},
    {"kind": "tree", "samples": 3, "depth": 2, "pairing": "cross"},
    {"kind": "tree", "samples": 3, "advance": "best"},
    {"kind": "tree", "samples": 2, "advance": "random", "pairing": "cross"},
    {"kind": "two_level", "samples": 3, "second": 2},
    {"kind": "per_state", "samples": 3},
    {"kind": "per_state", "samples": 2, "pairing": "cross"},
]
CROSS = [settings for settings in TREES if settings.get("pairing") == "cross"]
WHOLE = [TREES[0], TREES[1], TREES[4]]


@functools.cache
def rig():
    return Rig()


def learned(episodes, settings):
    """What an update would train: {(group, parent, seat, sample): [(ids, log-probs, advantages), ...]}."""
    parts = rig()
    recipe = parts.recipe.model_copy(update={"algorithm": algorithm(settings)})
    learning = Learning(recipe, parts.bank, parts.base.chat, parts.learners, Workers(None))
    given = {}

    def update(learner, rows, **more):
        given[learner.name] = rows
        return dict.fromkeys(("trained", "tokens", "steps", "gap", "gap_max"), 1.0)

    learning.updater.update = update
    one_by_one(learning)
    learning.learn(episodes, 0, {})
    turns = [(episode.group, turn) for episode in episodes for turn in episode.turns]
    found = defaultdict(list)
    for name, rows in given.items():
        for row in rows:
            for number in dict.fromkeys(row.turn.tolist()):
                (group, turn), here = turns[number], row.turn == number
                assert turn.agent == name
                place = (group, turn.marks["parent"], turn.seat, turn.marks["sample"])
                ids, engine = row.ids[row.targets[here]].tolist(), row.engine[here].tolist()
                found[place].append((tuple(ids), tuple(engine), row.advantage[here].tolist()))
    return found


def by_completion(value):
    """Mean over the joint actions that contain a completion: value is {(node's key, seat): number}."""
    found = defaultdict(list)
    for (node, seat), number in value.items():
        found[node.group, node.parent, seat, node.samples[seat]].append(number)
    return {place: fmean(numbers) for place, numbers in found.items()}


def hashable(nodes):
    for node in nodes.values():
        type(node).__hash__ = object.__hash__
    return nodes


def backed(node, pay, gamma=1.0):
    """r + mean over the children of theirs, discounted by the game's clock."""
    below = [gamma ** (child.step - node.step) * backed(child, pay, gamma) for child in node.children]
    return pay(node) + (fmean(below) if below else 0.0)


def agree(found, expected):
    assert found.keys() == expected.keys()
    for place, trained in found.items():
        assert len(trained) == 1, f"{place} is trained {len(trained)} times"
        np.testing.assert_allclose(trained[0][2], expected[place], rtol=1e-9, atol=1e-9, err_msg=str(place))
    assert any(abs(number) > 1e-6 for number in expected.values())


def forest(chat, settings, game=None, **more):
    episodes = play(chat, plan_of(**settings), groups=2, size=2, **({"game": game} if game else {}), **more)
    return episodes, hashable(nodes_of(episodes, *([game] if game else [])))


def centred(nodes, value, pool):
    """{(node, seat): value − mean over the joint actions of the same state}; pool: over all of its seats together."""
    found = {}
    for joint in siblings(nodes).values():
        for seat in joint[0].samples:
            seats = joint[0].samples if pool else [seat]
            mean = fmean(value(node, other) for node in joint for other in seats)
            found |= {(node, seat): value(node, seat) - mean for node in joint}
    return found


class Short(Relay):
    """One round."""

    def acting(self):
        return () if self.clock == 2 else (self.seats[self.clock],)


@pytest.mark.parametrize("settings", TREES, ids=str)
def test_magrpo_is_recursion_over_the_tree_against_siblings(chat, settings):
    episodes, nodes = forest(chat, settings)
    expected = centred(nodes, lambda node, seat: backed(node, lambda n: n.team), pool=True)
    agree(learned(episodes, "magrpo"), by_completion(expected))


@pytest.mark.parametrize("settings", TREES, ids=str)
@pytest.mark.parametrize("kind", ["own", "team_mean"])
def test_tree_returns_of_each_seat(chat, settings, kind):
    episodes, nodes = forest(chat, settings)

    def value(node, seat):
        return backed(node, lambda n: n.rewards[seat] if kind == "own" else n.team / 2)

    agree(learned(episodes, {**OWN_TREE, "attribution": kind}), by_completion(centred(nodes, value, pool=False)))


@pytest.mark.parametrize("kind", ["own", "team_sum"])
def test_a_message_and_its_move_of_one_step_are_two_nodes(chat, kind):
    """Relay: one seat at a time, message and move; the move's pay reaches its message through the tree alone."""

    episodes, nodes = forest(chat, {"kind": "tree", "samples": 3, "advance": "best"}, Short)
    assert {len(episode.turns) for episode in episodes if episode.status == "done"} == {4}

    def value(node, seat):
        return backed(node, lambda n: n.rewards[seat] if kind == "own" else n.team)

    agree(learned(episodes, {**OWN_TREE, "attribution": kind}), by_completion(centred(nodes, value, pool=False)))


@pytest.mark.parametrize("settings", CROSS, ids=str)
@pytest.mark.parametrize("std", [False, True])
def test_joint_sums_a_completions_returns_over_the_joint_actions_that_contain_it(chat, settings, std):
    episodes, nodes = forest(chat, settings)
    summed = defaultdict(float)
    for node in nodes.values():
        for seat, sample in node.samples.items():
            place = (node.group, node.parent, seat, sample)
            summed[place] += backed(node, lambda n: n.rewards[seat])  # noqa: B023
    expected = {}
    for place, value in summed.items():
        alike = [other for key, other in summed.items() if key[:3] == place[:3]]
        spread = stdev(alike) if len(alike) > 1 else 0.0
        expected[place] = value - fmean(alike)
        if std:
            expected[place] *= 1 / (spread + 1e-6) if spread > 1e-9 else 0.0
    normalise = {"normalise": {"kind": "std", "key": STATE}} if std else {}
    agree(learned(episodes, {**OWN_TREE, "attribution": "joint", **normalise}), expected)


@pytest.mark.parametrize("settings", CROSS, ids=str)
def test_counterfactual_subtracts_the_mean_over_the_seats_own_alternatives(chat, settings):
    episodes, nodes = forest(chat, settings)

    def gain(node, seat):
        if seat not in node.samples:
            return 0.0
        others = {other: sample for other, sample in node.samples.items() if other != seat}
        state = siblings(nodes)[node.group, node.parent]
        # the trees of an instance start from one state, and a joint action pairs samples of one tree only
        alike = [n for n in state if {o: n.samples[o] for o in others} == others]
        alike = [n for n in alike if n.samples[seat] // 10_000 == node.samples[seat] // 10_000 or not others]
        return node.rewards[seat] - fmean(n.rewards[seat] for n in alike)

    gains = {(node, seat): gain(node, seat) for node in nodes.values() for seat in ("left", "right")}
    value = centred(nodes, lambda node, seat: backed(node, lambda n: gains[n, seat]), pool=False)
    agree(learned(episodes, {**OWN_TREE, "attribution": "counterfactual"}), by_completion(value))


@pytest.mark.parametrize("settings", TREES, ids=str)
def test_at_grpo_compares_each_sample_of_a_state_once(chat, settings):
    """Z-scores of the state's joint actions; the one that play went on from is no more of them than the others."""
    episodes, nodes = forest(chat, settings)
    value = {}
    for joint in siblings(nodes).values():
        team = [node.team for node in joint]
        if len(team) > 1 and (spread := stdev(team)) > 1e-9:
            for node in joint:
                z = (node.team - fmean(team)) / (spread + 1e-6)
                value |= {(node, seat): z for seat in node.samples}
    assert any(node.children for node, _ in value)
    agree(learned(episodes, "at_grpo"), by_completion(value))  # groups without spread are not trained at all


def test_samples_of_the_seat_that_acts_second_are_paid_before_the_game_moves_on(chat):
    """AT-GRPO's code evaluated them after it had moved on, where they all earned alike."""
    episodes = play(chat, plan_of("per_state", samples=4), game=Relay, groups=3)
    nodes, trained = hashable(nodes_of(episodes, Relay)), learned(episodes, "at_grpo")
    seen = 0
    for joint in siblings(nodes).values():
        if list(joint[0].samples) != ["right"] or joint[0].name.count(".") % 2:
            continue  # a message
        numbers = [int(node.texts["right"][0]) if node.texts["right"][0].isdigit() else 0 for node in joint]
        assert [node.rewards["right"] for node in joint] == numbers
        if len(set(numbers)) > 1:
            seen += 1
            places = [(node.group, node.parent, "right", node.samples["right"]) for node in joint]
            order = [trained[place][0][2][0] for place in places]
            assert np.argsort(order, kind="stable").tolist() == np.argsort(numbers, kind="stable").tolist()
    assert seen > 2


@pytest.mark.parametrize("game", [Mixed, Short])
@pytest.mark.parametrize("settings", WHOLE, ids=str)
@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_returns_to_go_of_a_completions_paths_average_to_its_tree_return(chat, settings, gamma, game):
    """A child that ends at once counts as much as one with many leaves; a message and its move are no step apart."""
    episodes, nodes = forest(chat, settings, game)
    value = {
        (node, seat): backed(node, lambda n: n.rewards[seat], gamma)  # noqa: B023
        for node in nodes.values()
        for seat in node.samples
    }
    agree(learned(episodes, {"preset": "reinforce", "return": {"gamma": gamma}}), by_completion(value))


# --- columns and rows


@pytest.mark.parametrize("settings", TREES, ids=str)
def test_what_is_trained_is_every_completion_once(chat, settings):
    episodes, nodes = forest(chat, settings)
    sampled = {
        (node.group, node.parent, seat, sample): node.texts[seat][1:]
        for node in nodes.values()
        for seat, sample in node.samples.items()
    }
    found = learned(episodes, "magrpo")
    assert {place: [(ids, engine) for ids, engine, _ in trained] for place, trained in found.items()} == {
        place: [said] for place, said in sampled.items()
    }
    assert sum(len(ids) for ids, _ in sampled.values()) < sum(
        len(turn.completion_ids) for episode in episodes for turn in episode.turns
    )


def test_the_first_of_equal_completions_stands_for_them_and_flat_turns_for_themselves(chat):
    episodes, _ = forest(chat, CROSS[0])
    turns = [(episode.group, turn) for episode in episodes for turn in episode.turns]
    same_U = duplicates(episodes)
    first = {}
    for number, (group, turn) in enumerate(turns):
        place = (group, turn.marks["parent"], turn.seat, turn.marks["sample"])
        assert same_U[number] == first.setdefault(place, number)
        assert turns[same_U[number]][1].completion_ids == turn.completion_ids
    flat = play(chat, plan_of("flat"), groups=2, size=2)
    assert duplicates(flat).tolist() == list(range(sum(len(episode.turns) for episode in flat)))


def test_the_table_places_turns_and_idle_rewards_in_the_tree(chat):
    episodes, nodes = forest(chat, TREES[0])
    table = turn_table(episodes)
    turns = [turn for episode in episodes for turn in episode.turns]
    for name in ("node", "parent", "sample"):
        assert table[f"{name}_U"][: len(turns)].tolist() == [turn.marks[name] for turn in turns]
    idle = [
        {name.removesuffix("_U"): column[number] for name, column in table.items()}
        for number in range(len(turns), len(table["reward_U"]))
    ]
    assert {(row["seat"], row["step"], bool(row["acted"])) for row in idle} == {("left", 1, False)}
    for row in idle:
        node = nodes[row["group"], row["node"]]
        assert (row["parent"], row["reward"]) == (node.parent, pytest.approx(node.rewards["left"]))
        assert node.name.count(".") == 3  # right's bid, not its message at the same step
    paid = {
        (number, row["step"]) for number, episode in enumerate(episodes) for row in idle if row["episode"] == number
    }
    assert len(idle) == len(paid) == sum(
        episode.rewards[1].get("left", 0.0) != 0 for episode in episodes if len(episode.rewards) > 1
    )  # fmt: skip


def test_an_observation_is_what_a_seat_was_shown_and_said_until_then(chat):
    episodes, _ = forest(chat, TREES[0])
    keys = []
    for episode in episodes:
        seen = defaultdict(tuple)
        for turn in episode.turns:
            seen[turn.seat] += tuple(turn.messages)
            keys.append((turn.seat, seen[turn.seat]))
            seen[turn.seat] += (turn.text,)
    labels = observations(episodes)
    assert len(set(labels)) == len(set(keys)) == len(set(zip(labels, keys, strict=True)))
    assert 10 < len(set(labels)) < len(labels)
    assert turn_table(episodes, wanted={"observation"})["observation_U"][: len(labels)].tolist() == labels


def test_no_text_can_make_two_observations_one():
    def shown(*texts):
        turn = Turn("a", 0, 0, "x", "", messages=[("user", text) for text in texts])
        return observations([Episode("e", "g", ("a",), {"a": "x"}, 0, turns=[turn])])

    assert shown("hi\x00user\x00there") != shown("hi", "there")
    assert shown("hi", "there") == shown("hi", "there")


def test_rows_of_others_carry_the_mean_over_paths_too(chat):
    """HACPO learns from everybody's rows, through another branch of the code."""
    plan = "rollout={groups: 2, group_size: 2, plan: {kind: tree, samples: 2}}"
    parts = Rig(plan, "algorithm=hacpo", "train.minibatches=2")
    episodes = grown(parts)
    learning, given = Learning(parts.recipe, parts.bank, parts.base.chat, parts.learners, Workers(None)), {}
    one_by_one(learning)
    learning.updater.update = lambda learner, rows, **more: (
        given.setdefault(learner.name, rows)
        and {"trained": 0.0} | (dict.fromkeys(("tokens", "steps", "gap", "gap_max"), 0.0))
    )
    learning.learn(episodes, 0, {})
    same_U, table = duplicates(episodes), turn_table(episodes)
    for name, rows in given.items():
        raw_U = assess("hacpo", table | {"learner_U": np.full(len(same_U), name)}).advantage_U
        expected_U = [raw_U[same_U == first].mean() for first in range(len(same_U)) if (same_U == first).any()]
        found = {number: row.advantage[row.turn == number] for row in rows for number in row.turn.tolist()}
        assert sorted(found) == sorted(set(same_U.tolist()))
        for first, mean in zip(sorted(found), expected_U, strict=True):
            assert found[first] == pytest.approx(mean)
        assert any(np.ptp(raw_U[same_U == first]) > 1e-6 for first in found), "the paths should differ"


def grown(parts):
    """Episodes of one update of a Rig, those of branches too."""
    episodes = learnable(asyncio.run(parts.rollout.play(plan_update(parts.recipe, 0))))
    for episode in episodes:
        score(episode, {"payoff": (load_reward("payoff"), 1.0)})
    return episodes


def test_a_kl_in_the_reward_is_the_same_on_every_path():
    plan = "rollout={groups: 1, group_size: 1, plan: {kind: tree, samples: 2}}"
    kl = "algorithm={preset: magrpo, kl: {kind: k1, coef: 0.5, where: reward}}"
    parts = Rig(plan, kl, shaken=0.3)
    episodes = grown(parts)
    learning = Learning(parts.recipe, parts.bank, parts.base.chat, parts.learners, Workers(None))
    table, same_U = learning.learn(episodes, 0, {}).table, duplicates(episodes)
    assert (same_U != np.arange(len(same_U))).any()
    np.testing.assert_array_equal(table["kl_U"], table["kl_U"][same_U])
    assert np.abs(table["kl_U"]).min() > 0


@pytest.mark.parametrize("pairing", ["aligned", "cross"])
def test_a_trees_gradient_is_the_naive_sum_over_distinct_completions(pairing, tmp_path):
    plan = f"rollout={{groups: 1, group_size: 2, plan: {{kind: tree, samples: 2, pairing: {pairing}, depth: 2}}}}"
    algo = "algorithm={preset: magrpo, aggregate: token_mean}"
    parts = Rig(*EXACT, plan, algo, "game={name: prisoners_dilemma, rounds: 2, cheap_talk: true}")
    episodes = grown(parts)
    nodes = hashable(nodes_of(episodes, parts.rollout.make_game))
    expected = by_completion(centred(nodes, lambda node, seat: backed(node, lambda n: n.team), pool=True))
    plain = {name: Plain(parts, name, tmp_path / name) for name in parts.learners}
    recorders = {name: Recorder(parts.bank.named_parameters(name)) for name in parts.learners}
    for name, learner in parts.learners.items():
        learner.optimizer = recorders[name]
    learning = Learning(parts.recipe, parts.bank, parts.base.chat, parts.learners, Workers(None))
    reports = learning.learn(episodes, 0, {}).reports
    for name in parts.learners:
        distinct = {}
        for episode, seat in itertools.product(episodes, (name,)):
            for turn, context in episode.contexts(seat):
                place = (episode.group, turn.marks["parent"], seat, turn.marks["sample"])
                distinct[place] = (context, turn.completion_ids)
        loss, tokens = 0.0, sum(len(said) for _, said in distinct.values())
        for place, (context, said) in distinct.items():
            logits = plain[name].model(torch.tensor([context + said])).logits[0, len(context) - 1 : -1]
            logp = torch.log_softmax(logits, -1)[torch.arange(len(said)), torch.tensor(said)]
            loss = loss - expected[place] * logp.sum() / tokens
        assert reports[name]["trained"] == tokens
        assert reports[name]["loss"] == pytest.approx(loss.item(), rel=1e-9)
        assert distance(recorders[name].seen[0], plain[name].gradient(loss)) < 1e-9


def test_an_answer_by_seed_is_as_varied_as_these_tests_need(chat):
    _, nodes = forest(chat, TREES[0], say=by_seed)
    assert len({node.team for node in nodes.values()}) > 10
    assert any(not node.children and node.name.count(".") == 1 for node in nodes.values()), "one game ended early"
