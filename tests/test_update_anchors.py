"""What holds a policy back: its KL to each kind of anchor, in loss or reward, and the band around its past entropy."""

import dataclasses
from math import exp

import pytest
import torch
from plain_peft import EXACT, Plain, column, noisy, paid, rows_given
from safetensors.torch import load_file
from trainer_fixtures import Recorder, Rig, distance, shake, snapshot

from marft.train.rows import build_rows

# Anchors.


@pytest.fixture(scope="module")
def other_adapters(tmp_path_factory):
    """Folders of adapters that are not where the agents stand."""
    rig, root = Rig("model.dtype=float64", shaken=0.3), tmp_path_factory.mktemp("other")
    for name in rig.learners:
        shake(rig.bank, name, 0.1)
        rig.bank.save(name, root / name)
    return root


@pytest.mark.parametrize("anchor", ["base", "adapter", "snapshot", "agent:bob"])
def test_the_kl_term_looks_at_its_anchor(anchor, other_adapters, tmp_path):
    start = [f"agents.{name}.start_from={other_adapters / name}" for name in ("alice", "bob")]
    rig = Rig(*EXACT, f"algorithm={{preset: rloo, kl: {{coef: 0.5, anchor: '{anchor}'}}}}", *start)
    learning, plain, kls = rig.learning(), Plain(rig, "alice", tmp_path / "a"), []
    stored = load_file(other_adapters / "alice" / "adapter_model.safetensors")
    learner = rig.learners["alice"]
    learner.optimizer = recorder = Recorder(rig.bank.named_parameters("alice"), learner.optimizer)
    first = snapshot(rig.bank, "alice")
    for number in range(3):
        if number == 2:
            learning.refresh_anchors()
            first = snapshot(rig.bank, "alice")
        now = snapshot(rig.bank, "alice")
        rows = noisy(build_rows(rig.play(number))["alice"], 0.0)
        base_N = {
            "base": plain.base_logp(rows),
            "adapter": plain.logp_of(stored, rows),
            "snapshot": plain.logp_of(first, rows),
            "agent:bob": plain.logp_of(snapshot(rig.bank, "bob"), rows),
        }[anchor]
        plain.set(now)
        report = learning.updater.update(learner, rows)
        logp_N = plain.logp(rows)
        kl_N = (base_N - logp_N).exp() - 1 - (base_N - logp_N)
        kls.append(report["kl"])
        assert report["kl"] == pytest.approx(float(kl_N.mean()), abs=1e-12)
        loss = (-column(rows, "advantage") * logp_N + 0.5 * kl_N).mean()
        assert distance(recorder.seen[-1], plain.gradient(loss)) < 1e-9
        learning.updater.update(rig.learners["bob"], noisy(build_rows(rig.play(number))["bob"], 0.0))
    if anchor == "snapshot":
        assert kls[0] == kls[2] == 0
    assert kls[1] > 1e-6


@pytest.mark.parametrize("sampling", ["temperature: 0.7", "temperature: 0.7, top_k: 3", "top_p: 0.8"])
@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_kl_in_the_reward_is_the_sum_over_a_turns_tokens(sampling, kind, tmp_path):
    algorithm = f"algorithm={{preset: umad, kl: {{kind: {kind}, coef: 0.3}}}}"
    rig = Rig(*EXACT, algorithm, f"sampling={{max_new_tokens: 2, {sampling}}}")
    episodes, learning = paid(rig.play()), rig.learning()
    plains = {name: Plain(rig, name, tmp_path / name) for name in rig.learners}
    rows, temperature = build_rows(episodes), rig.recipe.sampling.temperature
    kl_U = [0.0] * sum(len(episode.turns) for episode in episodes)
    for name, plain in plains.items():
        policy_N, base_N = plain.logp(rows[name], temperature).detach(), plain.base_logp(rows[name], temperature)
        for turn, x in zip(column(rows[name], "turn").tolist(), (base_N - policy_N).tolist(), strict=True):
            kl_U[turn] += -x if kind == "k1" else exp(x) - 1 - x
    table = learning.learn(episodes, 0, {}).table
    assert table["kl_U"] == pytest.approx(kl_U, abs=1e-9)
    assert max(map(abs, kl_U)) > 1e-3


def test_branches_that_share_a_turn_all_pay_for_its_kl(tmp_path):
    plan = "rollout={groups: 1, group_size: 1, plan: {kind: tree, samples: 2}}"
    rig = Rig(*EXACT, "algorithm={preset: magrpo, kl: {coef: 0.3, where: reward, kind: k1}}", plan)
    episodes, plain = paid(rig.play()), Plain(rig, "alice", tmp_path / "a")
    table, number, shared = rig.learning().learn(episodes, 0, {}).table, 0, {}
    for episode in episodes:
        turns = {id(turn): number + place for place, turn in enumerate(episode.turns)}
        number += len(episode.turns)
        seen = []
        for turn in episode.turns_of("alice"):
            seen += turn.prompt_ids
            row = dataclasses.replace(
                build_rows([episode])["alice"][0],
                ids=torch.tensor(seen + turn.completion_ids).numpy(),
                targets=torch.arange(len(seen), len(seen) + len(turn.completion_ids)).numpy(),
            )
            seen += turn.completion_ids
            kl = float((plain.logp([row]) - plain.base_logp([row])).sum())
            assert table["kl_U"][turns[id(turn)]] == pytest.approx(kl, abs=1e-9)
            shared.setdefault(turn.marks["node"], []).append(kl)
    assert any(len(values) > 1 and values[0] for values in shared.values())


# Entropy band.

LOOP = "train.step=loop"  # updates are looked at one by one


def test_the_band_stands_around_each_agents_own_past(tmp_path):
    rig = Rig(
        *EXACT, "algorithm={preset: epo, entropy_band: {coef: 0.4}}", "train={updates: 4, gap_limit: 1e9, step: loop}"
    )
    learning, state, calls = rig.learning(), {}, []
    update = learning.updater.update

    def note(learner, rows, **given):
        calls.append((learner.name, given["entropy_history"], given["algorithm"].entropy_band.coef))
        entropy = float(plains[learner.name].entropy(rows).mean())
        report = update(learner, rows, **given)
        assert report["entropy"] == pytest.approx(entropy, rel=1e-9)
        past[learner.name].append(entropy)
        return report

    learning.updater.update = note
    past = {"alice": [], "bob": []}
    for number in range(4):
        plains = {name: Plain(rig, name, tmp_path / f"{name}{number}") for name in rig.learners}
        before = {name: list(values) for name, values in past.items()}
        state = learning.learn(paid(rig.play(number), number), number, state).state
        progress = number / 4
        weight = 1 - 0.2 * (1 - exp(-4 * progress)) if progress < 0.5 else 0.8 * exp(-3 * (2 * progress - 1))
        for name, history, coef in calls[-2:]:
            known = before[name] or past[name]  # the first update has only its own
            assert history == pytest.approx(sum(known) / len(known), rel=1e-9)
            assert coef == pytest.approx(0.4 * weight)
            assert state["entropies"][name]["entropy"]["count"] == number + 1
    assert abs(past["alice"][0] - past["bob"][0]) > 1e-3


def test_the_bands_gradient_is_that_of_the_distance(tmp_path):
    rig = Rig(*EXACT, "algorithm={preset: epo, entropy_band: {low: 0.99, high: 1.01}}")
    learning, plain, episodes = rig.learning(), Plain(rig, "alice", tmp_path / "a"), paid(rig.play())
    given = rows_given(learning)
    learner = rig.learners["alice"]
    learner.optimizer = recorder = Recorder(rig.bank.named_parameters("alice"))
    history = float(plain.entropy(build_rows(episodes)["alice"]).mean().detach())
    past = {"entropies": {"alice": {"entropy": {"sum": 3 * history, "count": 3}}}}
    report = learning.learn(episodes, 0, past).reports["alice"]
    rows = given["alice"]
    entropy_N = plain.entropy(rows)
    below_N, above_N = (0.99 * history - entropy_N).clamp(min=0), (entropy_N - 1.01 * history).clamp(min=0)
    assert float(below_N.max()) > 0
    assert float(above_N.max()) > 0
    band = 0.1 * (below_N + above_N).mean()
    assert report["entropy_band"] == pytest.approx(float(band.detach()), rel=1e-9)
    loss = -(column(rows, "advantage") * plain.logp(rows)).mean() - 0.001 * entropy_N.mean() + band
    assert distance(recorder.seen[0], plain.gradient(loss)) < 1e-9


def test_an_update_of_several_stages_is_one_entry_of_the_history():
    rig = Rig("algorithm={preset: seeupo, entropy_band: {kind: band}}")
    lesson = rig.learning().learn(paid(rig.play()), 0, {})
    for name, report in lesson.reports.items():
        assert lesson.state["entropies"][name] == {"entropy": {"sum": report["entropy"], "count": 1}}
