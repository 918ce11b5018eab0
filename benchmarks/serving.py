"""What marft costs between a game and a vLLM server: rollouts through the engine against a bare client that sends the
very same requests at the same concurrency to the same server, in turns; and how much the prefix cache finds.

    python benchmarks/serving.py --rounds 3
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx
import torch
import typer

from marft.bank import AdapterBank
from marft.config import Launch
from marft.engines import vllm
from marft.engines.make import make_engine
from marft.engines.replica import request_body
from marft.errors import EngineError
from marft.model import load_base
from marft.quiet import quiet_libraries
from marft.recipe import parse_recipe
from marft.rollout import plan_update
from marft.serve.command import find_python
from marft.team import make_rollout
from marft.train.workers import Workers

BLOCK = 32
"""Tokens of a block of the cache, as servers on the CPU are started: only whole ones can be found again."""


def recipe_of(episodes: int, tokens: int):
    """Ten rounds of the dilemma with a message before each move: a dialogue long enough to fill blocks."""
    return parse_recipe(
        {
            "name": "serving",
            "model": {"name": "tiny", "tiny": {"heads": 2, "kv_heads": 2, "warmup_steps": 50}},
            "game": {"name": "prisoners_dilemma", "rounds": 10, "cheap_talk": True},
            "agents": {"alice": {}, "bob": {}},
            "adapter": {"rank": 8, "alpha": 16},
            "sampling": {"max_new_tokens": tokens},
            "rollout": {"groups": 1, "group_size": episodes},
            "algorithm": "rloo",
            "engine": {"kind": "vllm", "launch": {"replicas": 1, "max_model_len": 2048}},
        }
    )


def main(
    episodes: Annotated[int, typer.Option(help="played at once; each has one or two requests in flight")] = 64,
    tokens: Annotated[int, typer.Option(help="most tokens of an answer")] = 8,
    rounds: Annotated[int, typer.Option(help="times that both are measured")] = 3,
) -> None:
    """Print the figures."""
    quiet_libraries()
    torch.set_num_threads(1)
    for what, figure in table(rounds, episodes, tokens):
        print(f"{what}: {figure}")


def table(rounds: int, episodes: int = 64, tokens: int = 8) -> list[tuple[str, str]]:
    """Rows of the benchmark's table; both sides take turns."""
    recipe = recipe_of(episodes, tokens)
    base = load_base(recipe, "cpu")
    bank = AdapterBank(base.model)
    for name in recipe.agents:
        bank.add(name, recipe.adapter_of(name), 0)
    with TemporaryDirectory() as folder:
        engine = make_engine(recipe, base, bank, Path(folder), Workers(None))
        try:
            engine.start()
            for name in recipe.agents:
                engine.publish(name, 0)
            rollout = make_rollout(recipe, base.chat, bank, engine)
            with asyncio.Runner() as runner:
                ours, bare, hits = [], [], []
                runner.run(rollout.play(plan_update(recipe, 0)))  # warms up
                for number in range(1, rounds + 1):
                    one = measured(runner, engine, rollout, plan_update(recipe, number))
                    ours.append(one[0])
                    bare.append(runner.run(sent_bare(engine, one[2])))
                    hits.append(one[1])
        finally:
            engine.close()
    rate, peer = statistics.median(ours), statistics.median(bare)
    return [
        ("a bare client that sends the same requests", f"{peer:,.0f} tokens/s"),
        ("marft: game, chat, balancing, checks", f"{rate:,.0f} tokens/s, {rate / peer:.2f} × the bare client"),
        (
            f"prefix cache, whole blocks of {BLOCK} tokens",
            f"{statistics.median(hits):.0%} of the prompt tokens that could be found again were",
        ),
    ]


def installed() -> bool:
    """Whether there is a vLLM to measure."""
    try:
        find_python(Launch())
    except EngineError:
        return False
    return True


def measured(runner, engine, rollout, plans):
    """(tokens per second, share of the possible prefix hits, each session's request bodies) of one rollout."""
    chains, original = defaultdict(list), engine._ask

    async def ask(replica, served, request):
        answer = await original(replica, served, request)
        body = (served.name, request.prompt_ids, request.sampling, request.seed, engine._stop_list)
        chains[request.session].append(request_body(*body))
        return answer

    before = cached(engine)
    engine._ask = ask
    began = time.perf_counter()
    try:
        episodes = runner.run(rollout.play(plans))
    finally:
        took = time.perf_counter() - began
        engine._ask = original
    sampled = sum(len(turn.completion_ids) for episode in episodes for turn in episode.turns)
    possible = 0
    for episode in episodes:
        for seat in episode.seats:
            held = 0
            for turn, prompt in episode.contexts(seat):
                possible += min(held, len(prompt) - 1) // BLOCK * BLOCK
                held = len(prompt) + len(turn.completion_ids)
    return sampled / took, (cached(engine) - before) / max(possible, 1), list(chains.values())


async def sent_bare(engine, chains) -> float:
    """Tokens per second of the same requests: every session at once, each sending its next when it has its answer."""
    url = next(iter(engine.replicas))
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=vllm.KEPT)
    headers = engine.admin.headers | {"Content-Type": "application/json"}

    async def session(client, bodies) -> int:
        tokens = 0
        for body in bodies:
            answer = await posted(client, f"{url}/v1/completions", body)
            tokens += len(json.loads(answer.content)["choices"][0]["token_ids"])
        return tokens

    async with httpx.AsyncClient(headers=headers, timeout=None, limits=limits) as client:
        began = time.perf_counter()
        tokens = await asyncio.gather(*(session(client, bodies) for bodies in chains))
        return sum(tokens) / (time.perf_counter() - began)


async def posted(client: httpx.AsyncClient, url: str, body: bytes) -> httpx.Response:
    """The answer; a connection that the server closed while it was idle is opened again."""
    for _ in range(3):
        try:
            return await client.post(url, content=body)
        except httpx.TransportError as error:
            broken = error
    raise broken


def cached(engine) -> float:
    text = engine.admin._client.get(f"{next(iter(engine.replicas))}/metrics").text
    return sum(float(value) for value in re.findall(r"^vllm:prefix_cache_hits_total\S* (\S+)$", text, re.MULTILINE))


if __name__ == "__main__":
    typer.run(main)
