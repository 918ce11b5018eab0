"""A base of half precision: the adapters, their gradients and states, and all log-probs are float32 all the same."""

import math

import numpy as np
import pytest
import torch
from plain_peft import Plain, column, noisy
from safetensors.torch import load_file
from trainer_fixtures import Recorder, Rig, make_recipe

HALF = ("bfloat16", "float16")


@pytest.mark.parametrize("dtype", HALF)
def test_what_is_learned_is_float32_on_a_base_of_half_precision(dtype, tmp_path):
    rig = Rig(f"model.dtype={dtype}")
    learner, rows = rig.learners["alice"], rig.rows(rig.play())["alice"]
    learner.optimizer = Recorder(rig.bank.named_parameters("alice"), learner.optimizer)
    rig.updater.update(learner, rows)
    (gradient,) = learner.optimizer.seen
    states = [value for state in learner.optimizer.inner.state.values() for value in state.values()]
    rig.bank.save("alice", tmp_path / "alice")
    stored = load_file(tmp_path / "alice" / "adapter_model.safetensors")
    assert {value.dtype for value in [*rig.bank.parameters("alice"), *gradient.values(), *states]} == {torch.float32}
    assert {value.dtype for value in stored.values()} == {torch.float32}
    base = {p.dtype for name, p in rig.bank.base.named_parameters() if "lora_" not in name}
    assert base == {getattr(torch, dtype)}


@pytest.mark.parametrize("dtype", HALF)
def test_log_probs_are_made_in_float32_of_the_logits(dtype):
    rig = Rig(f"model.dtype={dtype}", "sampling={max_new_tokens: 2, temperature: 0.7}")
    rows = rig.rows(rig.play())["alice"]
    with rig.bank.use("alice"):
        scores = rig.updater.scorer.forward(rows[:1], sampling=rig.recipe.sampling)
        hidden = rig.bank.hidden(torch.tensor(rows[0].ids)[None], use_cache=False)
        logits = rig.bank.head(hidden)[0, rows[0].targets - 1].detach().double().numpy() / 0.7
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = logp[np.arange(len(logp)), rows[0].ids[rows[0].targets]]
    assert hidden.dtype == getattr(torch, dtype)
    assert scores.logp_N.dtype == scores.entropy_N.dtype == torch.float32
    assert np.abs(scores.logp_N.detach().numpy() - expected).max() < 1e-5  # half precision would be off by 1e-3
    assert np.abs(scores.entropy_N.numpy() + (np.exp(logp) * logp).sum(-1)).max() < 1e-4


@pytest.mark.parametrize("dtype", HALF)
def test_the_gradient_is_that_of_plain_peft_up_to_the_bases_rounding(dtype, tmp_path):
    rig = Rig(f"model.dtype={dtype}", "train.gap_limit=1e9", shaken=0.2)
    rows = noisy(rig.rows(rig.play())["alice"], 0.0)
    gradient, _ = rig.gradient("alice", rows)
    plain = Plain(rig, "alice", tmp_path / "a")
    exact = plain.gradient(-(column(rows, "advantage") * plain.logp(rows)).mean())
    ours, theirs = (torch.cat([one[name].double().flatten() for name in sorted(exact)]) for one in (gradient, exact))
    assert float((ours - theirs).norm() / theirs.norm()) < 0.05


def test_a_bfloat16_run_learns_what_pays():
    rig = Rig("model.dtype=bfloat16", "optimizer.learning_rate=0.02", "train.gap_limit=1e9")
    learner, rows = rig.learners["alice"], rig.rows(rig.play())["alice"]
    for number, row in enumerate(rows):
        row.advantage = np.full(len(row.targets), 1.0 if number % 2 else -1.0)

    def margin():
        sums = [float(logp_N.sum()) for logp_N in rig.updater.logprobs(learner, rows)]
        return math.fsum(sums[1::2]) - math.fsum(sums[::2])

    before = margin()
    for _ in range(10):
        rig.updater.update(learner, rows)
    assert margin() > before + 1


def test_the_gap_limit_follows_the_bases_type_where_none_is_set():
    found = {dtype: make_recipe(f"model.dtype={dtype}").train.gap_limit for dtype in ("float32", "bfloat16")}
    assert found["float32"] < found["bfloat16"] < 0.5  # far below what another adapter's log-probs are off by
    assert make_recipe("model.dtype=bfloat16", "train.gap_limit=0.01").train.gap_limit == 0.01
    rig = Rig("model.dtype=bfloat16", shaken=0.3)
    rows = rig.rows(rig.play())
    reports = [rig.updater.update(learner, rows[name]) for name, learner in rig.learners.items()]
    assert max(report["gap"] for report in reports) < rig.recipe.train.gap_limit / 5
