"""IGPO's reward on real play, recomputed turn by turn; F1 by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_update import Plain
from trainer_fixtures import Rig

from marft.credit.gain import answer_probability
from marft.credit.gain import information_gain as gain_of_columns
from marft.errors import RewardError
from marft.rewards import load_reward
from marft.rewards.information_gain import f1
from marft.scoring import Scorer
from marft.train.rewarding import score_all
from marft.train.table import turn_table

BANDIT = "game={name: bandit, best: [0, 1, 1, 0]}"
PREFIX = "The answer is "


@pytest.fixture(scope="module")
def rig():
    return Rig(BANDIT, "model.dtype=float64", "train.gap_limit=1e9", "rollout={groups: 2, group_size: 2}", shaken=0.3)


@pytest.fixture(scope="module")
def plain(rig, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return {name: Plain(rig, name, folder / name) for name in rig.learners}


@pytest.fixture
def episodes(rig):
    return rig.play()


def pay(rig, episodes, budget=4096, **options):
    scorer = Scorer(rig.bank, budget, rig.base.chat.plain)
    score_all(episodes, {"gain": (load_reward("information_gain", options), 1.0)}, scorer)
    return [episode.terms["gain"] for episode in episodes]


def belief(model, context, truth):
    """exp of the mean log-prob of the true answer's ids after a context: one pass over all logits."""
    with torch.no_grad():
        logits = model.model(torch.tensor([context + truth])).logits[0]
    logp = torch.log_softmax(logits, -1)[range(len(context) - 1, len(context) + len(truth) - 1), truth]
    return math.exp(float(logp.mean()))


def beliefs(rig, plain, episode, seat, prefix=""):
    """Before each of the seat's turns."""
    lead = list(rig.base.chat.plain(prefix))
    truth = list(rig.base.chat.plain("<A> <B> <B> <A>"))
    found = []
    for turn, _ in episode.contexts(seat):
        turns = list(episode.turns_of(seat))
        heard = [t for earlier in turns[: turns.index(turn)] for t in earlier.prompt_ids + earlier.completion_ids]
        found.append(belief(plain[turn.agent], heard + turn.prompt_ids + lead, truth))
    return found


@pytest.mark.parametrize(("prefix", "budget"), [("", 4096), (PREFIX, 64)])
def test_a_turn_is_paid_what_it_added_to_the_probability_of_the_true_answer(rig, plain, episodes, prefix, budget):
    paid = pay(rig, episodes, budget, prefix=prefix)
    largest = 0.0
    for episode, term in zip(episodes, paid, strict=True):
        assert episode.facts["answer"] == "<A> <B> <B> <A>"
        assert set(term) == {"alice", "bob"}
        for seat, values in term.items():
            before = beliefs(rig, plain, episode, seat, prefix)
            gains = [later - now for now, later in pairwise(before)]
            last = list(episode.turns_of(seat))[-1].text
            np.testing.assert_allclose(values, [*gains, f1(last, episode.facts["answer"])], rtol=1e-6, atol=1e-12)
            largest = max(largest, *map(abs, gains))
    assert largest > 1e-9


def test_the_gain_of_columns_says_the_same(rig, plain, episodes):
    """marft.credit.gain computes it from a turn table; the belief after a turn is the one before the next."""
    paid = pay(rig, episodes)
    table = turn_table(episodes)
    after_U, before_U, outcome_U = (np.zeros(len(table["reward_U"])) for _ in range(3))
    place = 0
    for episode in episodes:
        found = {seat: beliefs(rig, plain, episode, seat) for seat in episode.seats}
        for turn in episode.turns:
            after_U[place] = math.log((found[turn.seat] + [0.5])[turn.step + 1])
            before_U[place] = math.log(found[turn.seat][turn.step])
            outcome_U[place] = f1(turn.text, "<A> <B> <B> <A>")
            place += 1
    reward_U = gain_of_columns(table | {"answer_logp_U": after_U}, before_U, outcome_U)
    expected = [
        term[turn.seat][turn.step] for episode, term in zip(episodes, paid, strict=True) for turn in episode.turns
    ]
    np.testing.assert_allclose(reward_U, expected, rtol=1e-6, atol=1e-12)


def test_the_probability_of_an_answer_is_the_geometric_mean_over_its_tokens():
    logp = np.log([0.5, 0.5, 0.125, 0.9])
    np.testing.assert_allclose(answer_probability(logp, [0, 0, 0, 1]), [(0.5 * 0.5 * 0.125) ** (1 / 3), 0.9])


def test_the_outcome_may_be_the_games_payoff(rig, plain, episodes):
    by_f1, by_payoff = pay(rig, episodes), pay(rig, episodes, outcome="payoff")
    for episode, one, other in zip(episodes, by_f1, by_payoff, strict=True):
        for seat in episode.seats:
            assert one[seat][:-1] == pytest.approx(other[seat][:-1])
            assert other[seat][-1] == sum(step[seat] for step in episode.rewards)


def test_a_missing_answer_is_an_error_that_says_what_the_facts_hold(rig, episodes):
    episodes[1].facts = {"truth": "<A>"}
    with pytest.raises(
        RewardError, match=r"reward gain raised ValueError: .*no text under 'answer'.*\{'truth': '<A>'\}"
    ):
        pay(rig, episodes)
    with pytest.raises(RewardError, match="no text under 'solution'"):
        pay(rig, episodes[:1], answer="solution")
    for wrong in ("", 3, None):
        episodes[0].facts = {"answer": wrong}
        with pytest.raises(RewardError, match="the true answer; facts"):
            pay(rig, episodes[:1])
    episodes[0].facts, episodes[1].facts = {"truth": "x"}, {"truth": "y"}
    assert len(pay(rig, episodes[:2], answer="truth")) == 2


def test_only_seats_of_learners_are_asked_and_paid():
    rig = Rig(BANDIT, "agents={alice: {}}", "team={alice: alice, bob: {scripted: best}}")
    for term in pay(rig, rig.play()):
        assert set(term) == {"alice"}
    rig = Rig(BANDIT, "agents={alice: {}}", "team={alice: {frozen: base}, bob: alice}")
    for term in pay(rig, rig.play()):
        assert set(term) == {"bob"}


def test_the_preset_learns_from_it(rig, episodes):
    pay(rig, episodes)
    for episode in episodes:
        del episode.terms["payoff"]
    table = turn_table(episodes)
    np.testing.assert_array_equal(table["reward_U"], table["gain_U"])
    assert np.abs(table["gain_U"]).max() > 0


@pytest.mark.parametrize(
    ("said", "truth", "expected"),
    [
        ("the cat", "the cat", 1.0),
        ("The CAT!", "the cat", 1.0),
        ("a dog", "the cat", 0.0),
        ("", "the cat", 0.0),
        ("the", "the cat", 2 * 1 * 0.5 / 1.5),
        ("the the the", "the cat", 2 * (1 / 3) * 0.5 / (1 / 3 + 0.5)),
        ("cat and the mat", "the cat", 2 * 0.5 * 1 / 1.5),
        ("<A> <A>", "<A> <B> <B> <A>", 2 * 1 * 0.5 / 1.5),
    ],
)
def test_f1_by_hand(said, truth, expected):
    assert f1(said, truth) == pytest.approx(expected)


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
def test_f1_is_symmetric_bounded_and_one_only_for_the_same_words(said, truth):
    value = f1(" ".join(said), " ".join(truth))
    assert value == pytest.approx(f1(" ".join(truth), " ".join(said)))
    assert 0 <= value <= 1
    assert (value == 1) is (sorted(said) == sorted(truth))
