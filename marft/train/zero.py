"""What a launch says about ZeRO, and which recipes go with it.

Accelerate runs DeepSpeed on accelerators only; on the CPU its settings are read from where `accelerate launch` put
them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin
from peft.tuners.tuners_utils import BaseTunerLayer

from marft.bank import AdapterBank
from marft.config import Recipe
from marft.errors import RecipeError

OURS = ("optimizer", "scheduler")
"""Sections of a DeepSpeed configuration that a recipe decides on, agent by agent."""


class Zero(NamedTuple):
    """stage: 0 where nothing is partitioned. settings: the section `zero_optimization` of DeepSpeed's configuration."""

    stage: int = 0
    settings: Mapping[str, Any] = {}


def zero_of(accelerator: Accelerator) -> Zero:
    """What the launch's accelerate file asks for; nothing where there is one process."""
    plugin = accelerator.deepspeed_plugin
    if plugin is None and os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        plugin = DeepSpeedPlugin()
    if plugin is None or accelerator.num_processes == 1:
        return Zero()
    config = plugin.deepspeed_config
    for section in OURS:
        if section in config:
            raise RecipeError(
                f"accelerate: the DeepSpeed configuration has a section {section}; every agent has its own, "
                "optimizer: and agents.NAME.optimizer: of the recipe; take the section out"
            )
    stage = int(config.get("zero_optimization", {}).get("stage", 0))
    if stage not in (0, 2, 3):
        raise RecipeError(f"accelerate: zero_stage is {stage}; give 0, 2 or 3")
    return Zero(stage, config.get("zero_optimization", {}))


def check_sharded(recipe: Recipe) -> None:
    """What cannot be where processes must make all passes together."""
    found = None
    if recipe.models:
        found = "models: a single base is cut up, and the recipe has several; give all agents the same model"
    elif recipe.rollout.pipeline:
        found = "rollout.pipeline: processes learn from groups as they come, each at its own time; set it false"
    elif recipe.engine.kind == "hf" and recipe.rollout.max_staleness:
        found = (
            f"rollout.max_staleness is {recipe.rollout.max_staleness} with engine.kind hf, which would play with "
            "a base that is not there; set it 0, or engine.kind vllm"
        )
    elif recipe.algorithm.ratio.correct_clipping:
        found = "algorithm.ratio.correct_clipping asks for two backward passes over one forward pass; set it false"
    if found:
        raise RecipeError(f"ZeRO stage 3: {found}, or launch with stage 2")


def check_head(bank: AdapterBank) -> None:
    """The head is gathered once a pass; an adapter on it would be asked for again by the backward pass."""
    if isinstance(bank.base.get_output_embeddings(), BaseTunerLayer):
        raise RecipeError("ZeRO stage 3: adapter.targets names the output layer; leave it out, or launch with stage 2")
