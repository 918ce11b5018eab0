"""A whole `marft eval` against the bare engine on the same requests, in processor time of one thread.

What an evaluation asks the engine is kept, batch by batch; then a fresh engine is given the same batches and nothing
else. The evaluation's time holds loading, play, writing, reading back, and the bootstrap.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from job import Job, write_model

from marft.bank import AdapterBank
from marft.config import Recipe
from marft.engines.base import Completion, Request
from marft.engines.hf import HFEngine
from marft.eval.arena import evaluate
from marft.files import write_text
from marft.model import load_base
from marft.recipe import dump_recipe, load_recipe, parse_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "prisoners_dilemma" / "ad_align.yaml"
EPISODES = 128
Kept = list[tuple[str, list[Request]]]


def table(rounds: int) -> list[tuple[str, str]]:
    """Tokens per second of the engine alone and of the evaluation."""
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp(prefix="marft-bench-"))
    job = Job(tokens=64, hidden=256, layers=4)
    long = parse_recipe(job.recipe(write_model(root / "model", job), "rloo"))
    short = load_recipe(RECIPE, ["trackers=[]"])
    return [
        *_rows("answers of 64 tokens, 256 wide, 4 layers", long, root / "long", rounds, against="none"),
        *_rows("ten rounds of 2 tokens, the demo's tiny model", short, root / "short", rounds, against="TFT,AllD"),
    ]


def _rows(what: str, recipe: Recipe, folder: Path, rounds: int, **settings: Any) -> list[tuple[str, str]]:
    bank = AdapterBank(load_base(recipe, "cpu").model)
    for agent in recipe.agents:
        bank.add(agent, recipe.adapter_of(agent), 0)
        bank.save(agent, folder / "adapters" / agent)
    write_text(folder / "recipe.yaml", dump_recipe(recipe))
    apart, whole = [], []
    for number in range(rounds + 1):
        kept, engines, tokens, seconds = _evaluated(folder, **settings)
        bare = _bare(kept, engines)
        if number:  # the first round warms up
            whole.append(tokens / seconds)
            apart.append(tokens / bare)
    ratios = [one / other for one, other in zip(whole, apart, strict=True)]
    return [
        (f"{what}: engine alone, tokens/s", f"{median(apart):,.0f}"),
        (f"{what}: marft eval, tokens/s", f"{median(whole):,.0f}"),
        (f"{what}: ratio", f"{median(ratios):.3f}"),
    ]


def _evaluated(folder: Path, **settings: Any) -> tuple[Kept, list[HFEngine], int, float]:
    """What was asked, the engines that were, the tokens they sampled, and the seconds of it all."""
    kept: Kept = []
    engines: dict[int, HFEngine] = {}
    tokens = 0
    plain, forget = HFEngine.complete, HFEngine.end_sessions

    def complete(self: HFEngine, requests: Sequence[Request]) -> list[Completion]:
        nonlocal tokens
        engines[id(self)] = self
        kept.append(("complete", [replace(one, prompt_ids=list(one.prompt_ids)) for one in requests]))
        done = plain(self, requests)
        tokens += sum(len(one.token_ids) for one in done)
        return done

    def end_sessions(self: HFEngine, start: str = "") -> None:
        kept.append(("end", []))
        forget(self, start)

    with mock.patch.object(HFEngine, "complete", complete), mock.patch.object(HFEngine, "end_sessions", end_sessions):
        began = time.process_time()
        evaluate({"team": folder}, folder / "eval", episodes=EPISODES, overwrite=True, **settings)
        seconds = time.process_time() - began
    return kept, list(engines.values()), tokens, seconds


def _bare(kept: Kept, engines: list[HFEngine]) -> float:
    """Seconds of the same batches on the same weights."""
    (engine,) = engines
    fresh = HFEngine(engine.bank, frozenset(engine.stop_ids.tolist()), max_batch=engine.max_batch)
    began = time.process_time()
    for what, requests in kept:
        if what == "complete":
            fresh.complete(requests)
        else:
            fresh.end_sessions()
    return time.process_time() - began
