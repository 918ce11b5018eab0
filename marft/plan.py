"""What a recipe costs before it runs: episodes, tokens, memory. An estimate, and it says of what.

Parameters are counted on the model's skeleton, without weights; what they take when they learn is in `marft.memory`.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from peft import get_peft_model
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForCausalLM

from marft.bank import lora_config
from marft.bases import views_of
from marft.branching import leaves
from marft.chat import Chat
from marft.config import Adapter, Recipe
from marft.credit.advice import warnings_for
from marft.credit.couplings import needs_of
from marft.curriculum import told
from marft.errors import ModelError, RecipeError
from marft.game import play_scripted
from marft.games import make_game
from marft.memory import BYTES, Batch, Lora, Memory, Play, Shape, estimate, lora_of, shape_of, together
from marft.model import base_source, load_tokenizer, pick_device
from marft.recipe import facts_of
from marft.tiny import encode, new_model, scripted_play, train_tokenizer

SAMPLE = 16
QUANTISED = {"8bit": 1 + 4 / 1024, "4bit": 0.5 + 1 / 64 + 4 / 64 / 256}
"""Bytes of a weight: with a float32 scale by row, or with one of 8 bits by 64 weights, scaled in float32 by 256."""


@dataclass(frozen=True)
class Rows:
    """Lengths in tokens of a seat's side of an episode, measured on scripted play.

    mean: as the players played. longest: if every answer had sampling.max_new_tokens; said: the answers' share of it.
    heard: what a seat hears at once at most, without what all episodes begin with.
    """

    mean: float
    longest: int
    said: float
    heard: int


@dataclass(frozen=True)
class Cost:
    """Counts are of the whole run unless named otherwise; `adapters` in bytes, `memory` of one device.

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
    adapters: dict[str, int]
    batch: Batch
    memory: Memory


def costs(recipe: Recipe) -> dict[str, Cost]:
    """The cost on each of the recipe's bases."""
    return {key: cost(view) for key, view in views_of(recipe).items()}


def cost(recipe: Recipe) -> Cost:
    """The cost of a recipe of one base; loads a tokenizer and a model's config, never its weights."""
    model, rows = _skeleton(recipe)
    shape = shape_of(model.config.to_dict())
    settings = {name: recipe.adapter_of(name) for name in recipe.agents}
    if "critic" in needs_of(recipe.algorithm):
        settings["critic"] = recipe.critic.adapter or recipe.adapter
    loras = {
        name: lora_of(one.targets, one.rank, one.dora, _adapter_parameters(model, name, one))
        for name, one in settings.items()
    }
    paths = _paths(recipe)
    per_update = recipe.rollout.groups * recipe.rollout.group_size * paths
    trained = Counter(seat.own.agent for seat in recipe.team.values() if seat.own.agent is not None)
    mean = rows.mean if rows else 0.0
    mixed = _mixed(recipe, [loras[name] for name in recipe.agents])
    most = trained.total() if mixed else max(trained.values(), default=0)
    batch = _batch(recipe, rows, most * per_update, shape)
    memory = estimate(
        shape,
        base=_base_bytes(model, recipe),
        adapters=loras,
        copies=_copies(recipe),
        batch=batch,
        play=_play(recipe, rows, per_update, batch),
        dtype=recipe.model.dtype,
        device="cpu" if pick_device(recipe.model.device).type == "cpu" else "cuda",
        checkpointing=recipe.train.activation_checkpointing,
        offload=recipe.train.offload_optimizer,
        mixed=mixed,
        attention="eager" if model.config._attn_implementation == "eager" else "sdpa",
        at_once=recipe.rollout.max_staleness > 0 or recipe.rollout.pipeline,
    )
    return Cost(
        paths=paths,
        episodes_per_update=per_update,
        episodes=per_update * recipe.train.updates,
        row_tokens=mean,
        trained_rows_per_update=per_update * trained.total(),
        tokens_per_update=per_update * trained.total() * mean,
        tokens=per_update * trained.total() * mean * recipe.train.updates,
        adapters={name: lora.parameters * max(4, BYTES[recipe.model.dtype]) for name, lora in loras.items()},
        batch=batch,
        memory=memory,
    )


def _mixed(recipe: Recipe, loras: Sequence[Lora]) -> bool:
    """Whether agents are likely to learn in passes that they share, as far as the recipe tells."""
    train, plain = recipe.train, not any(lora.dora or lora.head for lora in loras)
    single = train.packing and train.epochs * train.minibatches == 1 and not recipe.rollout.pipeline
    return train.step != "loop" and len(loras) > 1 and plain and single and recipe.model.quantization is None


def _batch(recipe: Recipe, rows: Rows | None, count: int, shape: Shape) -> Batch:
    """The largest micro-batch of `count` rows an update; full to the budget where lengths are unknown."""
    budget = recipe.train.token_budget
    if rows is None:
        return Batch(budget, budget // 2, min(budget, shape.context or budget))
    count = math.ceil(count / recipe.train.minibatches)
    tokens = min(count, max(1, budget // rows.longest)) * rows.longest
    return Batch(tokens, round(tokens * rows.said), rows.longest)


def _play(recipe: Recipe, rows: Rows | None, per_update: int, batch: Batch) -> Play | None:
    """What the in-process engine has in hand when every episode of an update is under way."""
    if recipe.engine.kind != "hf":
        return None
    most = sum(seat.own.by_model for seat in recipe.team.values()) * per_update
    length, fed = (rows.longest, rows.heard) if rows else (batch.longest, batch.longest // 2)
    return Play(most, length, min(most, recipe.engine.max_batch), fed)


def _copies(recipe: Recipe) -> list[str]:
    """Agents, once for each further adapter of theirs that is kept beside the one that learns."""
    kl, agents = recipe.algorithm.kl, list(recipe.agents)
    anchors = agents if kl.coef and kl.anchor in ("snapshot", "adapter") else []
    played = agents if recipe.rollout.max_staleness and recipe.engine.kind == "hf" else []
    past = [policy.past for policy in recipe.policies.values() if policy.past is not None]
    return anchors + played + sorted(set(past)) * recipe.past.keep


def _base_bytes(model: Any, recipe: Recipe) -> int:
    """The frozen weights, on whichever of them quantisation does not touch at the base's own type."""
    width, whole = BYTES[recipe.model.dtype], sum(parameter.numel() for parameter in model.parameters())
    if recipe.model.quantization is None:
        return whole * width
    head = model.get_output_embeddings()
    linear = [one for one in model.modules() if isinstance(one, torch.nn.Linear) and one is not head]
    small = sum(one.weight.numel() for one in linear)
    return int((whole - small) * width + small * QUANTISED[recipe.model.quantization])


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


def _skeleton(recipe: Recipe) -> tuple[Any, Rows | None]:
    """The model without its weights, and the lengths of its rows; None where the game has no players."""
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
        return model, None
    chat = Chat(tokenizer)
    sample = scripted_play(game, recipe.model.tiny.model_copy(update={"warmup_episodes": SAMPLE}))
    rows = [encode(chat, script) for script in sample]
    answers = [len(script) * recipe.sampling.max_new_tokens for script in sample]
    return model, _lengths(rows, answers, getattr(model.config, "max_position_embeddings", None) or math.inf)


def _lengths(rows: Sequence[tuple[list[int], list[bool]]], answers: Sequence[int], context: float) -> Rows:
    """answers: tokens that a row's answers may have in all."""
    lengths = [len(ids) for ids, _ in rows]
    full = [(said.count(False) + most, most) for (_, said), most in zip(rows, answers, strict=True)]
    longest, most = max(full)
    first = [said.index(True) for _, said in rows]
    low, high = min(ids for ids, _ in rows), max(ids for ids, _ in rows)  # two sorted ends share what all rows share
    common = next((n for n, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))
    later = [len(list(run)) for _, said in rows for own, run in groupby(said) if not own][len(rows) :]
    heard = max([1, max(first) - min(common, *first), *later])
    return Rows(math.fsum(lengths) / len(lengths), int(min(longest, context)), most / longest, heard)


def _adapter_parameters(model: Any, agent: str, settings: Adapter) -> int:
    try:
        peft = get_peft_model(copy.deepcopy(model), lora_config(settings), low_cpu_mem_usage=True)
    except ValueError as error:
        raise ModelError(f"agents.{agent}.adapter: {error}") from None
    return sum(parameter.numel() for name, parameter in peft.named_parameters() if "lora_" in name)


def print_plan(recipe: Recipe, console: Console) -> None:
    """The cost as a table."""
    plans = costs(recipe)
    plan = next(iter(plans.values()))
    table = Table("what", "how much", title="what this recipe costs", title_justify="left")
    rollout = recipe.rollout
    times = f" trees × {plan.paths:,} paths" if plan.paths > 1 else ""
    table.add_row(
        "episodes per update", f"{rollout.groups} groups × {rollout.group_size}{times} = {plan.episodes_per_update:,}"
    )
    if plan.paths > 1:
        table.add_row("paths per tree", f"{plan.paths:,} (rollout.plan {rollout.plan.kind}), counted above")
    table.add_row("episodes in all", f"× {recipe.train.updates:,} updates = {plan.episodes:,}")
    for stage, said in enumerate(told(recipe)):
        table.add_row(f"curriculum: stage {stage}", said)
    if not plan.row_tokens:
        table.add_row("tokens", "unknown: the game has no scripted players to measure on")
    for key, view in views_of(recipe).items():
        if recipe.models:
            table.add_section()
            table.add_row(f"on {key}", f"{view.model.name}: {', '.join(view.agents) or 'nobody learns'}")
        for what, figure in [*_token_rows(plans[key]), *_memory_rows(view, plans[key])]:
            table.add_row(what, figure)
    table.add_section()
    memory = together([one.memory for one in plans.values()])
    phases = "at once" if memory.at_once else "one after the other"
    table.add_row("memory in all", f"about {_size(memory.total)} beside the libraries' own, play and update {phases}")
    console.print(table)
    for sentence in warnings_for(recipe.algorithm, facts_of(recipe)):
        console.print(f"warning: {sentence}", style="yellow", markup=False, highlight=False)


def _token_rows(plan: Cost) -> list[tuple[str, str]]:
    if not plan.row_tokens or not plan.adapters:
        return []
    return [
        ("tokens per seat and episode", f"{plan.row_tokens:,.0f} (measured on scripted play)"),
        ("training rows per update", f"{plan.trained_rows_per_update:,}"),
        ("training tokens", f"{plan.tokens_per_update:,.0f} per update, {plan.tokens:,.0f} in all"),
    ]


def _memory_rows(recipe: Recipe, plan: Cost) -> list[tuple[str, str]]:
    memory, train, batch = plan.memory, recipe.train, plan.batch
    kept = "layers' inputs only" if train.activation_checkpointing else "train.activation_checkpointing true takes less"
    away = " (on the cpu but for a step's)" if train.offload_optimizer and not memory.optimizers else ""
    bits = f", {recipe.model.quantization}" if recipe.model.quantization else ""
    others = memory.adapters - sum(plan.adapters.values())
    sizes = [f"{name} {_size(size)}" for name, size in plan.adapters.items()]
    found = [("base", f"{_size(memory.base)} ({recipe.model.dtype}{bits}, shared by all agents on it)")]
    learning = [
        ("adapters", ", ".join(sizes + ([f"copies {_size(others)}"] if others else []))),
        ("optimizer states", f"{_size(memory.optimizers)}{away}"),
        ("gradients", f"{_size(memory.gradients)} (one agent at a time, or all of those that share passes)"),
        ("activations", f"{_size(memory.activations)} for {batch.tokens:,} tokens at once ({kept})"),
        ("backward pass", f"{_size(memory.backward)} of its own"),
        ("logits of the loss", f"{_size(memory.logits)}, before the backward pass"),
    ]
    found += learning if recipe.agents else []
    if recipe.engine.kind == "hf":
        found += [
            ("keys and values of a rollout", _size(memory.cache)),
            ("one pass of the engine", f"{_size(memory.passes)} at most"),
        ]
    return [(f"memory: {what}", size) for what, size in found]


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    raise AssertionError
