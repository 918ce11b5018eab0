"""What a recipe costs before it runs: episodes, tokens, memory. An estimate, and it says of what."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from peft import get_peft_model
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM

from marft.bank import lora_config
from marft.branching import leaves
from marft.chat import Chat
from marft.config import Adapter, Recipe
from marft.credit.advice import warnings_for
from marft.credit.couplings import needs_of
from marft.errors import ModelError, RecipeError
from marft.game import play_scripted
from marft.games import make_game
from marft.model import base_source, load_tokenizer
from marft.recipe import facts_of
from marft.tiny import encode, new_model, scripted_play, train_tokenizer

SAMPLE = 16
BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Cost:
    """Counts are of the whole run unless named otherwise; memory in bytes, on one device.

    row_tokens: tokens of one seat's side of an episode, measured on scripted play; 0 where the game has no players.
    paths: episodes that one tree of the rollout's plan brings, 1 where it does not branch; a game whose length varies
    is counted at the length of one scripted episode.
    """

    paths: int
    episodes_per_update: int
    episodes: int
    row_tokens: float
    trained_rows_per_update: int
    tokens_per_update: float
    tokens: float
    base: int
    adapters: dict[str, int]
    optimizers: int
    cache: int
    activations: int

    @property
    def memory(self) -> int:
        return self.base + sum(self.adapters.values()) + self.optimizers + self.cache + self.activations


def cost(recipe: Recipe) -> Cost:
    """The recipe's cost; loads a tokenizer and a model's config, never its weights."""
    model, row_tokens = _skeleton(recipe)
    config = model.config
    width = BYTES[recipe.model.dtype]
    settings = {name: recipe.adapter_of(name) for name in recipe.agents}
    if "critic" in needs_of(recipe.algorithm):
        settings["critic"] = recipe.critic.adapter or recipe.adapter
    adapters = {name: _adapter_parameters(model, name, one) * max(4, width) for name, one in settings.items()}
    paths = _paths(recipe)
    per_update = recipe.rollout.groups * recipe.rollout.group_size * paths
    rows = per_update * sum(seat.own.agent is not None for seat in recipe.team.values())
    seats = per_update * sum(seat.own.by_model for seat in recipe.team.values())
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * head * width
    live = seats if recipe.engine.reuse_cache else min(seats, recipe.engine.max_batch)
    return Cost(
        paths=paths,
        episodes_per_update=per_update,
        episodes=per_update * recipe.train.updates,
        row_tokens=row_tokens,
        trained_rows_per_update=rows,
        tokens_per_update=rows * row_tokens,
        tokens=rows * row_tokens * recipe.train.updates,
        base=sum(parameter.numel() for parameter in model.parameters()) * width,
        adapters=adapters,
        optimizers=3 * sum(adapters.values()),  # two AdamW moments and the gradient
        cache=int(live * row_tokens * per_token),
        activations=_activations(recipe, config, width),
    )


def _activations(recipe: Recipe, config: Any, width: int) -> int:
    """What a micro-batch keeps for its backward pass: about 14 hidden and 4 intermediate vectors a token and layer."""
    intermediate = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    per_layer = 14 * config.hidden_size + 4 * intermediate
    return recipe.train.token_budget * config.num_hidden_layers * per_layer * width


def _paths(recipe: Recipe) -> int:
    """Paths of one tree. Scripted play tells how many decisions an episode has and how many seats take each."""
    game = make_game(recipe.game.name, recipe.game.options)
    plan, player = recipe.rollout.plan, next(iter(game.players.values()), None)
    if not plan.branches:
        return 1
    if player is None:
        raise RecipeError(f"--dry-run: {game.name} has no scripted players, so the size of its trees is not known")
    results = play_scripted(game, recipe.seed, dict.fromkeys(game.seats, player))
    return leaves(plan, max(len(result.actions) for result in results), len(results))


def _skeleton(recipe: Recipe) -> tuple[Any, float]:
    """The model without its weights, and the mean length of a seat's side of an episode."""
    game = make_game(recipe.game.name, recipe.game.options)
    if recipe.model.name == "tiny":
        settings = recipe.model.tiny
        tokenizer = train_tokenizer(scripted_play(game, settings), settings)
        with torch.device("meta"):
            model = new_model(tokenizer, settings)
    else:
        source = base_source(recipe)
        tokenizer = load_tokenizer(source, recipe.model.revision)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source))
    if not game.players:
        return model, 0.0
    chat = Chat(tokenizer)
    sample = scripted_play(game, recipe.model.tiny.model_copy(update={"warmup_episodes": SAMPLE}))
    lengths = [len(encode(chat, script)[0]) for script in sample]
    return model, math.fsum(lengths) / len(lengths)


def _adapter_parameters(model: Any, agent: str, settings: Adapter) -> int:
    try:
        peft = get_peft_model(copy.deepcopy(model), lora_config(settings), low_cpu_mem_usage=True)
    except ValueError as error:
        raise ModelError(f"agents.{agent}.adapter: {error}") from None
    return sum(parameter.numel() for name, parameter in peft.named_parameters() if "lora_" in name)


def print_plan(recipe: Recipe, console: Console) -> None:
    """The cost as a table."""
    plan = cost(recipe)
    table = Table("what", "how much", title="what this recipe costs", title_justify="left")
    rollout = recipe.rollout
    times = f" trees × {plan.paths:,} paths" if plan.paths > 1 else ""
    table.add_row(
        "episodes per update", f"{rollout.groups} groups × {rollout.group_size}{times} = {plan.episodes_per_update:,}"
    )
    if plan.paths > 1:
        table.add_row("paths per tree", f"{plan.paths:,} (rollout.plan {rollout.plan.kind}), counted above")
    table.add_row("episodes in all", f"× {recipe.train.updates:,} updates = {plan.episodes:,}")
    if plan.row_tokens:
        table.add_row("tokens per seat and episode", f"{plan.row_tokens:,.0f} (measured on scripted play)")
        table.add_row("training rows per update", f"{plan.trained_rows_per_update:,}")
        table.add_row("training tokens", f"{plan.tokens_per_update:,.0f} per update, {plan.tokens:,.0f} in all")
    else:
        table.add_row("tokens", "unknown: the game has no scripted players to measure on")
    table.add_row("memory: base", f"{_size(plan.base)} ({recipe.model.dtype}, shared by all agents)")
    table.add_row("memory: adapters", ", ".join(f"{name} {_size(size)}" for name, size in plan.adapters.items()))
    table.add_row("memory: gradients and optimizers", _size(plan.optimizers))
    table.add_row("memory: keys and values of a rollout", _size(plan.cache))
    table.add_row("memory: activations of a micro-batch", f"about {_size(plan.activations)}")
    table.add_row("memory in all", f"about {_size(plan.memory)} beside the libraries' own")
    console.print(table)
    for sentence in warnings_for(recipe.algorithm, facts_of(recipe)):
        console.print(f"warning: {sentence}", style="yellow", markup=False, highlight=False)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    raise AssertionError
