"""Tables of several processes joined: the same credit as one process would have given."""

import numpy as np
import pytest

from marft.credit import advantages
from marft.train.gathering import Part, join


def table(groups, rng, marks=False):
    """Two turns an episode."""
    episode = np.repeat(np.arange(len(groups)), 2)
    columns = {
        "episode_U": episode,
        "group_U": np.repeat(groups, 2),
        "game_U": np.array(["g"] * len(episode)),
        "seat_U": np.array(["a", "b"] * len(groups)),
        "reward_U": rng.normal(size=len(episode)),
        "tokens_U": rng.integers(1, 4, len(episode)),
    }
    return columns | ({"side_U": np.array(["left"] * len(episode))} if marks else {})


@pytest.mark.parametrize("preset", ["rae", "rloo", "grpo"])
def test_credit_does_not_depend_on_who_played_what(preset):
    rng = np.random.default_rng(0)
    groups = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    whole = table(groups, rng)
    expected = advantages(preset, whole)
    rows = {rank: [n for n, group in enumerate(np.repeat(groups, 2)) if group % 2 == rank] for rank in (0, 1)}
    parts = []
    for rank, numbers in rows.items():
        own = {name: column[numbers] for name, column in whole.items()}
        own["episode_U"] = np.unique(own["episode_U"], return_inverse=True)[1]
        parts.append(Part(own, None, [group for group in groups if group % 2 == rank]))
    for rank, numbers in rows.items():
        batch = join(parts, rank)
        np.testing.assert_allclose(advantages(preset, batch.table)[batch.turns], expected[numbers], atol=1e-12)
        assert (
            batch.turn_N[batch.tokens].tolist()
            == np.repeat(np.arange(batch.turns.start, batch.turns.stop), whole["tokens_U"][numbers]).tolist()
        )


def test_a_process_without_episodes_and_columns_of_one_alone():
    rng = np.random.default_rng(1)
    empty = {name: column[:0] for name, column in table([0], rng).items()}
    parts = [Part(empty, np.zeros(0), []), Part(table([1, 3], rng, marks=True), np.arange(9.0), [1, 3])]
    batch = join(parts, 0)
    assert (batch.turns, batch.tokens) == (slice(0, 0), slice(0, 0))
    assert batch.table["side_U"].tolist() == ["left"] * 4
    assert join(parts, 1).turns == slice(0, 4)
    parts = [Part(table([0], rng), None, [0]), Part(table([1], rng, marks=True), None, [1])]
    assert join(parts, 1).table["side_U"].tolist() == ["", "", "left", "left"]
