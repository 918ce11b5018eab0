"""Mixed passes, in which several agents learn at once, against one agent after the other."""

import copy

import pytest
import torch
from trainer_fixtures import Rig, snapshot

from marft.packing import apart, layout_of

FOUR = (
    "game={name: public_goods, seats: 4, rounds: 2}",
    "agents={ann: {}, ben: {}, cat: {}, dan: {}}",
    "model.dtype=float64",
)
DIFFERENT = (
    "agents.alice={adapter: {rank: 2, alpha: 4, targets: [q_proj, v_proj]}}",
    "agents.bob={adapter: {rank: 5, alpha: 3, targets: all-linear}, optimizer: {learning_rate: 0.02}}",
    "model.dtype=float64",
)


def learned(step: str, *overrides: str):
    """The adapters and the reports after two updates, and how many passes were mixed."""
    rig = Rig(*overrides, f"train.step={step}", "train.gap_limit=1e9")
    mixed, original = [], rig.bank.mixed

    def note(segments):
        mixed.append(len(segments))
        return original(segments)

    rig.bank.mixed = note
    learning, state, reports = rig.learning(), {}, []
    for number in range(2):
        episodes = rig.play(number)
        mixed.clear()
        lesson = learning.learn(copy.deepcopy(episodes), number, state)
        state = lesson.state
        reports.append(lesson.reports)
    return {name: snapshot(rig.bank, name) for name in rig.learners}, reports, list(mixed)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.dtype=float64",),
        DIFFERENT,
        (*DIFFERENT, "train.token_budget=300"),
        ("model.dtype=float64", "algorithm={preset: rloo, kl: {coef: 0.1}, entropy: 0.01}"),
        ("model.dtype=float64", "algorithm=epo"),
        ("model.dtype=float64", "algorithm={preset: hacpo, ratio: {stepwise: false}}"),
        FOUR,
    ],
    ids=[
        "alike",
        "ranks and targets differ",
        "several passes",
        "kl and entropy",
        "entropy band",
        "foreign rows",
        "four",
    ],
)
def test_a_mixed_step_is_that_of_the_loop(overrides):
    (ours, reports, mixed), (theirs, others, none) = learned("mixed", *overrides), learned("loop", *overrides)
    assert max(mixed) == len(ours)
    assert not none
    for name, weights in ours.items():
        for key, tensor in weights.items():
            assert float((tensor - theirs[name][key]).abs().max()) < 1e-6, (name, key)
    for report, other in zip(reports, others, strict=True):
        assert report.keys() == other.keys()
        for name, values in report.items():
            if "train.token_budget=300" in overrides:  # measured on the rows of the first pass, which are others
                del values["kl"]
            for key, value in values.items():
                assert value == pytest.approx(other[name][key], rel=1e-6, abs=1e-6, nan_ok=True), (name, key)


def test_gradients_of_a_mixed_pass_are_those_of_each_agent_alone():
    rig = Rig(*DIFFERENT)
    rows = [torch.arange(1, 12), torch.arange(5, 9)]
    alone = []
    for name, row in zip(rig.learners, rows, strict=True):
        with rig.bank.use(name):
            rig.bank.hidden(row[None], use_cache=False).square().sum().backward()
        alone += [parameter.grad.clone() for parameter in rig.bank.parameters(name)]
    for name in rig.learners:
        for parameter in rig.bank.parameters(name):
            parameter.grad = None
    with rig.bank.mixed(list(zip(rig.learners, map(len, rows), strict=True))):
        hidden = rig.bank.hidden(torch.cat(rows)[None], packed=layout_of(apart([len(row) for row in rows])))
        hidden.square().sum().backward()
    together = [parameter.grad for name in rig.learners for parameter in rig.bank.parameters(name)]
    assert max(float(gradient.abs().max()) for gradient in alone) > 1e-3
    for ours, theirs in zip(together, alone, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_after_a_mixed_pass_one_adapter_speaks_as_before():
    rig = Rig()
    ids = torch.arange(1, 9)[None]
    with rig.bank.use("bob"), torch.no_grad():
        before = rig.bank.hidden(ids)
    with rig.bank.mixed([("alice", 3), ("bob", 5)]):
        rig.bank.hidden(ids, packed=layout_of(apart([3, 5])))
    flags = {name: {p.requires_grad for p in rig.bank.parameters(name)} for name in rig.learners}
    assert flags == {"alice": {False}, "bob": {True}}
    with rig.bank.use("bob"), torch.no_grad():
        assert torch.equal(rig.bank.hidden(ids), before)


@pytest.mark.parametrize(
    ("overrides", "mixes"),
    [
        ((), True),
        (("adapter.targets=[q_proj, lm_head]",), False),
        (("adapter.targets=[q_proj, embed_tokens]",), False),
        (("train.packing=false",), False),
        (("train.minibatches=2",), False),
        (("train.step=loop",), False),
    ],
)
def test_who_can_share_a_pass(overrides, mixes):
    rig = Rig(*overrides)
    assert rig.updater.mixes(list(rig.learners)) is mixes
    assert rig.updater.mixes(["alice"]) is False
