"""What the tests of several bases share: a second base, recipes on both, and PEFT's own models of what played."""

import functools
import os
from unittest import mock

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from trainer_fixtures import DATA, base_folder, recipe_data
from transformers import AutoModelForCausalLM

from marft.model import base_source
from marft.recipe import parse_recipe

LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


@functools.cache
def wide_folder() -> str:
    """A tiny model that differs from that of `base_folder` in width, vocabulary and seed; in the same cache."""
    tiny = {"hidden": 64, "heads": 4, "kv_heads": 2, "intermediate": 96, "vocabulary": 340, "seed": 5}
    tiny |= {"warmup_episodes": 64, "warmup_steps": 40, "warmup_batch": 16, "warmup_learning_rate": 0.01}
    game = {"name": "prisoners_dilemma", "rounds": 10}
    with mock.patch.dict(os.environ, MARFT_CACHE=os.path.dirname(base_folder())):
        return base_source(parse_recipe({**DATA, "game": game, "model": {"name": "tiny", "tiny": tiny}}))


FOLDERS = {"model": base_folder, "models.wide": wide_folder}


def two_bases(*overrides: str, dtype: str = "float32") -> dict:
    """A small recipe as plain data: alice on the session's base, bob on the wide one."""
    wide = f"models.wide={{name: '{wide_folder()}', device: cpu, dtype: {dtype}}}"
    return recipe_data(f"model.dtype={dtype}", wide, "agents.bob.model=wide", *overrides)


def two_recipe(*overrides: str, dtype: str = "float32"):
    return parse_recipe(two_bases(*overrides, dtype=dtype))


def plain_model(base: str, adapter=None, dtype=torch.float32):
    """The base of this key in transformers alone, with an adapter folder in PEFT alone."""
    model = AutoModelForCausalLM.from_pretrained(FOLDERS[base](), dtype=dtype)
    return (model if adapter is None else PeftModel.from_pretrained(model, adapter, is_trainable=True)).eval()


def fresh_adapter(base: str, folder, seed: int) -> str:
    """An adapter on the base that PEFT made and wrote, both factors drawn at random."""
    torch.manual_seed(seed)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(FOLDERS[base]()), LoraConfig(**LORA))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(str(folder))
    return str(folder)


def said(model, context, completion) -> torch.Tensor:
    """(N,) log-probs of a completion's ids after its context, with gradient."""
    logits = model(torch.tensor([[*context, *completion]])).logits[0, len(context) - 1 : -1]
    return torch.log_softmax(logits, -1)[torch.arange(len(completion)), torch.tensor(completion)]


def gaps(episodes, models) -> dict[str, float]:
    """Policy -> the largest gap between what its engine said of its tokens and what its plain model says."""
    found = {}
    for episode in episodes:
        for seat in episode.seats:
            for turn, context in episode.contexts(seat):
                if not turn.completion_ids:
                    continue
                with torch.no_grad():
                    logp_N = said(models[turn.policy], context, turn.completion_ids)
                gap = float(np.abs(logp_N.double().numpy() - np.array(turn.logprobs)).max())
                found[turn.policy] = max(gap, found.get(turn.policy, 0.0))
    return found
