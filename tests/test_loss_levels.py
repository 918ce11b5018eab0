"""The loss at every ratio level, clip and aggregation: gradients, a slow reference in floats, reference numbers."""

import itertools
import json
from math import exp, log
from pathlib import Path

import pytest
import torch

from marft.blocks import Aggregate, Algorithm, EntropyBand, OffPolicy, Ratio
from marft.credit import PRESETS
from marft.loss import Batch, clipping_bias, correct_clipping, entropy_band, epo_weight, policy_loss, token_weights

VECTORS = Path(__file__).parent / "vectors"
LEVELS = ["none", "token", "turn", "sequence", "action"]
AGGREGATES = ["token_mean", "row_mean", "turn_mean", "row_sum", "sum_over"]
CLIPS = {
    "off": {"clip": False},
    "ppo": {"clip_low": 0.2, "clip_high": 0.2},
    "asymmetric": {"clip_low": 0.1, "clip_high": 0.4},
    "dual": {"clip_low": 0.2, "clip_high": 0.2, "dual": 1.4},
}
ROW = torch.tensor([0, 0, 0, 0, 0, 7, 7, 7, 7, 9, 9, 9])
TURN = torch.tensor([0, 0, 3, 3, 3, 4, 4, 4, 4, 5, 6, 6])


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def case(name, beginning):
    cases = json.loads((VECTORS / f"{name}.json").read_text())["cases"]
    return next(case for case in cases if case["title"].startswith(beginning))


def example(seed=0):
    rng = torch.Generator().manual_seed(seed)

    def normal(scale):
        return scale * torch.randn(12, generator=rng, dtype=torch.float64)

    logp = -1.5 + normal(0.5)
    return {
        "logp_N": logp,
        "old_N": logp + normal(0.4),
        "engine_N": logp + normal(0.6),
        "ref_N": None,
        "advantage_N": normal(1.0),
    }


def slow_loss(ratio, aggregate, tokens, foreign=None, minibatch=0):
    """The batch's loss and its derivative by every log π, token by token."""
    logp, old, advantage = (tokens[name].tolist() for name in ("logp_N", "old_N", "advantage_N"))
    row, turn, n = ROW.tolist(), TURN.tolist(), len(logp)
    units = {"turn": turn, "action": turn, "sequence": row}.get(ratio.kind)
    value, slope = [0.0] * n, [[0.0] * n for _ in range(n)]  # slope[k][m]: of token k's loss by log π of token m
    for k in range(n):
        if ratio.kind == "none":
            value[k], slope[k][k] = -advantage[k] * logp[k], -advantage[k]
            continue
        members = [k] if units is None else [m for m in range(n) if units[m] == units[k]]
        share = 1.0 if ratio.kind == "action" else 1 / len(members)
        log_ratio = sum(logp[m] - old[m] for m in members) * share
        capped = ratio.kind == "turn" and ratio.log_cap is not None and log_ratio > ratio.log_cap
        rho = exp(ratio.log_cap if capped else log_ratio)
        a, moves = advantage[k], not capped
        if foreign is not None and foreign[k]:
            low = 1 - ratio.delta + minibatch * ratio.delta_step
            if ratio.stepwise and rho < min(1.0, low):
                continue
            factor = rho**ratio.foreign_power if rho < 1 else 1.0
            used, moves = (rho * factor, moves) if rho <= 1 else (1.0, False)
            value[k], gradient = -a * used, -a * used
        else:
            bounded = min(max(rho, 1 - ratio.clip_low), 1 + ratio.clip_high) if ratio.clip else rho
            gain, moves = (rho * a, moves) if rho * a <= bounded * a else (bounded * a, False)
            if ratio.dual is not None and a < 0 and gain < ratio.dual * a:
                gain, moves = ratio.dual * a, False
            value[k], gradient = -gain, -rho * a
        if moves:
            for m in members:
                slope[k][m] = gradient * share
    length = {"row_mean": row, "turn_mean": turn}.get(aggregate.kind)
    if length is not None:
        weight = [1 / (length.count(length[k]) * len(set(length))) for k in range(n)]
    elif aggregate.kind == "token_mean":
        weight = [1 / n] * n
    else:
        weight = [1 / (len(set(row)) * (aggregate.constant if aggregate.kind == "sum_over" else 1.0))] * n
    total = sum(w * v for w, v in zip(weight, value, strict=True))
    return total, [sum(weight[k] * slope[k][m] for k in range(n)) for m in range(n)]


@pytest.mark.parametrize(("level", "clip", "aggregate"), itertools.product(LEVELS, CLIPS, AGGREGATES))
def test_loss_and_gradient_agree_with_a_token_at_a_time(level, clip, aggregate):
    ratio, aggregate = Ratio(kind=level, **CLIPS[clip]), Aggregate(kind=aggregate, constant=7.0)
    tokens = example(seed=len(level) + len(clip))
    weight_N = token_weights(aggregate, ROW, TURN, dtype=torch.float64)
    tokens["logp_N"].requires_grad_()
    loss, _ = policy_loss(Algorithm(ratio=ratio), **tokens, weight_N=weight_N, row_N=ROW, turn_N=TURN)
    loss.backward()
    expected, slope = slow_loss(ratio, aggregate, {k: v.detach() for k, v in tokens.items() if v is not None})
    assert loss.item() == pytest.approx(expected, rel=1e-11)
    torch.testing.assert_close(tokens["logp_N"].grad, tensor(slope), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("level", "clip", "aggregate"), itertools.product(LEVELS[1:], CLIPS, AGGREGATES))
def test_gradients_pass_gradcheck(level, clip, aggregate):
    tokens = example(seed=11)
    weight_N = token_weights(Aggregate(kind=aggregate), ROW, TURN, dtype=torch.float64)
    algorithm = Algorithm(ratio=Ratio(kind=level, **CLIPS[clip]))

    def loss_of(logp_N):
        given = {**tokens, "logp_N": logp_N}
        return policy_loss(algorithm, **given, weight_N=1e3 * weight_N, row_N=ROW, turn_N=TURN)[0]

    assert torch.autograd.gradcheck(loss_of, (tokens["logp_N"].clone().requires_grad_(),))


@pytest.mark.parametrize("minibatch", [0, 30])
@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
def test_rows_of_other_agents_are_damped_and_bounded_stepwise(power, minibatch):
    ratio = Ratio(kind="sequence", foreign_power=power, stepwise=True, delta=0.4, delta_step=0.01, clip_high=0.4)
    foreign_N = ROW != 7
    for seed in range(5):
        tokens = example(seed=20 + seed)
        weight_N = token_weights(Aggregate(kind="row_mean"), ROW, TURN, dtype=torch.float64)
        tokens["logp_N"].requires_grad_()
        given = {"weight_N": weight_N, "row_N": ROW, "turn_N": TURN, "foreign_N": foreign_N, "minibatch": minibatch}
        loss, _ = policy_loss(Algorithm(ratio=ratio), **tokens, **given)
        loss.backward()
        plain = {k: v.detach() for k, v in tokens.items() if v is not None}
        expected, slope = slow_loss(ratio, Aggregate(kind="row_mean"), plain, foreign_N.tolist(), minibatch)
        assert loss.item() == pytest.approx(expected, rel=1e-11)
        torch.testing.assert_close(tokens["logp_N"].grad, tensor(slope), rtol=1e-10, atol=1e-13)


def test_dual_clip_gives_the_loss_of_remas_code():
    given = case("rema", "compute_policy_loss")
    step = torch.tensor(given["step_id"])
    mask = step >= 0
    row, _ = torch.where(mask)
    logp_N, old_N, advantage_N = (tensor(given[name])[mask] for name in ("logp", "old", "adv"))
    turn_N = row * 100 + step[mask]
    # The case is that code's clip_mode=token, agg_mode=token: ratios and mean by token, where the preset has turns.
    rema = PRESETS["rema"].settings
    algorithm = rema.model_copy(update={"ratio": rema.ratio.model_copy(update={"kind": "token"})})
    weight_N = token_weights(Aggregate(kind="token_mean"), row, turn_N, dtype=torch.float64)
    given_ids = {"row_N": row, "turn_N": turn_N}
    loss, report = policy_loss(algorithm, logp_N, old_N, old_N, None, advantage_N, weight_N, **given_ids)
    assert loss.item() == pytest.approx(given["outputs"]["pg_loss"], abs=1e-5)
    assert report["clip_fraction"].item() == pytest.approx(given["outputs"]["clipfrac"], abs=1e-5)
    assert report["approximate_kl"].item() == pytest.approx(given["outputs"]["ppo_kl"], abs=1e-5)


def test_dual_clip_and_kl_give_the_loss_of_marshals_code():
    given = case("marshal_advantage", "ActorWorker.loss_func")
    mask = torch.tensor(given["mask"]).bool()
    row, _ = torch.where(mask)
    logp_N, old_N, ref_N, advantage_N = (tensor(given[name])[mask] for name in ("logp", "old", "ref", "adv"))
    algorithm = PRESETS["marshal"].settings
    weight_N = token_weights(algorithm.aggregate, row, row, dtype=torch.float64)
    loss, report = policy_loss(algorithm, logp_N, old_N, old_N, ref_N, advantage_N, weight_N)
    assert report["policy"].item() == pytest.approx(given["pg_loss"], abs=1e-5)
    assert report["kl"].item() == pytest.approx(given["kl_loss"], abs=1e-5)
    assert loss.item() == pytest.approx(given["total"], abs=1e-5)


def test_a_turns_ratio_is_capped_in_the_logarithm():
    old_N, weight_N = tensor([0.0, 0.0]), tensor([0.5, 0.5])
    algorithm = Algorithm(ratio=Ratio(kind="turn", log_cap=3.0, clip=False))
    logp_N = tensor([10.0, 0.0]).requires_grad_()
    ids = torch.zeros(2, dtype=torch.int64)
    loss, _ = policy_loss(algorithm, logp_N, old_N, old_N, None, tensor([1.0, 1.0]), weight_N, turn_N=ids)
    loss.backward()
    assert loss.item() == pytest.approx(-exp(3))
    assert not logp_N.grad.any()


# Off-policy corrections.


def test_interval_masks_outside_and_keeps_the_ratio_inside():
    engine_N = tensor([0.0, 0.0, 0.0])
    old_N = tensor([log(0.4), log(2.0), log(6.0)])
    algorithm = Algorithm(off_policy=OffPolicy(kind="interval", low=0.5, high=5.0), ratio=Ratio(kind="token"))
    _, report = policy_loss(algorithm, old_N, old_N, engine_N, None, tensor([1.0] * 3), tensor([1.0] * 3))
    assert report["off_policy_weight"].item() == pytest.approx(2.0)


def test_geometric_mask_drops_whole_rows():
    old_N, engine_N = tensor([log(4.0), log(0.25), log(2.0), log(2.0)]), torch.zeros(4, dtype=torch.float64)
    algorithm = Algorithm(off_policy=OffPolicy(kind="geometric", low=0.5, high=1.5), ratio=Ratio(kind="token"))
    row_N = torch.tensor([0, 0, 1, 1])
    logp_N = old_N.clone().requires_grad_()
    loss, _ = policy_loss(algorithm, logp_N, old_N, engine_N, None, tensor([1.0] * 4), tensor([1.0] * 4), row_N=row_N)
    loss.backward()
    assert (logp_N.grad != 0).tolist() == [True, True, False, False]


@pytest.mark.parametrize("level", ["turn", "sequence", "action"])
def test_a_level_above_the_token_asks_for_its_ids(level):
    tokens = example()
    with pytest.raises(ValueError, match="row_N" if level == "sequence" else "turn_N"):
        policy_loss(Algorithm(ratio=Ratio(kind=level)), **tokens, weight_N=torch.full((12,), 1 / 12))


# Mistakes found in published code.


def test_the_entropy_band_has_a_gradient():
    # EPO's code takes `where` of constants: the penalty is reported and moves nothing.
    settings = EntropyBand(kind="band", coef=0.1, low=0.8, high=1.2)
    entropy_N = tensor([0.5, 2.0, 3.0]).requires_grad_()
    band_N = entropy_band(settings, entropy_N, 2.0)
    torch.testing.assert_close(band_N, tensor([0.1 * 1.1, 0.0, 0.1 * 0.6]))
    band_N.sum().backward()
    torch.testing.assert_close(entropy_N.grad, tensor([-0.1, 0.0, 0.1]))
    tokens = example()
    entropy_N = torch.full((12,), 0.5, dtype=torch.float64, requires_grad=True)
    weight_N = torch.full((12,), 1 / 12, dtype=torch.float64)
    algorithm = Algorithm(entropy_band=settings)
    loss, report = policy_loss(algorithm, **tokens, weight_N=weight_N, entropy_N=entropy_N, entropy_history=2.0)
    loss.backward()
    assert report["entropy_band"].item() == pytest.approx(0.11)
    torch.testing.assert_close(entropy_N.grad, torch.full((12,), -0.1 / 12, dtype=torch.float64))
    with pytest.raises(ValueError, match="entropy_history"):
        policy_loss(algorithm, **tokens, weight_N=weight_N, entropy_N=entropy_N)


def test_epos_weight_follows_its_two_halves():
    assert epo_weight(0.0) == 1.0
    assert epo_weight(0.25) == pytest.approx(1 - 0.2 * (1 - exp(-1)))
    assert epo_weight(0.5) == pytest.approx(0.8)
    assert epo_weight(1.0) == pytest.approx(0.8 * exp(-3))


@pytest.mark.parametrize("kind", ["truncate", "interval", "geometric"])
def test_the_off_policy_ratio_is_detached(kind):
    # AdvGame's code leaves log π in the ratio, which doubles the gradient below the cap.
    tokens = example(seed=5)
    tokens["logp_N"].requires_grad_()
    weight_N = torch.full((12,), 1 / 12, dtype=torch.float64)
    algorithm = Algorithm(off_policy=OffPolicy(kind=kind, low=1e-9, high=1e9, cap=1e9))
    loss, _ = policy_loss(algorithm, **tokens, weight_N=weight_N, row_N=ROW)
    loss.backward()
    ratio_N = (tokens["logp_N"] - tokens["engine_N"]).detach().exp()
    expected = -weight_N * tokens["advantage_N"] * (1.0 if kind == "geometric" else ratio_N)
    torch.testing.assert_close(tokens["logp_N"].grad, expected)


def test_every_token_counts_the_last_one_too_and_no_padding():
    # MAGRPO's code drops the last token and trains padding; a row's sum is over its own tokens, all of them.
    tokens = example()
    settings = PRESETS["magrpo"].settings
    weight_N = token_weights(settings.aggregate, ROW, TURN, dtype=torch.float64)
    tokens["logp_N"].requires_grad_()
    loss, _ = policy_loss(settings, **tokens, weight_N=weight_N)
    loss.backward()
    assert loss.item() == pytest.approx((-(tokens["advantage_N"] * tokens["logp_N"]).sum() / 3).item())
    assert bool((tokens["logp_N"].grad != 0).all())


# ST-PPO's correction.


def test_clipping_bias_is_the_gradient_that_clipping_took():
    ratio = Ratio(kind="token", correct_clipping=True)
    tokens = example(seed=3)
    logp_N = tokens["logp_N"].clone().requires_grad_()
    weight_N = token_weights(Aggregate(), ROW, TURN, dtype=torch.float64)
    batch = Batch(tokens["old_N"], tokens["engine_N"], tokens["advantage_N"], ROW, TURN, None, 0)

    def gradient(loss):
        return torch.autograd.grad(loss, logp_N)[0]

    bias = gradient(clipping_bias(Algorithm(ratio=ratio), logp_N, weight_N, batch))
    given = {**tokens, "logp_N": logp_N}
    clipped = gradient(policy_loss(Algorithm(ratio=ratio), **given, weight_N=weight_N)[0])
    free = gradient(policy_loss(Algorithm(ratio=Ratio(kind="token", clip=False)), **given, weight_N=weight_N)[0])
    torch.testing.assert_close(clipped - free, bias)
    assert bias.abs().max() > 0
    torch.testing.assert_close(correct_clipping(clipped, 1e-3 * bias), clipped)
    torch.testing.assert_close(correct_clipping(clipped, 100 * bias / bias.norm()), clipped / 100)
