"""A base in 8 or 4 bits: trained through as it plays; the adapters stay whole."""

import importlib.util

import pytest
import torch
from peft import PeftModel
from trainer_fixtures import Rig, base_folder, make_recipe
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from marft.errors import ModelError
from marft.model import load_base

NONE = importlib.util.find_spec("bitsandbytes") is None
installed = pytest.mark.skipif(NONE, reason="bitsandbytes is not installed")
THEIRS = {
    "8bit": {"load_in_8bit": True},
    "4bit": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
}


def test_without_bitsandbytes_the_error_says_what_to_install(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else real(name))
    with pytest.raises(ModelError, match=r"model\.quantization: 8bit needs bitsandbytes.*pip install"):
        load_base(make_recipe("model.quantization=8bit"), "cpu")


@installed
@pytest.mark.parametrize("bits", THEIRS)
def test_a_quantised_base_takes_less_and_trains_with_the_engine_in_step(bits, tmp_path):
    rig = Rig(f"model.quantization={bits}", "adapter={rank: 2, targets: all-linear}")
    rows = rig.rows(rig.play())["alice"]
    report = rig.updater.update(rig.learners["alice"], rows)
    assert report["gap"] < 1e-3 * (50 if bits == "8bit" else 1)  # 8 bits round activations by what else is in the batch
    assert report["grad_norm"] > 0
    assert {parameter.dtype for parameter in rig.bank.parameters("alice")} == {torch.float32}
    layer = rig.bank.base.base_model.layers[0].mlp.up_proj.base_layer
    assert layer.weight.dtype == {"8bit": torch.int8, "4bit": torch.uint8}[bits]
    rig.bank.save("alice", tmp_path / "alice")
    options = {"quantization_config": BitsAndBytesConfig(**THEIRS[bits]), "device_map": {"": "cpu"}}
    base = AutoModelForCausalLM.from_pretrained(base_folder(), dtype=torch.float32, **options)
    for layer in base.modules():
        layer.support_avx512bf16_for_cpu = False
    plain = PeftModel.from_pretrained(base, tmp_path / "alice")
    ids = torch.tensor(rows[0].ids)[None]
    with torch.no_grad(), rig.bank.use("alice"):
        ours = rig.bank.head(rig.bank.hidden(ids, use_cache=False))
        assert float((plain(ids).logits - ours).abs().max()) < 1e-3
