"""The policy loss: reference numbers, gradients, a per-token slow reference, and exact splits into micro-batches."""

import json
from math import exp, expm1
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from marft.blocks import KL, Aggregate, Algorithm, OffPolicy, Ratio
from marft.credit import PRESETS
from marft.loss import Totals, count_totals, policy_loss, token_weights

RATIO_KINDS = ["none", "token"]
KL_KINDS = ["k1", "k2", "k3"]
AGGREGATES = ["token_mean", "row_mean", "turn_mean"]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def example(seed=0, n=12):
    """Tokens of 3 rows and 5 turns, as keyword arguments of policy_loss (in float64) and ids."""
    rng = torch.Generator().manual_seed(seed)

    def normal(scale):
        return scale * torch.randn(n, generator=rng, dtype=torch.float64)

    logp = -1.5 + normal(0.5)
    tokens = {"logp_N": logp, "old_N": logp + normal(0.3), "engine_N": logp + normal(0.6), "ref_N": logp + normal(0.4)}
    tokens |= {"advantage_N": normal(1.0), "entropy_N": normal(1.0).abs()}
    row_N = torch.tensor([0, 0, 0, 0, 0, 7, 7, 7, 7, 9, 9, 9])
    turn_N = torch.tensor([0, 0, 3, 3, 3, 4, 4, 4, 4, 5, 6, 6])
    return tokens, row_N, turn_N


def composed(ratio="none", kl="k3", off_policy="truncate", kl_coef=0.05, entropy=0.02):
    return Algorithm(
        ratio=Ratio(kind=ratio, clip_low=0.1, clip_high=0.3),
        kl=KL(kind=kl, coef=kl_coef),
        off_policy=OffPolicy(kind=off_policy, cap=1.3),
        entropy=entropy,
    )


def test_ad_align_preset_gives_the_numbers_of_the_reference_loss():
    cases = json.loads((Path(__file__).parent / "vectors" / "adalign_llm.json").read_text())["cases"]
    case = next(case for case in cases if case["title"].startswith("transcribed loss"))
    mask = torch.tensor(case["mask"])
    logp_N, engine_N, advantage_N, ref_N, tis_N = (
        tensor(case[name])[mask] for name in ("logp", "engine_logp", "credits", "ref", "tis")
    )
    weight_N = token_weights(Aggregate(), *torch.where(mask), dtype=torch.float64)
    algorithm = PRESETS["ad_align"].settings
    loss, report = policy_loss(algorithm, logp_N, None, engine_N, ref_N, advantage_N, weight_N, None)
    assert report["policy"].item() == pytest.approx(case["pg_loss"], rel=1e-6)
    assert algorithm.kl.coef * report["kl"].item() == pytest.approx(case["kl_term"], rel=1e-5)
    assert loss.item() == pytest.approx(case["pg_loss"] + case["kl_term"], rel=1e-6)
    assert report["off_policy_weight"].item() == pytest.approx(tis_N.mean().item(), rel=1e-6)
    assert report["gap"].item() == pytest.approx((logp_N - engine_N).abs().mean().item())
    assert report["gap_max"].item() == pytest.approx(1.4)


def slow_token(algorithm, logp, old, engine, ref, advantage, entropy):
    """Loss of one token and its derivative by log π, from the definitions, in plain floats."""
    if algorithm.ratio.kind == "none":
        old = logp
    tis = min(exp(old - engine), algorithm.off_policy.cap) if algorithm.off_policy.kind == "truncate" else 1.0
    if algorithm.ratio.kind == "none":
        value, slope = -advantage * logp, -advantage
    else:
        ratio = exp(logp - old)
        bounded = min(max(ratio, 1 - algorithm.ratio.clip_low), 1 + algorithm.ratio.clip_high)
        clipped = bounded * advantage < ratio * advantage
        value, slope = -(bounded if clipped else ratio) * advantage, 0.0 if clipped else -ratio * advantage
    x = ref - logp
    kl, kl_slope = {"k1": (-x, 1.0), "k2": (x * x / 2, -x), "k3": (expm1(x) - x, -expm1(x))}[algorithm.kl.kind]
    coef = algorithm.kl.coef
    return tis * (value + coef * kl) - algorithm.entropy * entropy, tis * (slope + coef * kl_slope)


@pytest.mark.parametrize("off_policy", ["none", "truncate"])
@pytest.mark.parametrize("kl", KL_KINDS)
@pytest.mark.parametrize("ratio", RATIO_KINDS)
def test_loss_and_gradient_agree_with_a_token_at_a_time(ratio, kl, off_policy):
    algorithm = composed(ratio, kl, off_policy)
    tokens, row_N, turn_N = example()
    weight_N = token_weights(Aggregate(kind="turn_mean"), row_N, turn_N, dtype=torch.float64)
    tokens["logp_N"].requires_grad_()
    loss, _ = policy_loss(algorithm, **tokens, weight_N=weight_N)
    loss.backward()
    lists = [tokens[name].tolist() for name in ("logp_N", "old_N", "engine_N", "ref_N", "advantage_N", "entropy_N")]
    slow = [slow_token(algorithm, *values) for values in zip(*lists, strict=True)]
    weights = weight_N.tolist()
    assert loss.item() == pytest.approx(sum(w * value for w, (value, _) in zip(weights, slow, strict=True)), rel=1e-12)
    expected = tensor([w * slope for w, (_, slope) in zip(weights, slow, strict=True)])
    torch.testing.assert_close(tokens["logp_N"].grad, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kl", KL_KINDS)
def test_gradients_of_the_ratio_loss_are_those_of_its_values(kl):
    # Only with a ratio: without one the old policy is the current one, detached, and finite differences move both.
    tokens, row_N, turn_N = example(seed=1)
    weight_N = token_weights(Aggregate(), row_N, turn_N, dtype=torch.float64)
    algorithm = composed("token", kl)

    def loss_of(logp_N, entropy_N):
        return policy_loss(algorithm, **{**tokens, "logp_N": logp_N, "entropy_N": entropy_N}, weight_N=weight_N)[0]

    inputs = tokens["logp_N"].clone().requires_grad_(), tokens["entropy_N"].clone().requires_grad_()
    assert torch.autograd.gradcheck(loss_of, inputs)


def test_gradients_without_ratio_are_those_of_its_values_where_nothing_is_detached():
    tokens, row_N, turn_N = example(seed=2)
    weight_N = token_weights(Aggregate(), row_N, turn_N, dtype=torch.float64)
    algorithm = composed("none", off_policy="none")

    def loss_of(logp_N):
        return policy_loss(algorithm, **{**tokens, "logp_N": logp_N}, weight_N=weight_N)[0]

    assert torch.autograd.gradcheck(loss_of, (tokens["logp_N"].clone().requires_grad_(),))


@pytest.mark.parametrize("ratio", RATIO_KINDS)
def test_only_the_current_policy_and_its_entropy_carry_a_gradient(ratio):
    tokens, row_N, turn_N = example()
    tokens = {name: value.requires_grad_() for name, value in tokens.items()}
    weight_N = token_weights(Aggregate(), row_N, turn_N, dtype=torch.float64).requires_grad_()
    loss, report = policy_loss(composed(ratio), **tokens, weight_N=weight_N)
    loss.backward()
    assert {name for name, value in tokens.items() if value.grad is not None} == {"logp_N", "entropy_N"}
    assert weight_N.grad is None
    assert not any(value.requires_grad for value in report.values())
    assert all(value.dim() == 0 for value in report.values())


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("ratio", RATIO_KINDS)
def test_micro_batches_and_processes_add_up_to_the_whole(aggregate, ratio):
    tokens, row_N, turn_N = example(seed=3)
    aggregate, algorithm = Aggregate(kind=aggregate), composed(ratio)
    weight_N = token_weights(aggregate, row_N, turn_N, dtype=torch.float64)
    whole, report = policy_loss(algorithm, **tokens, weight_N=weight_N)
    by_process = [row_N == 0, row_N != 0]
    counts = [count_totals(row_N[mine], turn_N[mine]) for mine in by_process]
    totals = Totals(*(sum(count) for count in zip(*counts, strict=True)))
    parts = []
    for mine in by_process:
        weight_of_process_N = token_weights(aggregate, row_N[mine], turn_N[mine], totals, torch.float64)
        torch.testing.assert_close(weight_of_process_N, weight_N[mine])
        for part in mine.nonzero().flatten().split(2):  # micro-batches may even cut through a row
            cut = {name: value[part] for name, value in tokens.items()}
            parts.append(policy_loss(algorithm, **cut, weight_N=weight_N[part]))
    torch.testing.assert_close(sum(loss for loss, _ in parts), whole, rtol=1e-12, atol=0)
    for name in report:
        values = [part[name] for _, part in parts]
        merged = max(values) if name == "gap_max" else sum(values)
        torch.testing.assert_close(merged, report[name], rtol=1e-12, atol=1e-15)


def test_aggregations_weigh_tokens_rows_or_turns_equally():
    _, row_N, turn_N = example()
    weights = {kind: token_weights(Aggregate(kind=kind), row_N, turn_N, dtype=torch.float64) for kind in AGGREGATES}
    torch.testing.assert_close(weights["token_mean"], torch.full((12,), 1 / 12, dtype=torch.float64))
    torch.testing.assert_close(weights["row_mean"], tensor([1 / 15] * 5 + [1 / 12] * 4 + [1 / 9] * 3))
    expected = tensor([1 / 10] * 2 + [1 / 15] * 3 + [1 / 20] * 4 + [1 / 5] + [1 / 10] * 2)
    torch.testing.assert_close(weights["turn_mean"], expected)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(AGGREGATES), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=30))
def test_weights_sum_to_one(kind, ids):
    row_N, turn_N = [row for row, _ in ids], [3 * row + turn for row, turn in ids]
    assert token_weights(Aggregate(kind=kind), row_N, turn_N).sum().item() == pytest.approx(1.0, rel=1e-5)


def test_clip_counts_the_tokens_whose_gradient_it_takes_away():
    logp_N = tensor([0.5, 0.5, -0.5, -0.5, 0.05]).requires_grad_()
    zero_N = torch.zeros(5, dtype=torch.float64)
    advantage_N, weight_N = tensor([1.0, -1, 1, -1, 1]), tensor([0.4, 0.2, 0.2, 0.1, 0.1])
    algorithm = Algorithm(ratio=Ratio(kind="token", clip_low=0.1, clip_high=0.2))
    loss, report = policy_loss(algorithm, logp_N, zero_N, zero_N, None, advantage_N, weight_N, None)
    loss.backward()
    assert (logp_N.grad == 0).tolist() == [True, False, False, True, False]
    assert report["clip_fraction"].item() == pytest.approx(0.5)
    expected = -0.4 * 1.2 + 0.2 * exp(0.5) - 0.2 * exp(-0.5) + 0.1 * 0.9 - 0.1 * exp(0.05)
    assert loss.item() == pytest.approx(expected)


def test_on_policy_ratio_and_plain_gradient_are_the_same_step():
    tokens, row_N, turn_N = example(seed=4)
    weight_N = token_weights(Aggregate(), row_N, turn_N, dtype=torch.float64)
    gradients = []
    for ratio in RATIO_KINDS:
        logp_N = tokens["logp_N"].clone().requires_grad_()
        policy_loss(composed(ratio), **{**tokens, "logp_N": logp_N, "old_N": None}, weight_N=weight_N)[0].backward()
        gradients.append(logp_N.grad)
    torch.testing.assert_close(*gradients)


def test_estimators_average_to_the_kl_divergence_and_k2_to_its_gradient():
    # All tokens of a small vocabulary, each weighed by its probability: the expectation, exactly.
    logits_V = tensor([0.3, -0.2, 0.8, 0.1]).requires_grad_()
    ref_V = torch.log_softmax(tensor([0.2, 0.1, 0.6, 0.0]), 0)
    logp_V = torch.log_softmax(logits_V, 0)
    exact = (logp_V.exp() * (logp_V - ref_V)).sum()
    (exact_gradient,) = torch.autograd.grad(exact, logits_V)
    zero_V, weight_V = torch.zeros(4, dtype=torch.float64), logp_V.exp().detach()
    for kind in KL_KINDS:
        logp_V = torch.log_softmax(logits_V, 0)
        algorithm = composed(kl=kind, off_policy="none", kl_coef=1.0, entropy=0.0)
        loss, report = policy_loss(algorithm, logp_V, None, logp_V, ref_V, zero_V, weight_V, None)
        (gradient,) = torch.autograd.grad(loss, logits_V)
        assert report["kl"].item() == pytest.approx(exact.item(), rel=0.1 if kind == "k2" else 1e-9)
        if kind == "k1":
            torch.testing.assert_close(gradient, torch.zeros_like(gradient))
        if kind == "k2":
            torch.testing.assert_close(gradient, exact_gradient)


def test_policies_far_apart_give_finite_losses_and_gradients():
    for ratio in RATIO_KINDS:
        logp_N = torch.tensor([-300.0, -1e-6], requires_grad=True)
        other_N = torch.tensor([-1e-6, -300.0])
        weight_N, advantage_N = torch.tensor([0.5, 0.5]), torch.tensor([-1.0, 0.0])
        algorithm = composed(ratio, entropy=0.0)
        loss, _ = policy_loss(algorithm, logp_N, other_N, other_N, other_N, advantage_N, weight_N, None)
        loss.backward()
        assert loss.isfinite()
        assert logp_N.grad.isfinite().all()


def test_a_wanted_term_without_its_tensor_is_an_error_and_an_unwanted_one_is_reported():
    tokens, row_N, turn_N = example()
    weight_N = token_weights(Aggregate(), row_N, turn_N, dtype=torch.float64)
    for missing, name in (("ref_N", "kl"), ("entropy_N", "entropy")):
        with pytest.raises(ValueError, match=name):
            policy_loss(composed(), **{**tokens, missing: None}, weight_N=weight_N)
    plain = composed(kl_coef=0.0, entropy=0.0)
    loss, report = policy_loss(plain, **tokens, weight_N=weight_N)
    assert {"kl", "entropy"} <= set(report)
    bare, report = policy_loss(plain, **{**tokens, "ref_N": None, "entropy_N": None}, weight_N=weight_N)
    assert not {"kl", "entropy"} & set(report)
    assert bare == loss


def test_a_process_without_tokens_adds_nothing():
    empty, ids = torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    for kind in AGGREGATES:
        weight_N = token_weights(Aggregate(kind=kind), ids, ids, Totals(5, 2, 3))
        loss, report = policy_loss(composed(), *(empty.clone() for _ in range(5)), weight_N, empty)
        assert loss == 0
        assert all(value == 0 for value in report.values())
