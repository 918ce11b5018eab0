"""Estimated memory against what autograd keeps, what the engine's cache holds, and what a process of its own takes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from trainer_fixtures import Rig, make_recipe
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from marft.bank import AdapterBank
from marft.config import Adapter
from marft.memory import Batch, Lora, Play, activation_bytes, cache_bytes, estimate, kept_by_layer, lora_of, shape_of
from marft.plan import cost
from marft.recompute import checkpoint_layers
from marft.scoring import Scorer, _Text

FOOTPRINT = Path(__file__).parent.parent / "benchmarks" / "footprint.py"
ROWS, LENGTH = 2, 80
SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 50,
}


def kept(layers, adapter, dtype="float32", family=(Qwen3ForCausalLM, Qwen3Config), recompute=False):
    """Bytes of different storages, parameters apart, that a forward pass leaves for the backward pass."""
    model, config = family
    model = model(config(**SHAPE, num_hidden_layers=layers)).to(getattr(torch, dtype)).requires_grad_(False).eval()
    if recompute:
        checkpoint_layers(model)
    bank = AdapterBank(model)
    bank.add("a", adapter, 0)
    own = {parameter.untyped_storage().data_ptr() for parameter in bank.peft.parameters()}
    storages = {}  # by address; holding them keeps an address from being used twice

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    rows = [_Text(np.arange(row, row + LENGTH + 1) % 50, np.arange(11, LENGTH + 1)) for row in range(ROWS)]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), bank.use("a"):
        scores = Scorer(bank, 10**6).forward(rows)
    assert scores.logp_N.requires_grad
    size = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
    shape = shape_of(model.config.to_dict())
    return size, shape, lora_of(adapter.targets, adapter.rank, adapter.dora, 0)


@pytest.mark.parametrize(
    ("dtype", "adapter", "tolerance"),
    [
        ("float32", {}, 0.002),
        ("bfloat16", {}, 0.002),
        ("float32", {"targets": ("q_proj", "v_proj"), "rank": 3}, 0.002),
        ("bfloat16", {"targets": ("o_proj", "down_proj")}, 0.002),
        ("float32", {"targets": ("self_attn.k_proj", "gate_proj")}, 0.002),
        ("float32", {"dora": True}, 0.3),  # what DoRA keeps of the weights is not counted, and here they are large
    ],
)
def test_a_layer_keeps_what_autograd_keeps(dtype, adapter, tolerance):
    adapter = Adapter(**adapter)
    (more, shape, lora), (less, *_) = (kept(layers, adapter, dtype) for layers in (4, 3))
    expected = ROWS * LENGTH * kept_by_layer(shape, lora, 4 if dtype == "float32" else 2)
    assert expected == pytest.approx(more - less, rel=tolerance)


def test_a_model_without_norms_of_queries_and_keys_keeps_less():
    (more, shape, lora), (less, *_) = (
        kept(layers, Adapter(), family=(LlamaForCausalLM, LlamaConfig)) for layers in (4, 3)
    )
    assert ROWS * LENGTH * kept_by_layer(shape, lora, 4) == pytest.approx(more - less, rel=0.002)


def test_with_checkpointing_a_layer_keeps_its_input():
    (more, shape, lora), (less, *_) = (kept(layers, Adapter(), recompute=True) for layers in (4, 3))
    assert more - less == ROWS * LENGTH * shape.hidden * 4
    batch = Batch(ROWS * LENGTH, 70 * ROWS, LENGTH)
    forward, _ = activation_bytes(shape, lora, batch, 4, checkpointing=True)
    assert forward == shape.layers * (more - less)


def test_the_cache_is_the_engines():
    rig = Rig("rollout={groups: 2, group_size: 3}")
    rig.engine.end_sessions = lambda start="": None  # it would let go of them
    rig.play()
    cache = rig.engine._cache
    held = sum(tensor.nbytes for store in (cache.keys, cache.values) for tensor in store)
    assert cache_bytes(shape_of(rig.bank.config.to_dict()), 12, cache.capacity, 4) == held


def test_keys_and_values_make_room_once_nobody_plays():
    rig = Rig()
    rig.play()
    assert not rig.engine._cache.keys
    rig.engine.complete([_request(rig, "a/x"), _request(rig, "b/x")])
    rig.engine.end_sessions("a/")
    assert rig.engine._cache.keys
    rig.engine.end_sessions("b/")
    assert not rig.engine._cache.keys


def _request(rig, session):
    from marft.engines.base import Request

    return Request("alice", 0, [1, 2, 3], rig.recipe.sampling, session)


def test_phases_are_added_only_where_they_come_at_once():
    shape = shape_of({**SHAPE, "num_hidden_layers": 2})
    given = {"base": 1000, "adapters": {"a": Lora(("q_proj",), 2, False, 10), "b": Lora(("q_proj",), 2, False, 30)}}
    given |= {"batch": Batch(100, 50, 10), "play": Play(8, 10, 4, 5), "dtype": "float32", "checkpointing": False}
    one, both = (estimate(shape, **given, device="cpu", at_once=at_once) for at_once in (False, True))
    fixed = 1000 + 4 * 40 + 8 * 40
    assert (one.adapters, one.optimizers, one.gradients) == (160, 320, 120)
    assert one.total == fixed + max(one.update, one.rollout)
    assert both.total == fixed + one.update + one.rollout
    assert estimate(shape, **given, device="cuda", offload=True).optimizers == 0
    assert estimate(shape, **given, device="cuda", copies=["b", "b"]).adapters == 160 + 2 * 120


def test_recipe_settings_reach_the_estimate():
    plain, cheap = cost(make_recipe()), cost(make_recipe("train.activation_checkpointing=true"))
    assert cheap.memory.activations < plain.memory.activations / 5
    small = {bits: cost(make_recipe(f"model.quantization={bits}")).memory.base for bits in ("null", "8bit", "4bit")}
    assert small["4bit"] < small["8bit"] < small["null"]


SETTINGS = [
    {"rows": 128},
    {"rows": 32, "length": 512, "agents": 8},
    {"rows": 128, "checkpointing": True},
    {"model": "30M", "rows": 8, "budget": 1024},
    {"model": "30M", "rows": 8, "budget": 1024, "dtype": "bfloat16"},
    {"model": "100M", "rows": 2, "length": 64, "budget": 128},
    {"model": "100M", "rows": 1, "length": 512, "budget": 512, "checkpointing": True},
    {"model": "100M", "rows": 1, "length": 64, "budget": 128, "agents": 8, "adapter": {"rank": 32}},
]


@pytest.mark.learning
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_estimate_is_within_15_percent_of_the_peak(settings, monkeypatch):
    found = measured(settings, monkeypatch)
    assert found["estimate"] == pytest.approx(found["measured"], rel=0.15)


@pytest.mark.learning
def test_activation_checkpointing_lowers_the_peak(monkeypatch):
    plain, cheap = ({"rows": 64, "checkpointing": on} for on in (False, True))
    assert measured(cheap, monkeypatch)["measured"] < 0.7 * measured(plain, monkeypatch)["measured"]


def measured(settings, monkeypatch):
    import json

    monkeypatch.syspath_prepend(FOOTPRINT.parent)
    from peak import run_alone

    return run_alone(FOOTPRINT, json.dumps(settings))
