"""The sampled distribution against a row-by-row reference, and draws from it against its frequencies."""

import math

import numpy as np
import pytest
import torch
from helpers import distribution, draw
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from marft.config import Sampling
from marft.sampling import pick, sampled_logprobs
from marft.seeds import uniforms

SETTINGS = [
    {},
    {"temperature": 0.7},
    {"temperature": 3.0, "top_k": 3},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 1000},
    {"top_p": 0.9},
    {"top_p": 1e-9},
    {"top_p": 0.999999},
    {"temperature": 0.7, "top_k": 5, "top_p": 0.9},
    {"temperature": 1.3, "top_k": 2, "top_p": 0.3},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_distribution_is_that_of_the_slow_reference(settings):
    logits = torch.randn(40, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 3
    logits[::4] = logits[::4].round()  # ties
    found = sampled_logprobs(logits, Sampling(**settings))
    for row, logp in zip(logits, found, strict=True):
        np.testing.assert_allclose(logp.exp().numpy(), distribution(row, **settings), atol=1e-12)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(40, dtype=torch.float64))


@given(
    st.lists(st.integers(-4, 4), min_size=2, max_size=12),
    st.floats(0.05, 5.0),
    st.integers(0, 14),
    st.sampled_from([1.0, 0.05, 0.33, 0.77, 0.95]),
)
def test_any_settings_give_the_references_distribution(row, temperature, top_k, top_p):
    logits = torch.tensor([row], dtype=torch.float64)
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    found = sampled_logprobs(logits, Sampling(**settings))[0]
    np.testing.assert_allclose(found.exp().numpy(), distribution(row, **settings), atol=1e-9)


def test_closed_forms():
    logits = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()

    def p(**settings):
        return pytest.approx(sampled_logprobs(logits, Sampling(**settings)).exp()[0].tolist(), abs=1e-12)

    assert p() == [0.5, 0.3, 0.2]
    assert p(temperature=0.5) == [25 / 38, 9 / 38, 4 / 38]
    assert p(top_k=2) == [5 / 8, 3 / 8, 0]
    assert p(top_p=0.6) == [5 / 8, 3 / 8, 0]
    assert p(top_p=0.45) == [1, 0, 0]
    assert p(top_k=2, top_p=0.62) == [1, 0, 0]  # after top-k the first has 5/8 of the mass


def test_of_equal_tokens_top_p_keeps_the_first_and_top_k_keeps_all():
    logits = torch.log(torch.tensor([[0.3, 0.4, 0.3]], dtype=torch.float64))
    assert sampled_logprobs(logits, Sampling(top_p=0.6))[0].isfinite().tolist() == [True, True, False]
    assert sampled_logprobs(logits, Sampling(top_k=2))[0].isfinite().tolist() == [True, True, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_normalised_in_float32(dtype):
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = sampled_logprobs(logits, Sampling(temperature=0.7))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(4))


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.7, "top_k": 5, "top_p": 0.9}], ids=str)
def test_picks_have_the_frequencies_of_the_distribution(settings):
    logits = torch.tensor([2.0, 1.0, 0.5, 0.4, 0.0, -1.0, -1.0, -3.0])
    expected = distribution(logits, **settings)
    count = 20_000
    logp = sampled_logprobs(logits.expand(count, -1), Sampling(**settings))
    noise = torch.from_numpy(uniforms(np.arange(count, dtype=np.uint64), 0))
    drawn = np.bincount(pick(logp, noise).numpy(), minlength=len(expected))
    assert drawn[expected == 0].sum() == 0
    kept = expected > 0
    assert stats.chisquare(drawn[kept], count * expected[kept]).pvalue > 1e-3


@given(
    st.lists(st.one_of(st.just(-math.inf), st.floats(-30, 5)), min_size=1, max_size=9).filter(
        lambda row: max(row) > -math.inf
    ),
    st.one_of(st.sampled_from([0.0, 2.0**-53, 0.5, 1 - 2.0**-53]), st.floats(0, 1, exclude_max=True)),
)
def test_a_pick_is_where_the_running_sum_passes_and_never_impossible(row, uniform):
    logp = torch.log_softmax(torch.tensor([row], dtype=torch.float64), -1)
    token = int(pick(logp, torch.tensor([uniform], dtype=torch.float64)))
    assert logp[0, token] > -math.inf
    p = logp[0].exp().numpy()
    reached = p.cumsum()
    assert reached[token] >= uniform - 1e-12
    assert token == draw(p, uniform) or abs(reached - uniform).min() < 1e-12  # on the edge either side is right
