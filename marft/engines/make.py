"""The engine that a recipe asks for."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marft.banks import AnyBank, AnyBase, Bases
from marft.bases import views_of
from marft.chat import Chat
from marft.config import Recipe
from marft.engines.base import Trained
from marft.engines.by_base import EngineByBase
from marft.engines.hf import HFEngine
from marft.errors import EngineError
from marft.games import make_game
from marft.scoring import Scorer
from marft.seeds import derive

if TYPE_CHECKING:
    from marft.train.workers import Workers

CPU_HEADS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Head sizes that vLLM 0.32 has attention for on the CPU."""

PROBE = 256
"""Most tokens of the canary's probe."""

PLACES = 8
"""Places in it at which the next token is asked for."""


def make_engine(recipe: Recipe, base: AnyBase, bank: AnyBank, folder: Path, workers: Workers) -> Trained:
    """Every process of a launch calls it; servers are started by the main one, `start` waits for them."""
    settings = recipe.engine
    if settings.kind == "hf":
        apart = recipe.rollout.max_staleness > 0
        rest = {"max_batch": settings.max_batch, "reuse_cache": settings.reuse_cache, "apart": apart}
        return hf_engine(base, bank, **rest)
    if isinstance(base, Bases):
        engines: dict[str, Trained] = {}
        try:
            for key, view in views_of(recipe).items():
                place = folder / "bases" / key
                engines[key] = make_engine(view, base.each[key], bank.each[key], place, workers)
        except BaseException:
            EngineByBase(engines, base.home).close()  # servers of the first bases may run already
            raise
        return EngineByBase(engines, base.home)
    from marft.engines.vllm import VLLMEngine, server_urls
    from marft.serve.fleet import Fleet
    from marft.serve.hub import Hub

    fleet, hub, urls, key = None, None, [], None
    if settings.launch is None:
        urls, key = server_urls(settings)
        if workers.main and settings.share == "hub":
            hub = Hub(key, settings.share_host, settings.share_port)
    elif workers.main:
        on_cpu = bank.device.type == "cpu"
        if on_cpu:
            check_head_size(base.model.config)
        context = getattr(bank.config, "max_position_embeddings", None) or 0
        fleet = Fleet(recipe, base.source, settings.launch, folder / "servers", on_cpu=on_cpu, context=context)
        fleet.start()
        urls, key = fleet.urls, fleet.key
    urls, key, mark = workers.gather([(urls, key, secrets.token_hex(3))])[0]
    scorer, ids = Scorer(bank, recipe.train.token_budget), probe_of(recipe, base.chat)
    lengths = places_of(len(ids))
    return VLLMEngine(
        recipe,
        base.chat.stop_ids,
        [ids[:length] for length in lengths],
        score=lambda policy: scorer.following(policy, ids, lengths),
        save=bank.save,
        folder=folder / "serving",
        fleet=fleet,
        urls=urls,
        key=key,
        main=workers.main,
        mark=mark,
        hub=hub,
    )


def hf_engine(base: AnyBase, bank: AnyBank, **settings: Any) -> Trained:
    """The in-process engine; of several bases, one each."""
    if isinstance(base, Bases):
        each = {key: HFEngine(bank.each[key], one.chat.stop_ids, **settings) for key, one in base.each.items()}
        return EngineByBase(each, base.home)
    return HFEngine(bank, base.chat.stop_ids, **settings)


def places_of(length: int) -> list[int]:
    """How much of a probe each of its prompts holds: up to PLACES of them, evenly spaced, the whole one last."""
    count = min(PLACES, length)
    return [length * (number + 1) // count for number in range(count)]


def check_head_size(config: Any) -> None:
    """vLLM's attention on the CPU takes certain widths only, and says so by dying at the first request."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if size not in CPU_HEADS:
        raise EngineError(
            f"engine: vLLM on the CPU serves attention heads of {', '.join(map(str, CPU_HEADS))} numbers, this model's "
            f"have {size}; set model.tiny.heads (and kv_heads) to 2 for hidden 64, or engine.kind hf"
        )


def probe_of(recipe: Recipe, chat: Chat) -> list[int]:
    """What the canary asks about: how the game begins for the seat that acts first."""
    game = make_game(recipe.game.name, recipe.game.options)
    game.reset(derive(recipe.seed, "probe"))
    ids, _ = chat.conversation().hear(game.observe(game.acting()[0]))
    return list(ids[:PROBE])
