"""What nodes of a tree are worth and which pairs that gives, as MALT (2412.01928) has it: against a plain recursion."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_play import nodes_of, plan_of, play

from marft.episode import Episode, Turn
from marft.stages.pairs import preference_pairs
from marft.stages.select import Filters, sft_rows
from marft.stages.sources import Batch
from marft.stages.values import node_values, turn_values, worth

ROLES = ("generator", "verifier", "refiner")
TEAM = {role: role for role in ROLES}
HALF = Filters(above=0.5)


def leaf():
    return st.integers(0, 1)


def branches(depth):
    """A number for a leaf, else [(what was said, what follows), …]; ends early now and then."""
    if depth == len(ROLES):
        return leaf()
    below = st.tuples(st.integers(1, 4), branches(depth + 1))
    grown = st.lists(below, min_size=1, max_size=3)
    return grown if depth == 0 else st.one_of(grown, grown, grown, leaf())


def chain(width):
    """A tree of this width at every one of the three roles; siblings say different things."""
    found = leaf()
    for _ in ROLES:
        below = found
        found = st.tuples(*[below] * width).map(lambda kids: [(said, kid) for said, kid in enumerate(kids, 1)])
    return found


def episodes_of(tree, group=0):
    """All paths of a tree as episodes: role after role speaks, and the leaf pays all roles."""
    found = []

    def walk(kids, path, name):
        if isinstance(kids, int):
            turns, context = [], [9]
            for step, (said, node, parent) in enumerate(path):
                turns.append(
                    Turn(
                        ROLES[step],
                        step,
                        0,
                        ROLES[step],
                        str(said),
                        agent=ROLES[step],
                        prompt_ids=list(context),
                        completion_ids=[said],
                        logprobs=[-1.0],
                        marks={"node": node, "parent": parent, "sample": int(node.rpartition(".")[2])},
                    )
                )
                context.append(said)
            rewards = [{} for _ in path[1:]] + [dict.fromkeys(ROLES, float(kids))]
            found.append(Episode(f"e{name}", "g", ROLES, TEAM, 7 + group, group=group, turns=turns, rewards=rewards))
            return
        for number, (said, below) in enumerate(kids):
            node = f"{name}.{number}"
            walk(below, [*path, (said, node, "root" if not path else name)], node)

    walk(tree, [], "0")
    return found


def value(tree):
    return Fraction(tree) if isinstance(tree, int) else sum(value(kid) for _, kid in tree) / len(tree)


def everything(tree, depth=0, heard=(9,), name="0"):
    """Every node: (its role, its parent, what its role had heard, what it said, its value), by plain recursion."""
    if isinstance(tree, int):
        return
    for number, (said, below) in enumerate(tree):
        yield ROLES[depth], name, heard, said, value(below)
        yield from everything(below, depth + 1, (*heard, said), f"{name}.{number}")


def brute_force_pairs(tree):
    """Right above wrong, siblings alone; siblings that said the same are one, worth their mean."""
    alike = {}
    for role, parent, heard, said, worth_of in everything(tree):
        alike.setdefault((role, parent, heard), {}).setdefault(said, []).append(worth_of)
    found = Counter()
    for (role, _, heard), said in alike.items():
        means = {one: sum(values) / len(values) for one, values in said.items()}
        for right, much in means.items():
            for wrong, little in means.items():
                if much > Fraction(1, 2) >= little:
                    found[role, heard, (right,), (wrong,), round(float(much - little), 9)] += 1
    return found


def pairs_of(trees, filters=HALF, **rest):
    episodes = [episode for group, tree in enumerate(trees) for episode in episodes_of(tree, group)]
    found = preference_pairs([Batch("", episodes)], filters, by="value", **rest)
    return Counter(
        (agent, pair.prompt, pair.chosen, pair.rejected, round(pair.gap, 9)) for agent in found for pair in found[agent]
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(branches(0), chain(3)), min_size=1, max_size=2))
def test_pairs_of_right_and_wrong_siblings_are_all_that_an_enumeration_finds(trees):
    assert pairs_of(trees) == sum((brute_force_pairs(tree) for tree in trees), Counter())


@settings(max_examples=60, deadline=None)
@given(st.one_of(branches(0), chain(3)))
def test_a_node_is_worth_the_mean_of_its_children(tree):
    expected = sorted((role, float(much)) for role, _, _, _, much in everything(tree))
    episodes = episodes_of(tree)
    nodes = node_values(episodes)
    of_role = {
        (episode.group, episode.seed, turn.marks["node"]): turn.seat for episode in episodes for turn in episode.turns
    }
    found = sorted((of_role[place], values[of_role[place]]) for place, values in nodes.items())
    assert [role for role, _ in found] == [role for role, _ in expected]
    assert [much for _, much in found] == pytest.approx([much for _, much in expected])


@settings(max_examples=40, deadline=None)
@given(st.one_of(branches(0), chain(3)))
def test_sft_trains_each_node_that_is_worth_more_than_a_half_once(tree):
    expected = Counter((role, heard, said) for role, _, heard, said, much in everything(tree) if much > Fraction(1, 2))
    found = Counter()
    for agent, rows in sft_rows([Batch("", episodes_of(tree))], HALF).items():
        for row in rows:
            (at,) = row.targets
            found[agent, tuple(row.ids[:at].tolist()), int(row.ids[at])] += 1
    assert found == expected


def test_a_child_with_many_leaves_weighs_as_much_as_one_with_few():
    tree = [(1, [(1, [(1, 1), (2, 1), (3, 1)]), (2, 0)])]  # one verifier of 3 right refinements, one path that ended
    episodes = episodes_of(tree)
    assert np.mean([worth(episode, "generator") for episode in episodes]) == 0.75
    assert node_values(episodes)[0, 7, "0.0"]["generator"] == 0.5
    assert pairs_of([tree]) == Counter({("verifier", (9, 1), (1,), (2,), 1.0): 1})
    assert "generator" not in sft_rows([Batch("", episodes)], HALF)  # a half is not more than a half


def test_siblings_of_one_kind_make_no_pair():
    same = [(said, [(1, [(1, 1), (2, 0), (3, 1)])]) for said in (1, 2, 3)]
    assert {agent for agent, *_ in pairs_of([same])} == {"refiner"}
    assert pairs_of([[(said, [(1, [(1, 1), (2, 1)])]) for said in (1, 2)]]) == Counter()


def test_nodes_of_a_played_tree_have_the_values_that_its_rewards_give(chat):
    played = play(chat, plan_of(samples=3), groups=2, size=2)
    nodes = nodes_of(played)

    def of(node, seat, paid):
        paid += node.rewards[seat]
        if not node.children:
            return paid
        return sum(of(child, seat, paid) for child in node.children) / len(node.children)

    def before(node, seat):
        above = nodes.get((node.group, node.parent))
        return 0.0 if above is None else above.rewards[seat] + before(above, seat)

    for episode, values in zip(played, turn_values(played), strict=True):
        for turn, found in zip(episode.turns, values, strict=True):
            node = nodes[episode.group, turn.marks["node"]]
            assert found == pytest.approx(of(node, turn.seat, before(node, turn.seat)))


def test_without_a_tree_a_turn_is_worth_its_episode():
    (episode,) = episodes_of([(1, [(2, [(3, 1)])])])
    for turn in episode.turns:
        turn.marks = {}
    assert turn_values([episode]) == [[1.0, 1.0, 1.0]]
    episode.status = "partial"
    assert np.isnan(turn_values([episode])).all()
