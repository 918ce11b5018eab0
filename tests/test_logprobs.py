"""Token scores against whole logits in plain float64, and what is alive while they are made."""

import math
import weakref

import numpy as np
import pytest
import torch
from helpers import distribution
from hypothesis import given, settings
from hypothesis import strategies as st
from trainer_fixtures import Rig, distance

from marft import logprobs
from marft.config import Sampling
from marft.logprobs import token_scores

TOKENS, WIDTH, VOCABULARY = 7, 4, 11


class LinearHead:
    """A head as models have them, which keeps weak references to the logits it made."""

    def __init__(self, scale=1.0, softcap=None, trained=False, dtype=torch.float64):
        weight = 2 * torch.randn(VOCABULARY, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        self.weight = weight.to(dtype).requires_grad_(trained)
        self.scale, self.softcap = scale, softcap
        self.made, self.alive = [], []

    def __call__(self, hidden):
        self.made = [ref for ref in self.made if ref() is not None]
        logits = hidden @ self.weight.T * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        self.made.append(weakref.ref(logits))
        self.alive.append(sum(len(ref()) for ref in self.made))
        return logits


HEADS = {
    "plain": {},
    "scaled": {"scale": 0.25},
    "capped": {"softcap": 2.0},
    "trained": {"trained": True},
    "trained and capped": {"trained": True, "scale": 3.0, "softcap": 5.0},
}
SAMPLINGS = [{}, {"temperature": 0.6}, {"top_k": 3}, {"top_p": 0.7}, {"temperature": 1.7, "top_k": 5, "top_p": 0.8}]


def inputs(tokens=TOKENS, dtype=torch.float64, seed=0):
    """Hidden states, targets, and what the loss's derivatives by log-prob and entropy are."""
    generator = torch.Generator().manual_seed(seed)
    hidden, logp_weight, entropy_weight = (
        torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((tokens, WIDTH), tokens, tokens)
    )
    target = torch.randint(VOCABULARY, (tokens,), generator=generator)
    return hidden.to(dtype).requires_grad_(), target, logp_weight, entropy_weight


def plain(head, hidden, target, temperature):
    """Log-probs and entropies as autograd has them from the whole logits."""
    whole = torch.distributions.Categorical(logits=head(hidden) / temperature)
    return whole.log_prob(target), whole.entropy()


def at_once(monkeypatch, tokens):
    monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", tokens * VOCABULARY)


@pytest.mark.parametrize("rows", [1, 2, 3, 6, 7, 100])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("kind", HEADS)
def test_scores_and_gradients_are_those_of_the_whole_logits(kind, sampling, rows, monkeypatch):
    at_once(monkeypatch, rows)
    sampling = Sampling(**sampling)
    head = LinearHead(**HEADS[kind])
    hidden, target, by_logp, by_entropy = inputs()
    leaves = [tensor for tensor in (hidden, head.weight) if tensor.requires_grad]
    logp, entropy = plain(head, hidden, target, sampling.temperature)
    for bonus in (False, True):
        found = token_scores(head, hidden, target, sampling, vocabulary=VOCABULARY, entropy_gradient=bonus)
        torch.testing.assert_close(found.logp_N, logp)
        torch.testing.assert_close(found.entropy_N, entropy)
        assert found.entropy_N.requires_grad == bonus
        assert not found.sampled_N.requires_grad
        loss, expected = (by_logp * found.logp_N).sum(), (by_logp * logp).sum()
        if bonus:
            loss, expected = loss + (by_entropy * found.entropy_N).sum(), expected + (by_entropy * entropy).sum()
        ours, theirs = (torch.autograd.grad(sum_, leaves, retain_graph=True) for sum_ in (loss, expected))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rows", [2, 100])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("kind", ["plain", "trained"])
def test_sampled_is_the_log_prob_over_the_mass_that_truncation_keeps(kind, sampling, rows, monkeypatch):
    at_once(monkeypatch, rows)
    head = LinearHead(**HEADS[kind])
    hidden, target, *_ = inputs()
    found = token_scores(head, hidden, target, Sampling(**sampling), vocabulary=VOCABULARY).sampled_N
    for logits, token, sampled in zip(head(hidden).detach(), target, found, strict=True):
        whole = distribution(logits, sampling.get("temperature", 1.0))
        kept = distribution(logits, **sampling) > 0
        assert float(sampled) == pytest.approx(math.log(whole[token] / whole[kept].sum()), abs=1e-12)


@pytest.mark.parametrize("rows", [2, 100])
@pytest.mark.parametrize("kind", HEADS)
def test_gradients_are_those_of_finite_differences(kind, rows, monkeypatch):
    at_once(monkeypatch, rows)
    head = LinearHead(**HEADS[kind])
    hidden, target, *_ = inputs(4)

    def scores(hidden, weight):
        head.weight = weight
        return token_scores(
            head, hidden, target, Sampling(temperature=0.8), vocabulary=VOCABULARY, entropy_gradient=True
        )[:2]

    torch.autograd.gradcheck(scores, (hidden, head.weight))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-40, 40), min_size=5, max_size=5), min_size=1, max_size=4),
    st.integers(0, 4),
    st.floats(0.2, 4.0),
)
def test_closed_forms_of_log_prob_entropy_and_their_gradients(rows, token, temperature):
    """On logits themselves (the head hands them on): onehot − p, and −p (log p + H), both over the temperature."""
    logits = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    target = torch.full((len(rows),), token)
    found = token_scores(
        lambda hidden: hidden, logits, target, Sampling(temperature=temperature), vocabulary=5, entropy_gradient=True
    )
    z = np.array(rows) / temperature
    logp = z - z.max(-1, keepdims=True)
    logp = logp - np.log(np.exp(logp).sum(-1, keepdims=True))
    p, entropy = np.exp(logp), -(np.exp(logp) * logp).sum(-1)
    close = {"atol": 1e-11, "rtol": 1e-9}
    np.testing.assert_allclose(found.logp_N.detach(), logp[:, token], **close)
    np.testing.assert_allclose(found.entropy_N.detach(), entropy, **close)
    (by_logp,) = torch.autograd.grad(found.logp_N.sum(), logits)
    (by_entropy,) = torch.autograd.grad(found.entropy_N.sum(), logits)
    np.testing.assert_allclose(by_logp, (np.eye(5)[token] - p) / temperature, **close)
    np.testing.assert_allclose(by_entropy, -p * (logp + entropy[:, None]) / temperature, **close)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.5, "top_k": 4, "top_p": 0.9}], ids=str)
@pytest.mark.parametrize(("kind", "times"), [("capped", 1), ("trained", 2)])
def test_no_logits_beyond_one_chunk_are_ever_alive(kind, times, sampling, monkeypatch):
    at_once(monkeypatch, 3)
    head = LinearHead(**HEADS[kind])
    hidden, target, *_ = inputs(20)
    scores = token_scores(head, hidden, target, Sampling(**sampling), vocabulary=VOCABULARY, entropy_gradient=True)
    assert not any(ref() is not None and len(ref()) for ref in head.made)  # none waits for the backward pass
    (scores.logp_N.sum() + scores.entropy_N.sum()).backward()
    assert max(head.alive) == 3
    assert len([rows for rows in head.alive if rows]) == times * 7  # a head that is not trained computes once


@pytest.mark.parametrize("kind", ["plain", "trained"])
def test_nothing_of_the_logits_size_waits_for_the_backward_pass(kind, monkeypatch):
    at_once(monkeypatch, 3)
    kept = []
    head = LinearHead(**HEADS[kind])
    hidden, target, *_ = inputs(20)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        token_scores(head, hidden, target, Sampling(), vocabulary=VOCABULARY, entropy_gradient=True)
    assert not [t.shape for t in kept if t.shape[-1] == VOCABULARY and t.data_ptr() != head.weight.data_ptr()]


@pytest.mark.parametrize("kind", ["plain", "trained"])
def test_without_gradients_nothing_is_kept_and_the_numbers_are_the_same(kind, monkeypatch):
    at_once(monkeypatch, 3)
    head = LinearHead(**HEADS[kind])
    hidden, target, *_ = inputs()
    graded = token_scores(head, hidden, target, Sampling(top_k=2), vocabulary=VOCABULARY, entropy_gradient=True)
    with torch.no_grad():
        found = token_scores(head, hidden, target, Sampling(top_k=2), vocabulary=VOCABULARY, entropy_gradient=True)
    for one, other in zip(found, graded, strict=True):
        assert not one.requires_grad
        torch.testing.assert_close(one, other.detach())
    detached = token_scores(LinearHead(), hidden.detach(), target, Sampling(), vocabulary=VOCABULARY)
    assert not detached.logp_N.requires_grad


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_no_tokens_have_no_scores_and_no_gradient(kind, sampling):
    hidden, target, *_ = inputs(0)
    scores = token_scores(
        LinearHead(**HEADS[kind]), hidden, target, Sampling(**sampling), vocabulary=VOCABULARY, entropy_gradient=True
    )
    assert [len(column) for column in scores] == [0, 0, 0]
    (scores.logp_N.sum() + scores.entropy_N.sum()).backward()
    assert hidden.grad.shape == (0, WIDTH)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.6}, {"top_k": 3}], ids=str)
def test_half_precision_logits_are_scored_in_float32(sampling):
    head = LinearHead(dtype=torch.bfloat16)
    hidden, target, by_logp, _ = inputs(dtype=torch.bfloat16)
    found = token_scores(head, hidden, target, Sampling(**sampling), vocabulary=VOCABULARY)
    assert {column.dtype for column in found} == {torch.float32}
    logits = head(hidden.detach()).double().requires_grad_()
    logp, entropy = plain(lambda whole: whole, logits, target, sampling.get("temperature", 1.0))
    torch.testing.assert_close(found.logp_N.double(), logp, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(found.entropy_N.double(), entropy, atol=1e-5, rtol=1e-6)
    (ours,) = torch.autograd.grad((by_logp * found.logp_N).sum(), hidden)
    assert ours.dtype == torch.bfloat16
    (by_logits,) = torch.autograd.grad((by_logp * logp).sum(), logits)
    expected = by_logits @ head.weight.double()
    assert float((ours.double() - expected).abs().max()) < 0.02 * float(expected.abs().max())


def test_huge_logits_stay_finite():
    hidden = torch.tensor([[1e4, 0.0, -1e4], [3e38, 0.0, 0.0]], requires_grad=True)
    scores = token_scores(
        lambda hidden: hidden, hidden, torch.tensor([2, 0]), Sampling(), vocabulary=3, entropy_gradient=True
    )
    assert scores.logp_N.tolist() == [-2e4, 0.0]
    assert scores.entropy_N.tolist() == [0.0, 0.0]
    (scores.logp_N + scores.entropy_N).sum().backward()
    assert hidden.grad.tolist() == [[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_a_token_outside_of_the_kept_ones_has_a_finite_score():
    hidden = torch.tensor([[2.0, 1.0, 0.0]])
    sampled = token_scores(lambda h: h, hidden, torch.tensor([2]), Sampling(top_k=1), vocabulary=3).sampled_N
    assert float(sampled) == pytest.approx(-2.0)  # as if rounding had made it the likeliest: z_2 − z_0


def test_a_lora_adapter_on_the_head_gets_its_gradient_however_tokens_are_cut(monkeypatch):
    exact = ("model.dtype=float64", "optimizer.max_grad_norm=1e9", "train.gap_limit=1e9", "algorithm.entropy=0.1")
    found = []
    for logits in (1 << 24, 7 * 400):
        monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", logits)
        rig = Rig(*exact, "adapter.targets=[q_proj, lm_head]")
        found.append(rig.gradient("alice", rig.rows(rig.play())["alice"])[0])
    assert all(float(gradient.abs().max()) > 0 for name, gradient in found[0].items() if "lm_head" in name)
    assert any("lm_head" in name for name in found[0])
    assert distance(found[1], found[0]) < 1e-9
