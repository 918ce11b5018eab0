"""DoRA and rsLoRA adapters: PEFT's own, next to plain ones on the same base, and loaded by PEFT alone."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from plain_peft import EXACT, Plain, column, noisy
from safetensors.torch import load_file
from test_bank import IDS, base_model, logits, make_bank
from trainer_fixtures import Rig, distance, equal, make_recipe, snapshot

from marft.bank import lora_config
from marft.config import Adapter
from marft.errors import RecipeError

DORA = Adapter(rank=2, alpha=4, targets=("q_proj", "down_proj"), dora=True)
RSLORA = Adapter(rank=4, alpha=3, targets=("v_proj", "o_proj"), rslora=True)
BOTH = Adapter(rank=3, alpha=5, dora=True, rslora=True)
PLAIN = Adapter(rank=5, alpha=7.5, targets=("v_proj", "down_proj"))
KINDS = {"dora": DORA, "rslora": RSLORA, "both": BOTH, "plain": PLAIN}
ENDS = Adapter(rank=2, alpha=2, targets=("embed_tokens", "lm_head"), dora=True)


def test_kinds_ranks_and_targets_may_differ_per_agent_and_load_in_plain_peft(tmp_path):
    bank = make_bank(**KINDS, ends=ENDS)
    for name in (*KINDS, "ends", "dora"):
        bank.save(name, tmp_path / name)
        plain = PeftModel.from_pretrained(base_model(), tmp_path / name)
        assert float((plain(IDS).logits - logits(bank, name)).abs().max()) < 1e-5, name
    assert float((logits(bank, "dora") - logits(bank, "plain")).abs().max()) > 1e-2
    config = json.loads((tmp_path / "both" / "adapter_config.json").read_text())
    assert (config["use_dora"], config["use_rslora"], config["r"], config["lora_alpha"]) == (True, True, 3, 5)


@pytest.mark.parametrize("settings", [DORA, BOTH, ENDS])
def test_the_folder_has_the_very_names_that_peft_writes(settings, tmp_path):
    make_bank(alice=settings).save("alice", tmp_path / "alice")
    theirs = get_peft_model_state_dict(get_peft_model(base_model(), lora_config(settings)))
    theirs = {key for key in theirs if not key.endswith("base_layer.weight")}  # PEFT adds the embedding itself
    assert load_file(tmp_path / "alice" / "adapter_model.safetensors").keys() == theirs


def test_rslora_scales_by_the_square_root_of_the_rank():
    model = get_peft_model(base_model(), LoraConfig(r=4, lora_alpha=3, target_modules=["v_proj"]))
    bank = make_bank(alice=Adapter(rank=4, alpha=6, targets=("v_proj",)))  # 6 / 4 = 3 / sqrt(4)
    other = make_bank(alice=RSLORA.model_copy(update={"targets": ("v_proj",)}))
    assert torch.equal(logits(bank, "alice"), logits(other, "alice"))
    assert model.base_model.model.model.layers[0].self_attn.v_proj.scaling["default"] == 3 / 4


def test_a_new_adapter_of_any_kind_is_the_base_and_one_is_restored_bit_for_bit(tmp_path):
    bank = make_bank(**KINDS)
    for name, settings in KINDS.items():
        bank.add(f"new {name}", settings, seed=1)
        assert float((logits(bank, f"new {name}") - logits(bank, None)).abs().max()) < 1e-6
        bank.save(name, tmp_path / name)
        before = snapshot(bank, name)
        bank.copy(name, f"copy of {name}")
        bank.overwrite(name, f"new {name}")
        assert not equal(snapshot(bank, name), before)
        bank.restore(name, tmp_path / name)
        assert equal(snapshot(bank, name), before)
        assert torch.equal(logits(bank, f"copy of {name}"), logits(bank, name))


@pytest.mark.parametrize("kind", ["dora: true", "rslora: true", "dora: true, rslora: true"])
def test_gradients_are_those_of_plain_peft(kind, tmp_path):
    adapter = f"adapter={{rank: 3, alpha: 5, targets: all-linear, {kind}}}"
    rig = Rig(*EXACT, adapter, "agents.bob.adapter={rank: 2, alpha: 1, targets: [o_proj]}", shaken=0.2)
    played = rig.rows(rig.play())
    for name in ("bob", "alice"):
        rows = noisy(played[name], 0.0)
        gradient, _ = rig.gradient(name, rows)
        plain = Plain(rig, name, tmp_path / name)
        expected = plain.gradient(-(column(rows, "advantage") * plain.logp(rows)).mean())
        expected = {key.replace("vector.weight", "vector"): value for key, value in expected.items()}
        assert distance(gradient, expected) < 1e-7, name
    assert any("magnitude" in key for key in snapshot(rig.bank, "alice")) == ("dora" in kind)


@pytest.mark.parametrize("key", ["adapter", "agents.bob.adapter"])
def test_vllm_and_dora_are_refused_when_the_recipe_is_read(key, tmp_path):
    vllm = "engine={kind: vllm, urls: ['http://127.0.0.1:9']}"
    with pytest.raises(RecipeError, match=rf"{key}\.dora: vLLM serves no DoRA"):
        make_recipe(vllm, f"{key}={{dora: true}}")
    make_recipe(vllm, f"{key}={{rslora: true}}")
    make_bank(alice=DORA).save("alice", tmp_path / "alice")
    with pytest.raises(RecipeError, match=r"agents\.bob\.start_from: .* is a DoRA adapter"):
        make_recipe(vllm, f"agents.bob.start_from={tmp_path / 'alice'}")
    with pytest.raises(RecipeError, match=r"model\.quantization: 4bit is for engine\.kind hf"):
        make_recipe(vllm, "model.quantization=4bit")
