"""The update against plain PEFT and torch: full logits, autograd, AdamW, one row at a time."""

import math

import pytest
import torch
from plain_peft import EXACT, Plain, column, noisy
from trainer_fixtures import Recorder, Rig, distance, equal, snapshot

from marft import logprobs
from marft.config import Optimizer
from marft.errors import EngineError
from marft.train.optimizer import learning_rate


def direct_loss(preset, logp_N, engine_N, base_N, advantage_N):
    """The presets' losses as their papers write them, all tokens weighing the same."""
    if preset in ("reinforce", "rloo"):
        return -(advantage_N * logp_N).mean()
    weight_N = (logp_N.detach() - engine_N).exp().clamp(max=2.0)
    kl_N = (base_N - logp_N).exp() - 1 - (base_N - logp_N)
    return (weight_N * (-advantage_N * logp_N + 0.001 * kl_N)).mean()


@pytest.mark.parametrize("preset", ["reinforce", "rloo", "prosocial", "ad_align"])
def test_gradients_are_those_of_plain_peft_and_autograd(preset, tmp_path):
    rig = Rig(*EXACT, f"algorithm={preset}")
    rows = noisy(rig.rows(rig.play())["alice"])
    gradient, report = rig.gradient("alice", rows)
    plain = Plain(rig, "alice", tmp_path / "a")
    logp_N, base_N = plain.logp(rows), plain.base_logp(rows)
    loss = direct_loss(preset, logp_N, column(rows, "engine"), base_N, column(rows, "advantage"))
    assert report["loss"] == pytest.approx(loss.item(), rel=1e-9)
    assert report["gap"] == pytest.approx((logp_N - column(rows, "engine")).abs().mean().item(), rel=1e-9)
    assert distance(gradient, plain.gradient(loss)) < 1e-9


def test_entropy_bonus_and_reported_entropy_are_the_distributions_own(tmp_path):
    rig = Rig(*EXACT, "algorithm.entropy=0.3")
    rows = noisy(rig.rows(rig.play())["bob"])
    gradient, report = rig.gradient("bob", rows)
    plain = Plain(rig, "bob", tmp_path / "b")
    entropy_N = plain.entropy(rows)
    loss = -(column(rows, "advantage") * plain.logp(rows)).mean() - 0.3 * entropy_N.mean()
    assert report["entropy"] == pytest.approx(entropy_N.mean().item(), rel=1e-9)
    assert distance(gradient, plain.gradient(loss)) < 1e-9


@pytest.mark.parametrize("steps", ["train.epochs=2", "train.minibatches=2"])
def test_later_steps_of_an_update_are_ppo_steps_from_the_first_ones_log_probs(steps, tmp_path):
    clip = "algorithm.ratio={kind: token, clip_low: 0.02, clip_high: 0.03}"
    rig = Rig(*EXACT, steps, clip, "optimizer.learning_rate=0.02")
    rows = noisy(rig.rows(rig.play())["alice"])
    before = Plain(rig, "alice", tmp_path / "a")
    learner = rig.learners["alice"]
    learner.optimizer = recorder = Recorder(rig.bank.named_parameters("alice"), learner.optimizer)
    report = rig.updater.update(learner, rows)
    parts = [rows, rows]
    if "minibatches" in steps:  # the shuffle is its own affair; which rows a step had shows in its gradient
        halves = [rows[i] for i in next(rig.updater._parts(type(learner)("alice", None, None), len(rows), 0))]
        parts = [halves, [row for row in rows if not any(row is other for other in halves)]]
    clipped = []
    for part, weights, gradient in zip(parts, recorder.weights, recorder.seen, strict=True):
        before.set(recorder.weights[0])
        old_N = before.logp(part).detach()
        before.set(weights)
        ratio_N, advantage_N = (before.logp(part) - old_N).exp(), column(part, "advantage")
        bounded_N = torch.minimum(ratio_N * advantage_N, ratio_N.clamp(0.98, 1.03) * advantage_N)
        clipped.append(float((ratio_N.clamp(0.98, 1.03) * advantage_N < ratio_N * advantage_N).double().mean()))
        assert distance(gradient, before.gradient(-bounded_N.mean())) < 1e-9
    assert clipped[0] == 0 < clipped[1]  # the first step's ratio is 1
    assert report["clip_fraction"] == pytest.approx(sum(clipped) / 2)
    assert learner.version == 1


def test_whole_updates_are_those_of_a_plain_training_loop(tmp_path):
    rig = Rig("model.dtype=float64", "optimizer.max_grad_norm=0.05", "optimizer.weight_decay=0.1", "train.gap_limit=9")
    rows = noisy(rig.rows(rig.play())["alice"], 0.0)
    plain = Plain(rig, "alice", tmp_path / "a")
    optimizer = torch.optim.AdamW(plain.named.values(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        report = rig.updater.update(rig.learners["alice"], rows)
        plain.gradient(-(column(rows, "advantage") * plain.logp(rows)).mean())
        norm = torch.nn.utils.clip_grad_norm_(plain.named.values(), 0.05)
        optimizer.step()
        assert report["grad_norm"] == pytest.approx(float(norm), rel=1e-9)
        assert float(norm) > 0.05
    assert distance(snapshot(rig.bank, "alice"), plain.named) < 1e-9


def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(monkeypatch):
    results = []
    for budget, logits in ((64, 1 << 26), (10**6, 1 << 26), (10**6, 7 * 400)):
        monkeypatch.setattr(logprobs, "LOGITS_AT_ONCE", logits)
        algorithm = "algorithm={preset: ad_align, entropy: 0.1, aggregate: turn_mean}"
        rig = Rig(*EXACT, f"train.token_budget={budget}", algorithm)
        results.append(rig.gradient("alice", noisy(rig.rows(rig.play())["alice"])))
    (first, one), *others = results
    for gradient, report in others:
        assert distance(gradient, first) < 1e-9
        for key in ("loss", "policy", "kl", "entropy", "gap", "gap_max", "off_policy_weight", "tokens", "trained"):
            assert report[key] == pytest.approx(one[key], rel=1e-9), key


def test_only_the_trained_agent_moves():
    rig = Rig("train.minibatches=2", "train.epochs=2")
    rows = rig.rows(rig.play())
    rig.updater.update(rig.learners["bob"], rows["bob"])
    base = {name: p.clone() for name, p in rig.bank.peft.named_parameters() if "lora_" not in name}
    bob, moments = snapshot(rig.bank, "bob"), rig.learners["bob"].optimizer.state_dict()["state"]
    moments = {(n, key): value.clone() for n, state in moments.items() for key, value in state.items()}
    alice = snapshot(rig.bank, "alice")
    rig.updater.update(rig.learners["alice"], rows["alice"])
    assert not equal(snapshot(rig.bank, "alice"), alice)
    assert equal(snapshot(rig.bank, "bob"), bob)
    after = rig.learners["bob"].optimizer.state_dict()["state"]
    assert equal({(n, key): value for n, state in after.items() for key, value in state.items()}, moments)
    assert rig.learners["bob"].version == 1
    assert equal({name: p for name, p in rig.bank.peft.named_parameters() if "lora_" not in name}, base)
    assert all(parameter.grad is None for parameter in rig.bank.peft.parameters())


def test_the_gradient_is_clipped_to_its_norm_and_reported_unclipped():
    whole, report = Rig(*EXACT).gradient("alice", noisy(Rig(*EXACT).rows(Rig(*EXACT).play())["alice"]))
    norm = math.sqrt(sum(float(value.square().sum()) for value in whole.values()))
    assert report["grad_norm"] == pytest.approx(norm)
    rig = Rig(*EXACT, f"optimizer.max_grad_norm={norm / 4}")
    cut, report = rig.gradient("alice", noisy(rig.rows(rig.play())["alice"]))
    assert report["grad_norm"] == pytest.approx(norm)
    assert distance(cut, {name: value / 4 for name, value in whole.items()}) < 1e-5


@pytest.mark.parametrize(
    ("schedule", "scheduler"),
    [
        ("constant", lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0)),
        ("linear", lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=20)),
        ("cosine", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20)),
    ],
)
def test_schedules_are_those_of_torch(schedule, scheduler):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = scheduler(optimizer)
    for update in range(20):
        ours = learning_rate(Optimizer(learning_rate=0.3, schedule=schedule), update, 20)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        risen = learning_rate(Optimizer(learning_rate=0.3, schedule=schedule, warmup_updates=4), update, 20)
        assert risen == pytest.approx(ours * min(1.0, (update + 1) / 5))
        optimizer.step()
        theirs.step()


def test_every_step_of_an_update_uses_its_learning_rate():
    rig = Rig("optimizer={learning_rate: 0.4, schedule: linear}", "train={updates: 4, minibatches: 2}")
    learner, rows = rig.learners["alice"], rig.rows(rig.play())["alice"]
    learner.optimizer = Recorder(rig.bank.named_parameters("alice"))
    reported = [rig.updater.update(learner, rows)["learning_rate"] for _ in range(3)]
    assert learner.optimizer.rates == pytest.approx([0.4, 0.4, 0.3, 0.3, 0.2, 0.2])
    assert reported == pytest.approx([0.4, 0.3, 0.2])


def test_a_gap_to_the_engine_stops_the_run_before_anything_changes():
    rig = Rig("train.minibatches=2")
    learner, rows = rig.learners["bob"], rig.rows(rig.play())["bob"]
    good = [row.engine for row in rows]
    before = snapshot(rig.bank, "bob")
    for wrong in (0.2, float("nan")):
        for row, engine in zip(rows, good, strict=True):
            row.engine = engine - wrong
        with pytest.raises(EngineError, match=r"bob.*train\.gap_limit is 0\.05"):
            rig.updater.update(learner, rows)
        assert equal(snapshot(rig.bank, "bob"), before)
        assert (learner.version, len(learner.optimizer.state)) == (0, 0)
    for row, engine in zip(rows, good, strict=True):
        row.engine = engine
    rig.updater.update(learner, rows)
    other = Rig("train.minibatches=2")
    other.updater.update(other.learners["bob"], rows)
    assert equal(snapshot(rig.bank, "bob"), snapshot(other.bank, "bob"))  # nothing was left behind


@pytest.mark.parametrize("coef", [0.0, 0.01])
def test_kl_to_the_base_starts_at_zero_and_grows(coef):
    rig = Rig(f"algorithm.kl.coef={coef}", shaken=0.0)
    kl = [rig.updater.update(rig.learners["alice"], rig.rows(rig.play(n))["alice"])["kl"] for n in range(3)]
    assert abs(kl[0]) < 1e-12
    assert kl[2] > 1e-6


def test_the_engines_log_probs_are_the_trainers_under_any_sampling():
    for sampling in ("temperature: 0.7", "temperature: 1.6", "top_k: 3", "top_p: 0.8", "{}"):
        sampling = f"sampling={{max_new_tokens: 2, {sampling}}}" if sampling != "{}" else "sampling.max_new_tokens=3"
        rig = Rig(sampling)
        report = rig.updater.update(rig.learners["alice"], rig.rows(rig.play())["alice"])
        assert report["gap_max"] < 1e-5, sampling


def test_the_trained_log_prob_is_the_tempered_one(tmp_path):
    rig = Rig(*EXACT, "sampling.temperature=0.6")
    rows = rig.rows(rig.play())["alice"]
    gradient, _ = rig.gradient("alice", rows)
    plain = Plain(rig, "alice", tmp_path / "a")
    assert float((plain.logp(rows, 0.6) - column(rows, "engine")).abs().max()) < 1e-9
    loss = -(column(rows, "advantage") * plain.logp(rows, 0.6)).mean()
    assert distance(gradient, plain.gradient(loss)) < 1e-9


def test_a_token_that_rounding_pushes_out_of_top_k_is_no_infinite_gap():
    rig = Rig("sampling={max_new_tokens: 1, top_k: 2}")
    rows = rig.rows(rig.play())["alice"]
    rig.updater.sampling = rig.recipe.sampling.model_copy(update={"top_k": 1})  # as if the first and second had tied
    rig.updater.train = rig.recipe.train.model_copy(update={"gap_limit": 100.0})
    assert math.isfinite(rig.updater.update(rig.learners["alice"], rows)["gap"])


def test_an_agent_without_rows_keeps_its_adapter():
    rig = Rig("optimizer.weight_decay=0.5")
    learner, rows = rig.learners["alice"], rig.rows(rig.play())["alice"]
    rig.updater.update(learner, rows)
    before = snapshot(rig.bank, "alice")
    report = rig.updater.update(learner, [])
    assert equal(snapshot(rig.bank, "alice"), before)
    assert (report["tokens"], report["trained"], learner.version) == (0, 0, 2)


def test_more_minibatches_than_rows_is_one_step_a_row():
    rig = Rig("train.minibatches=5", "rollout={groups: 1, group_size: 3}")
    learner, rows = rig.learners["alice"], rig.rows(rig.play())["alice"]
    learner.optimizer = Recorder(rig.bank.named_parameters("alice"))
    report = rig.updater.update(learner, rows)
    assert len(learner.optimizer.seen) == len(rows) == 3
    assert report["tokens"] == sum(map(len, rows))
    assert report["trained"] == sum(len(row.targets) for row in rows)


def test_low_precision_bases_carry_float32_adapters():
    rig = Rig("model.dtype=bfloat16")
    assert {parameter.dtype for parameter in rig.bank.parameters("alice")} == {torch.float32}
    report = rig.updater.update(rig.learners["alice"], rig.rows(rig.play())["alice"])
    assert report["gap"] < 0.05


def test_the_engine_is_checked_on_what_the_present_version_played_alone():
    rig = Rig()
    learner, rows = rig.learners["bob"], rig.rows(rig.play())["bob"]
    assert all((row.version == 0).all() for row in rows)
    for number, row in enumerate(rows):
        if number:
            row.version, row.engine = row.version - 1, row.engine - 3.0  # an older version said other things
    report = rig.updater.update(learner, rows)
    assert report["gap"] < 1e-4
    assert report["gap_max"] < 1e-4
    assert rig.updater.update(learner, rows)["gap"] != rig.updater.update(learner, rows)["gap"]  # nan: nobody is new
    rig = Rig()
    rows[0].engine = rows[0].engine - 0.2
    with pytest.raises(EngineError, match=r"differ from the trainer's by 0\.2 on average"):
        rig.updater.update(rig.learners["bob"], rows)
