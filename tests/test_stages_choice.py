"""What the offline stages choose from recorded episodes, against plain loops over everything."""

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_play import by_seed, nodes_of, plan_of, play

from marft.episode import Episode, Turn
from marft.errors import RecipeError
from marft.stages.pairs import at_most, preference_pairs
from marft.stages.select import Filters, read_steps, sft_rows, worth
from marft.stages.sources import Batch

SEATS, TEAM = ("a", "b"), {"a": "x", "b": "y"}
IDS = st.lists(st.integers(1, 2), min_size=1, max_size=2)


@st.composite
def episodes(draw):
    """One episode: few ids, so that contexts and completions often meet; rewards are halves, so that sums are exact."""
    turns = []
    steps = draw(st.integers(1, 3))
    for step in range(steps):
        for order, seat in enumerate(SEATS):
            if draw(st.integers(0, 3)):
                said = draw(IDS) if draw(st.integers(0, 5)) else []  # a scripted player's turn has no ids
                agent = TEAM[seat] if said else None
                fresh = seat not in {turn.seat for turn in turns} or not draw(st.integers(0, 3))
                rest = {"prompt_ids": draw(IDS), "completion_ids": said, "logprobs": [-1.0] * len(said)}
                invalid = not draw(st.integers(0, 3))
                turns.append(Turn(seat, step, order, TEAM[seat], "", agent=agent, fresh=fresh, invalid=invalid, **rest))
    for seat in SEATS:  # a policy is a script or a model for a whole episode
        if any(turn.agent is None for turn in turns if turn.seat == seat):
            for turn in turns:
                if turn.seat == seat:
                    turn.agent, turn.completion_ids, turn.logprobs = None, [], []
    halves = st.integers(-2, 2).map(lambda number: number / 2)
    rewards = [{seat: draw(halves) for seat in SEATS} for _ in range(steps)]
    terms = {"payoff": {seat: [step[seat] for step in rewards] for seat in SEATS}} if draw(st.booleans()) else {}
    group = draw(st.integers(0, 1))
    status = draw(st.sampled_from(["done", "done", "done", "partial", "failed"]))
    rest = {"turns": turns, "rewards": rewards, "terms": terms, "status": status}
    return Episode("e", "g", SEATS, TEAM, 40 + group, group=group, **rest)


BATCHES = st.lists(st.lists(episodes(), min_size=1, max_size=8), min_size=1, max_size=2).map(
    lambda found: [Batch(str(number), one) for number, one in enumerate(found)]
)


def filters():
    return st.builds(
        Filters,
        seats=st.sampled_from([None, {"a": "y"}, {"a": "x", "b": "x"}]),
        reward=st.sampled_from(["own", "team"]),
        min_reward=st.none() | st.sampled_from([-0.5, 0.0, 1.0]),
        top_share=st.none() | st.sampled_from([0.3, 0.5, 1.0]),
        only_seats=st.sampled_from([(), ("a",), ("b",)]),
        steps=st.sampled_from([(0, math.inf), (1, 1), (1, math.inf)]),
        valid_only=st.booleans(),
    )


def earned(episode, seat, reward, step=None):
    seats = SEATS if reward == "team" else [seat]
    steps = range(len(episode.rewards)) if step is None else [step]
    return sum(Fraction(episode.rewards[number][one]) for one in seats for number in steps)


def everything(batches, chosen, states):
    """Every turn that the filters of turns let through: batch, number of the episode, episode, agent, turn, context."""
    for batch in batches:
        for number, episode in enumerate(one for one in batch.episodes if one.status in states):
            for seat in SEATS:
                ids = []
                for turn in episode.turns:
                    if turn.seat != seat:
                        continue
                    ids = [*([] if turn.fresh else ids), *turn.prompt_ids]
                    context, ids = tuple(ids), ids + turn.completion_ids
                    agent = turn.agent if chosen.seats is None else chosen.seats.get(seat)
                    if (
                        not turn.completion_ids
                        or agent is None
                        or (chosen.only_seats and seat not in chosen.only_seats)
                    ):
                        continue
                    if chosen.steps[0] <= turn.step <= chosen.steps[1] and not (chosen.valid_only and turn.invalid):
                        yield batch, number, episode, agent, turn, context


def passes(batch, number, episode, seat, chosen):
    """Whether an episode is good enough for a seat, by counting those that are better."""
    played = [one for one in batch.episodes if one.status == "done"]
    own = earned(episode, seat, chosen.reward)
    if chosen.min_reward is not None and own < chosen.min_reward:
        return False
    if chosen.top_share is None:
        return True
    others = [(n, earned(one, seat, chosen.reward)) for n, one in enumerate(played) if one.group == episode.group]
    better = sum(value > own or (value == own and n < number) for n, value in others)
    return better < math.ceil(chosen.top_share * len(others))


@settings(max_examples=150)
@given(BATCHES, filters())
def test_rows_train_the_completions_that_pass_each_after_its_whole_context(batches, chosen):
    expected = Counter(
        (agent, context, tuple(turn.completion_ids))
        for batch, number, episode, agent, turn, context in everything(batches, chosen, {"done"})
        if passes(batch, number, episode, turn.seat, chosen)
    )
    found = Counter()
    for agent, rows in sft_rows(batches, chosen).items():
        for row in rows:
            assert row.targets[-1] == len(row.ids) - 1
            for turn in dict.fromkeys(row.turn.tolist()):
                span = row.targets[row.turn == turn]
                assert span.tolist() == list(range(span[0], span[-1] + 1))
                found[agent, tuple(row.ids[: span[0]].tolist()), tuple(row.ids[span].tolist())] += 1
    assert found == expected


@settings(max_examples=200)
@given(BATCHES, filters(), st.sampled_from([0.0, 0.5, 1.25]), st.sampled_from(["return", "step"]))
def test_pairs_are_all_that_a_search_over_every_two_turns_finds(batches, chosen, margin, by):
    states = {"done"} if by == "return" else {"done", "partial"}
    situations = {}
    for batch, _, episode, agent, turn, context in everything(batches, chosen, states):
        value = earned(episode, turn.seat, chosen.reward, turn.step if by == "step" else None)
        place = (batch.source, agent, turn.seat, episode.group, context)
        situations.setdefault(place, []).append((tuple(turn.completion_ids), value))
    expected = Counter()
    for (_, agent, seat, _, context), turns in situations.items():
        seen = set()
        for one, _ in turns:
            for other, _ in turns:
                if one == other or (one, other) in seen:
                    continue
                seen.add((one, other))
                means = []
                for said in (one, other):
                    values = [value for ids, value in turns if ids == said]
                    means.append(sum(values) / len(values))
                if means[0] > means[1] and means[0] - means[1] >= Fraction(margin):
                    expected[agent, seat, context, one, other, round(float(means[0] - means[1]), 9)] += 1
    found = Counter(
        (agent, pair.seat, pair.prompt, pair.chosen, pair.rejected, round(pair.gap, 9))
        for agent, pairs in preference_pairs(batches, chosen, margin=margin, by=by).items()
        for pair in pairs
    )
    assert found == expected


def test_a_completion_of_a_tree_is_worth_the_mean_of_its_leaves_and_is_trained_once(chat):
    played = play(chat, plan_of(samples=3), groups=2, size=2)
    nodes, seats = nodes_of(played), {"alice": "left", "bob": "right"}
    leaves = {}  # (group, parent, seat, completion) -> numbers of the paths through it
    for (group, _), node in nodes.items():
        for seat, (_, ids, _) in node.texts.items():
            leaves.setdefault((group, node.parent, seat, ids), set()).update(node.paths)
    returns = [worth(episode, seat) for episode in played for seat in ("left", "right")]
    means = {
        place: sum(returns[2 * number + ("left", "right").index(place[2])] for number in paths) / len(paths)
        for place, paths in leaves.items()
    }
    expected = Counter()
    for one, value in means.items():
        for other, less in means.items():
            if one[:3] == other[:3] and value - less > 1e-9:
                expected[one[2], one[3], other[3], round(value - less, 9)] += 1
    pairs = preference_pairs([Batch("", played)], Filters())
    found = Counter((p.seat, p.chosen, p.rejected, round(p.gap, 9)) for own in pairs.values() for p in own)
    assert found == expected
    assert found

    drawn = {
        (episode.group, turn.marks["parent"], turn.seat, turn.marks["sample"]): len(turn.completion_ids)
        for episode in played
        for turn in episode.turns
    }
    trained = {
        agent: sum(len(row.targets) for row in rows) for agent, rows in sft_rows([Batch("", played)], Filters()).items()
    }
    for agent, seat in seats.items():
        assert trained[agent] == sum(size for place, size in drawn.items() if place[2] == seat)


def test_paths_that_were_not_played_on_count_by_what_they_paid_at_once(chat):
    played = play(chat, plan_of("per_state", samples=3), groups=2, say=by_seed)
    batches = [Batch("", played)]
    assert {episode.status for episode in played} == {"done", "partial"}
    assert sum(map(len, preference_pairs(batches, Filters()).values())) == 0
    by_step = preference_pairs(batches, Filters(), by="step")
    assert sum(map(len, by_step.values())) > 0


def test_max_pairs_are_drawn_by_the_seed(chat):
    pairs = preference_pairs([Batch("", play(chat, plan_of(samples=3), groups=2))], Filters())
    drawn = at_most(pairs, 5, 1)
    assert {agent: len(own) for agent, own in drawn.items()} == {"alice": 5, "bob": 5}
    assert drawn == at_most(pairs, 5, 1) != at_most(pairs, 5, 2)
    assert at_most(pairs, None, 1) == at_most(pairs, 10**6, 1) == pairs


@pytest.mark.parametrize(
    ("text", "steps"), [(None, (0, math.inf)), ("3", (3, 3)), ("2-5", (2, 5)), ("2-", (2, math.inf))]
)
def test_steps_are_read(text, steps):
    assert read_steps(text) == steps


@pytest.mark.parametrize("text", ["", "-", "x", "5-2", "-3", "1-2-3", "1.5"])
def test_steps_that_are_none_are_refused(text):
    with pytest.raises(RecipeError, match="--steps"):
        read_steps(text)
