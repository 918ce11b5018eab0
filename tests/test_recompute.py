"""Activation checkpointing: the same numbers, with nothing in training mode."""

import pytest
import torch
from plain_peft import EXACT, noisy
from trainer_fixtures import Rig, distance
from transformers import OPTConfig, OPTForCausalLM

from marft.errors import ModelError
from marft.recompute import checkpoint_layers

BIAS = "algorithm={preset: reinforce, ratio: {level: sequence, correct_clipping: true}}"


@pytest.mark.parametrize("more", [(), ("train.token_budget=64",), ("adapter.targets=all-linear",)])
def test_gradients_are_the_same_with_and_without(more):
    found = []
    for setting in ("false", "true"):
        rig = Rig(*EXACT, f"train.activation_checkpointing={setting}", *more)
        found.append(rig.gradient("alice", noisy(rig.rows(rig.play())["alice"])))
        assert not any(module.training for module in rig.bank.peft.modules())
    (plain, one), (cheap, other) = found
    assert distance(cheap, plain) < 1e-12
    assert other == pytest.approx(one, rel=1e-9)


def test_rollouts_sample_the_same(monkeypatch):
    played = []
    for setting in ("false", "true"):
        rig = Rig(f"train.activation_checkpointing={setting}")
        played.append([turn.completion_ids for episode in rig.play() for turn in episode.turns])
    assert played[0] == played[1]


def test_a_layer_is_computed_again_only_where_a_gradient_is_asked_for():
    rig = Rig("train.activation_checkpointing=true")
    layer, calls = rig.bank.base.base_model.layers[0].mlp, []
    layer.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    rows = rig.rows(rig.play())["alice"]
    calls.clear()
    rig.updater.logprobs(rig.learners["alice"], rows)
    assert calls == [False]
    calls.clear()
    rig.gradient("alice", rows)
    assert calls == [False, True, True]  # the sample of the KL, forward, backward


def test_dropout_inside_layers_stays_off():
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "ffn_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 50}
    model = OPTForCausalLM(OPTConfig(**shape, dropout=0.5, word_embed_proj_dim=16)).eval()
    ids = torch.arange(5, 25)[None]

    def gradient():
        model.zero_grad()
        model(ids, labels=ids, use_cache=False).loss.backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    plain = gradient()
    assert checkpoint_layers(model) == 2
    assert distance(gradient(), plain) < 1e-6


def test_a_model_without_layers_fit_for_it_is_refused():
    with pytest.raises(ModelError, match=r"train\.activation_checkpointing: .* of Linear"):
        checkpoint_layers(torch.nn.Linear(2, 2))
