"""A published mistake: log-probs of tempered, truncated sampling compared with untempered ones.

The engine records log-probs under the distribution it sampled from. Whoever compares them with the model's plain
log-probs sees a gap, and off-policy weights, where there are none, and a PPO ratio that is not 1 when nothing moved.
"""

import numpy as np
import pytest
import torch
from test_update import EXACT, Plain, column
from trainer_fixtures import Recorder, Rig

SAMPLINGS = ["temperature: 0.7", "temperature: 1.7", "top_k: 3", "top_p: 0.8", "temperature: 0.7, top_k: 4, top_p: 0.9"]
PLAY = ("rollout={groups: 3, group_size: 4}", *EXACT)


def rig_of(sampling, *more):
    return Rig(f"sampling={{max_new_tokens: 3, {sampling}}}", *PLAY, *more)


def settings_of(rig):
    sampling = rig.recipe.sampling
    return sampling.temperature, sampling.top_k, sampling.top_p


def processed(logits_NV, temperature, top_k, top_p):
    """Log-probs after temperature, then top-k, then top-p, a token at a time, in float64."""
    found = torch.full_like(logits_NV, -torch.inf)
    for place, logits_V in enumerate(logits_NV / temperature):
        order = torch.argsort(logits_V, descending=True)
        order = order[: top_k or len(order)]
        mass = torch.softmax(logits_V[order], 0).cumsum(0)
        kept = order[: int((mass < top_p).sum()) + 1] if top_p < 1 else order
        found[place, kept] = torch.log_softmax(logits_V[kept], 0)
    return found


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_engine_and_trainer_agree_on_what_was_sampled_and_plain_log_probs_do_not(sampling, tmp_path):
    rig = rig_of(sampling)
    rows = rig.rows(rig.play())["alice"]
    plain = Plain(rig, "alice", tmp_path / "a")
    engine_N = column(rows, "engine")
    targets = torch.cat([torch.tensor(row.ids[row.targets]) for row in rows])
    with torch.no_grad():
        logits = torch.cat([plain.logits(row) for row in rows])
    right_N = processed(logits, *settings_of(rig))[torch.arange(len(targets)), targets]
    mistaken_N = torch.log_softmax(logits, -1)[torch.arange(len(targets)), targets]
    report = rig.updater.update(rig.learners["alice"], rows)
    assert float((right_N - engine_N).abs().max()) < 1e-9
    assert report["gap"] < 1e-9
    assert report["gap_max"] < 1e-9
    assert float((mistaken_N - engine_N).abs().mean()) > 0.02


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("ratio", ["token", "turn", "sequence", "action"])
def test_the_ratio_of_the_first_step_is_exactly_one(sampling, ratio):
    """With a clip range of nothing at all, not a token is clipped, and the policy has not moved."""
    clip = f"algorithm={{preset: rloo, ratio: {{kind: {ratio}, clip_low: 0, clip_high: 0}}}}"
    rig = rig_of(sampling, clip, "train.epochs=2", "optimizer.learning_rate=0.05")
    rows = rig.rows(rig.play())["alice"]
    learner, steps = rig.learners["alice"], []
    step = rig.updater._step
    rig.updater._step = lambda *arguments: steps.append(step(*arguments)) or steps[-1]
    rig.updater.update(learner, rows)
    assert steps[0]["clip_fraction"] == 0
    assert steps[0]["approximate_kl"] == 0
    assert steps[1]["clip_fraction"] > 0
    assert steps[1]["approximate_kl"] != 0


@pytest.mark.parametrize("sampling", SAMPLINGS[:2])
def test_tempered_sampling_is_on_policy(sampling):
    """Truncated importance weights are 1, and the step is that of an update without correction."""
    gradients = {}
    for correction in ("none", "truncate", "interval", "geometric"):
        rig = rig_of(sampling, f"algorithm={{preset: rloo, off_policy: {{kind: {correction}}}}}")
        rows = rig.rows(rig.play())["alice"]
        learner = rig.learners["alice"]
        learner.optimizer = recorder = Recorder(rig.bank.named_parameters("alice"))
        report = rig.updater.update(learner, rows)
        gradients[correction] = recorder.seen[0]
        assert report["off_policy_weight"] == pytest.approx(1.0, abs=1e-9)
    for correction, gradient in gradients.items():
        for name, value in gradient.items():
            np.testing.assert_allclose(value, gradients["none"][name], rtol=1e-7, atol=1e-12, err_msg=correction)


@pytest.mark.parametrize("sampling", SAMPLINGS[2:])
def test_truncated_sampling_is_corrected_by_the_mass_that_was_kept(sampling, tmp_path):
    """The policy that is trained is the tempered one, whole: its ratio to what was sampled from is the kept mass."""
    rig = rig_of(sampling, "algorithm={preset: rloo, off_policy: {kind: truncate, cap: 2.0}}")
    rows = rig.rows(rig.play())["alice"]
    plain = Plain(rig, "alice", tmp_path / "a")
    with torch.no_grad():
        logits = torch.cat([plain.logits(row) for row in rows])
    temperature, top_k, top_p = settings_of(rig)
    kept = processed(logits, temperature, top_k, top_p) > -torch.inf
    mass_N = (torch.softmax(logits / temperature, -1) * kept).sum(-1)
    report = rig.updater.update(rig.learners["alice"], rows)
    assert report["off_policy_weight"] == pytest.approx(float(mass_N.mean()), rel=1e-9)
    assert float(mass_N.mean()) < 0.99
