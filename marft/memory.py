"""How much memory a model's training takes, from its config's numbers alone: arithmetic, without torch.

What autograd keeps was counted tensor by tensor on Qwen3 with LoRA adapters on a frozen base. A frozen linear layer
keeps no input; an adapter on it keeps one, in the adapter's own type, which on a base of half precision is a copy for
each adapter. Norms keep their inputs in float32, sdpa and flash attention queries, keys, values and result and never
the scores, the gated MLP three vectors of the intermediate width.

All sizes are in bytes and on one device, beside what the libraries take themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from marft.engines.base import PASS_TOKENS

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
LOGITS_AT_ONCE = {"cpu": 1 << 24, "cuda": 1 << 26}
"""Logits of one chunk of the loss, as in `marft.logprobs`."""
CACHE_BLOCK = 64
"""Positions by which the engine's cache grows, as in `marft.engines.kv`."""
SITES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
QK_NORM = ("qwen3", "gemma3", "olmo2", "olmo3", "cohere2")
"""Families that normalise queries and keys."""

Attention = Literal["sdpa", "eager"]


@dataclass(frozen=True)
class Shape:
    """The numbers of a decoder that its activations follow from."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    qk_norm: bool
    context: int | None = None

    @property
    def queries(self) -> int:
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Site -> width of its input and output."""
        hidden, queries, keys, wide = self.hidden, self.queries, self.keys, self.intermediate
        outs = (queries, keys, keys, hidden, wide, wide, hidden)
        return dict(zip(SITES, zip((hidden,) * 3 + (queries, hidden, hidden, wide), outs, strict=True), strict=True))


@dataclass(frozen=True)
class Lora:
    """One adapter: where it is, its rank, whether DoRA, and its parameters' number."""

    sites: tuple[str, ...]
    rank: int
    dora: bool
    parameters: int
    head: bool = False


@dataclass(frozen=True)
class Batch:
    """The largest micro-batch: tokens with padding, those of them that are trained, and the longest row."""

    tokens: int
    trained: int
    longest: int


@dataclass(frozen=True)
class Play:
    """The in-process engine's work: conversations whose keys and values are kept, their length, rows in one pass, new
    tokens of a row in one pass."""

    slots: int
    length: int
    rows: int
    fed: int


@dataclass(frozen=True)
class Memory:
    """What a run holds, by component. `rollout` and `update` are the two phases' own; they come one after the other,
    or at once where play goes on while the trainer works."""

    base: int
    adapters: int
    optimizers: int
    gradients: int
    activations: int
    backward: int
    logits: int
    cache: int
    passes: int
    step: int
    at_once: bool = False

    @property
    def update(self) -> int:
        """The loss and the backward pass, one after the other, or the optimizer's step after them."""
        return max(self.gradients + self.activations + max(self.logits, self.backward), self.step)

    @property
    def rollout(self) -> int:
        return self.cache + self.passes

    @property
    def total(self) -> int:
        phases = self.update + self.rollout if self.at_once else max(self.update, self.rollout)
        return self.base + self.adapters + self.optimizers + phases


def together(memories: Sequence[Memory]) -> Memory:
    """Of a run with several bases: all are there, play is on all of them, and one is updated at a time."""
    held = {name: sum(getattr(one, name) for one in memories) for name in ("base", "adapters", "optimizers", "cache")}
    largest = max(memories, key=lambda one: one.update)
    return replace(largest, **held, passes=max(one.passes for one in memories))


def shape_of(config: Mapping[str, Any]) -> Shape:
    """From what a model's config.json holds; a model of several parts has its text part's under text_config."""
    config = config.get("text_config") or config
    heads = config["num_attention_heads"]
    experts = config.get("num_experts_per_tok")
    intermediate = config.get("intermediate_size") or 4 * config["hidden_size"]
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        intermediate=experts * (config.get("moe_intermediate_size") or intermediate) if experts else intermediate,
        vocabulary=config["vocab_size"],
        qk_norm=str(config.get("model_type", "")).startswith(QK_NORM),
        context=config.get("max_position_embeddings"),
    )


def lora_of(targets: Sequence[str] | str, rank: int, dora: bool, parameters: int) -> Lora:
    """An adapter on `targets`, in PEFT's words. parameters: how many it has in all."""
    if targets == "all-linear":
        return Lora(SITES, rank, dora, parameters)
    ends = {target.rsplit(".", 1)[-1] for target in targets}
    return Lora(tuple(site for site in SITES if site in ends), rank, dora, parameters, head="lm_head" in ends)


def kept_by_layer(shape: Shape, lora: Lora, width: int) -> int:
    """Bytes of a token that a layer keeps for its backward pass. width: bytes of a number of the base."""
    wide = max(4, width)  # the adapters' own type
    hidden, queries, keys = shape.hidden, shape.queries, shape.keys
    norms = 4 * (2 * hidden + (queries + keys if shape.qk_norm else 0))
    attention = width * (2 * queries + 2 * keys) + 4 * shape.heads
    mlp = 3 * width * shape.intermediate
    inputs = {site: shape.widths[site][0] for site in lora.sites}
    if wide == width:  # no copies: what several sites read, and what attention keeps anyway, is kept once
        shared = {"q_proj": "n1", "k_proj": "n1", "v_proj": "n1", "gate_proj": "n2", "up_proj": "n2"}
        inputs = {shared.get(site, site): size for site, size in inputs.items() if site != "o_proj"}
    adapters = wide * (sum(inputs.values()) + lora.rank * len(lora.sites))
    if lora.dora:
        adapters += (wide + width) * sum(shape.widths[site][1] for site in lora.sites)
    return norms + attention + mlp + adapters + 4 * (2 + (shape.heads + shape.kv_heads if shape.qk_norm else 0))


def scores_bytes(shape: Shape, batch: Batch, attention: Attention, width: int) -> int:
    """What eager attention keeps of each layer: scores in float32 and as weights."""
    return (4 + width) * shape.heads * batch.tokens * batch.longest if attention == "eager" else 0


def activation_bytes(
    shape: Shape, lora: Lora, batch: Batch, width: int, *, checkpointing: bool, attention: Attention = "sdpa"
) -> tuple[int, int]:
    """What a micro-batch's forward pass leaves for the backward pass, and what that holds besides at most."""
    wide, tokens, hidden = max(4, width), batch.tokens, shape.hidden
    layer = tokens * kept_by_layer(shape, lora, width) + scores_bytes(shape, batch, attention, width)
    kept = tokens * hidden * width if checkpointing else layer
    # two gradients of the intermediate width, the base's share and the adapter's, before the last layer is let go; of
    # two types, each is there in both for a while
    moving = tokens * (width + wide) * (shape.intermediate * (1 if wide == width else 2) + hidden)
    return kept * shape.layers, moving + (layer if checkpointing else 0)


def logits_bytes(shape: Shape, batch: Batch, width: int, device: str, *, head: bool = False) -> int:
    """The loss's work space: hidden states, their derivatives, and of a chunk the logits and two arrays in float32;
    of all tokens where the head learns."""
    wide, count = max(4, width), batch.trained * shape.vocabulary
    chunk = count if head else min(count, LOGITS_AT_ONCE[device])
    states = (batch.tokens + 2 * batch.trained) * shape.hidden * width
    return states + chunk * (width + 2 * wide + (width if width < wide else 0))


def cache_bytes(shape: Shape, slots: int, length: int, width: int) -> int:
    """Keys and values of so many conversations; the longest one decides for all."""
    positions = math.ceil(length / CACHE_BLOCK) * CACHE_BLOCK
    return 2 * shape.layers * slots * positions * shape.keys * width


def pass_bytes(shape: Shape, play: Play, width: int) -> int:
    """What one pass of the engine moves: attention over all that is cached, an MLP, or the choice of tokens."""
    rows = min(play.rows, max(1, PASS_TOKENS // max(1, play.fed)))
    new = rows * play.fed
    streams = 3 * new * shape.hidden * width
    copies = 2 * (shape.queries + shape.keys) if shape.heads != shape.kv_heads else 0
    # of prompts, or of one token for every row
    attention = max(rows * copies * width + 5 * new, play.rows * copies * width) * play.length
    mlp = 4 * new * shape.intermediate * width
    # log-probs in float32; then in float64, exp, running sum and the places kept
    choice = play.rows * shape.vocabulary * (width + (4 if width < 4 else 0) + max(4, width) + 25)
    return max(streams + max(attention, mlp), choice)


def estimate(
    shape: Shape,
    *,
    base: int,
    adapters: Mapping[str, Lora],
    copies: Sequence[str] = (),
    batch: Batch,
    play: Play | None,
    dtype: str,
    device: str,
    checkpointing: bool,
    offload: bool = False,
    attention: Attention = "sdpa",
    mixed: bool = False,
    at_once: bool = False,
) -> Memory:
    """The whole of it. base: the frozen weights' bytes. play: None where the engine is not in this process.

    adapters: those that learn, the critic's included; there may be none. copies: names of them, of each adapter that
    is of the same shape and does not learn (an anchor, say). offload: whether optimizer states are elsewhere but for a
    step. mixed: whether agents share passes, so that all their gradients are there at once.
    """
    width = BYTES[dtype]
    wide = max(4, width)
    sizes = {name: lora.parameters * wide for name, lora in adapters.items()}
    largest = max(sizes.values(), default=0)
    gradients = sum(sizes.values()) if mixed else largest
    passes = [
        (
            *activation_bytes(shape, lora, batch, width, checkpointing=checkpointing, attention=attention),
            logits_bytes(shape, batch, width, device, head=lora.head),
        )
        for lora in adapters.values()
    ]
    kept, backward, logits = max(passes, key=lambda one: one[0] + max(one[1:]), default=(0, 0, 0))
    held = 0 if offload and device != "cpu" else 2 * sum(sizes.values())
    return Memory(
        base=base,
        adapters=sum(sizes.values()) + sum(sizes[name] for name in copies),
        optimizers=held,
        gradients=gradients,
        activations=kept,
        backward=backward,
        logits=logits,
        cache=cache_bytes(shape, play.slots, play.length, width) if play else 0,
        passes=pass_bytes(shape, play, width) if play else 0,
        # the gradient as it was summed, flat, and clipped; the state of the one that steps, where states are elsewhere
        step=gradients + 2 * largest + (2 * largest if not held else 0),
        at_once=at_once,
    )
