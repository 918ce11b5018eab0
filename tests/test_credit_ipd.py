"""What the algorithms do to two memory-one players of the iterated prisoner's dilemma.

Each player has five logits of cooperation: at the start and after CC, CD, DC and DD (own move first). Exact gradients,
no model: credit alone decides where they go. Plain policy gradient must end in mutual defection; Advantage Alignment in
a grim, reciprocal strategy that keeps cooperating.
"""

import numpy as np
import pytest

from marft.credit import advantages

PAYOFF = np.array([[-1.0, -3.0], [0.0, -2.0]])  # mine by (my move, the other's); 0 cooperates


def play(cooperate_PS, rng, batch, steps):
    """States (what is remembered, 0 at the start) and moves, each (batch, steps, player)."""
    states, moves = (np.empty((batch, steps, 2), int) for _ in range(2))
    state = np.zeros((batch, 2), int)
    for step in range(steps):
        move = (rng.random((batch, 2)) >= cooperate_PS[[0, 1], state]).astype(int)
        states[:, step], moves[:, step] = state, move
        state = 1 + 2 * move + move[:, ::-1]
    return states, moves


def train(settings, seed, updates=300, batch=256, steps=16, rate=0.05):
    """Adam on the policy gradient. Returns P(C | state) (player, state) and the last batch's rate of cooperation."""
    rng = np.random.default_rng(seed)
    logits, first, second = (np.zeros((2, 5)) for _ in range(3))
    episode, step, seat = (index.ravel() for index in np.indices((batch, steps, 2)))
    table = {"episode_U": episode, "step_U": step, "seat_U": seat}
    for update in range(1, updates + 1):
        cooperate = 1 / (1 + np.exp(-logits))
        states, moves = play(cooperate, rng, batch, steps)
        reward = PAYOFF[moves, moves[..., ::-1]]
        advantage = advantages(settings, {**table, "reward_U": reward.ravel()})
        score = (moves.ravel() == 0) - cooperate[seat, states.ravel()]
        gradient = np.bincount(5 * seat + states.ravel(), advantage * score, 10).reshape(2, 5) / len(seat)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        logits += rate * (first / (1 - 0.9**update)) / (np.sqrt(second / (1 - 0.999**update)) + 1e-8)
    return 1 / (1 + np.exp(-logits)), np.mean(moves == 0)


def test_leave_one_out_policy_gradient_ends_in_defection():
    cooperate, rate = train({"preset": "rloo", "return": {"gamma": 0.9}}, seed=0)
    assert rate < 0.01
    assert np.all(cooperate[:, 0] < 0.02)
    assert np.all(cooperate[:, 4] < 0.01)


@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_advantage_alignment_ends_in_reciprocity(beta):
    cooperate, rate = train({"preset": "ad_align", "alignment": {"beta": beta}}, seed=0)
    start, after_cc, after_cd, after_dc, after_dd = cooperate.T
    assert np.all(start > 0.98)
    assert np.all(after_cc > 0.95)
    assert np.all(after_cd < 0.05)
    assert np.all(np.abs(after_dc - 0.1) < 0.08)
    assert np.all(after_dd < 0.02)
    assert rate > 0.65
