"""Seeds by place and uniforms by counter: the same everywhere, independent, flat."""

import subprocess
import sys

import numpy as np
from helpers import splitmix
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from marft.seeds import derive, uniforms

SEED = st.integers(0, 2**64 - 1)


def test_splitmix_gives_the_published_numbers():
    # The first outputs for the seed 1234567, as listed with the algorithm on Rosetta Code.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [splitmix(1234567, position) for position in range(4)] == [(value >> 11) / 2**53 for value in published]


@given(st.lists(st.tuples(SEED, st.integers(0, 100_000)), min_size=1, max_size=20))
def test_uniforms_are_splitmix64_of_seed_and_position(pairs):
    seeds, positions = np.array([seed for seed, _ in pairs], dtype=np.uint64), np.array([place for _, place in pairs])
    assert uniforms(seeds, positions).tolist() == [splitmix(seed, position) for seed, position in pairs]


@given(st.lists(SEED, min_size=1, max_size=20, unique=True), st.integers(0, 1000), st.randoms())
def test_a_uniform_does_not_depend_on_its_batch(seeds, position, rng):
    alone = {seed: uniforms(np.array([seed], dtype=np.uint64), position)[0] for seed in seeds}
    rng.shuffle(seeds)
    assert uniforms(np.array(seeds, dtype=np.uint64), position).tolist() == [alone[seed] for seed in seeds]


def test_uniforms_are_flat_over_seeds_and_over_positions():
    derived = np.array([derive(0, "turn", number) for number in range(20_000)], dtype=np.uint64)
    neighbours = np.arange(20_000, dtype=np.uint64)
    one = np.full(20_000, 42, dtype=np.uint64)
    for seeds, positions in [(derived, 0), (neighbours, 3), (one, np.arange(20_000))]:
        sample = uniforms(seeds, positions)
        assert sample.min() >= 0
        assert sample.max() < 1
        assert stats.kstest(sample, "uniform").pvalue > 1e-3


def test_neighbouring_positions_and_seeds_are_not_correlated():
    seeds = np.arange(20_000, dtype=np.uint64)
    first, second = uniforms(seeds, 0), uniforms(seeds, 1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03


def test_places_give_different_seeds_and_the_same_ones_in_another_process():
    places = [(update, group, seat) for update in range(20) for group in range(20) for seat in ("alice", "bob")]
    seeds = [derive(5, *place) for place in places]
    assert len(set(seeds)) == len(places)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(5, 1, 2) != derive(5, 12) != derive(51, 2)
    code = "from marft.seeds import derive; print(derive(5, 3, 4, 'bob'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(other) == derive(5, 3, 4, "bob")
