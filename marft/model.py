"""Loading the shared base: `tiny`, a local folder, or a hub name. No remote code is ever run."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, PreTrainedModel

from marft.chat import Chat
from marft.config import Model, Recipe
from marft.errors import ModelError
from marft.recompute import checkpoint_layers
from marft.threads import fit_threads


@dataclass
class Base:
    """A loaded base model with its tokenizer's chat encoder, and the folder or name it came from."""

    model: PreTrainedModel
    tokenizer: Any
    chat: Chat
    source: str


def load_base(recipe: Recipe, device: torch.device | str | None = None) -> Base:
    """The recipe's base model, frozen and in evaluation mode, on `device`."""
    source = base_source(recipe)
    settings = recipe.model
    tokenizer = load_tokenizer(source, settings.revision)
    device = torch.device(device or pick_device(settings.device))
    given = {"revision": settings.revision, "dtype": getattr(torch, settings.dtype)}
    if settings.quantization is not None:  # quantised while it is loaded, where it is to stay
        given |= {"quantization_config": quantization(settings), "device_map": {"": device}}
    try:
        model = AutoModelForCausalLM.from_pretrained(source, **given)
    except (OSError, ValueError) as error:
        raise ModelError(f"model.name: cannot load {source!r}: {_first_line(error)}") from error
    model.requires_grad_(False)
    model.eval()
    fit_threads(model)
    if settings.quantization is None:
        model = model.to(device)
    elif device.type == "cpu":
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False  # it would repack 4-bit weights so that no gradient passes
    if recipe.train.activation_checkpointing:
        checkpoint_layers(model)
    return Base(model, tokenizer, Chat(tokenizer), source)


def quantization(settings: Model) -> BitsAndBytesConfig:
    """bitsandbytes' settings: 8 bits (LLM.int8), or 4 (NF4 with quantised constants, as QLoRA has it)."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"model.quantization: {settings.quantization} needs bitsandbytes, which is not installed; "
            "pip install bitsandbytes, or set it null"
        )
    if settings.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, settings.dtype),
    )


def base_source(recipe: Recipe) -> str:
    """The folder or hub name to load; `tiny` is built (or found in the cache) first."""
    name = recipe.model.name
    if name == "tiny":
        from marft.tiny import build_tiny

        return str(build_tiny(recipe))
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise ModelError(f"model.name: the folder {name} holds no config.json, so it is no model")
        return name
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path:
        raise ModelError(f"model.name: no folder {name}; give a local model folder, a hub name, or tiny")
    return name


def load_tokenizer(source: str, revision: str | None = None) -> Any:
    """The tokenizer at a folder or hub name."""
    try:
        return AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise ModelError(f"model.name: cannot load the tokenizer of {source!r}: {_first_line(error)}") from error


def pick_device(wanted: str) -> torch.device:
    """`auto` is the accelerator if there is one, else the cpu."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(wanted)
    except RuntimeError as error:
        raise ModelError(f"model.device: {wanted!r} is no device: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
