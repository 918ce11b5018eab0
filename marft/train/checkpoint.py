"""Checkpoints: everything a killed run needs to go on bit for bit. No pickle: safetensors and JSON only.

checkpoints/update-000010/
    adapters/<agent>/            plain PEFT folders
    optimizers/<agent>.safetensors
    critic/                      the critic's weights, statistics and optimizer, where there is one
    state.json                   counters, versions, credit state, Python's and NumPy's random states
    random.safetensors           torch's random states
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from marft.banks import AnyBank
from marft.errors import RunFolderError
from marft.files import replace_folder
from marft.train.critic import Critic
from marft.train.optimizer import Learner


@dataclass
class Progress:
    """Where a run stands. update: the next one to make. credit: what credit blocks remember between updates. source:
    what the source of episodes has to know. curriculum: which stage it has come to, and what counts towards the next.
    """

    update: int = 0
    episodes: int = 0
    tokens: int = 0
    credit: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    curriculum: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    root: Path,
    bank: AnyBank,
    learners: Mapping[str, Learner],
    progress: Progress,
    critic: Critic | None = None,
) -> Path:
    """Write one checkpoint folder, whole or not at all."""
    folder = root / f"update-{progress.update:06d}"
    with replace_folder(folder) as temporary:
        for name, learner in learners.items():
            bank.of(name).save(name, temporary / "adapters" / name)
            (temporary / "optimizers").mkdir(exist_ok=True)
            tensors = _optimizer_tensors(bank.of(name).named_parameters(name), learner)
            save_file(tensors, temporary / "optimizers" / f"{name}.safetensors")
        if critic is not None:
            _save_critic(critic, temporary / "critic")
        save_file(_torch_random(), temporary / "random.safetensors")
        state = {
            "progress": vars(progress),
            "versions": {name: learner.version for name, learner in learners.items()},
            "random": {"python": random.getstate(), "numpy": _numpy_random()},
        }
        (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
    return folder


def load_checkpoint(
    folder: Path, bank: AnyBank, learners: Mapping[str, Learner], critic: Critic | None = None
) -> Progress:
    """Put adapters, optimizers and random states back; returns where the run stood."""
    try:
        if critic is not None:
            _load_critic(critic, folder / "critic")
        return _load(folder, bank, learners)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        what = f"{type(error).__name__}: {error}"
        raise RunFolderError(f"checkpoint {folder} cannot be read: {what}; remove it to use the one before") from None


def _load(folder: Path, bank: AnyBank, learners: Mapping[str, Learner]) -> Progress:
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    for name, learner in learners.items():
        own = bank.of(name)
        own.restore(name, folder / "adapters" / name)
        stored = load_file(folder / "optimizers" / f"{name}.safetensors")
        _restore_optimizer(own.named_parameters(name), learner, stored)
        learner.version = state["versions"][name]
    python = state["random"]["python"]
    random.setstate((python[0], tuple(python[1]), python[2]))
    numpy = state["random"]["numpy"]
    np.random.set_state((numpy[0], np.array(numpy[1], dtype=np.uint32), *numpy[2:]))
    states = load_file(folder / "random.safetensors")
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
    return Progress(**state["progress"])


def checkpoints(root: Path) -> dict[int, Path]:
    """Every whole checkpoint by the number of updates made, oldest first."""
    found = [path for path in root.glob("update-*") if (path / "state.json").is_file()]
    return {_number(path): path for path in sorted(found, key=_number)}


def latest_checkpoint(root: Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    return next(reversed(checkpoints(root).values()), None)


def newest_adapters(run: Path) -> Path:
    """Where a run's newest adapters are: in its last checkpoint, or where it kept none, what it left at its end."""
    newest = latest_checkpoint(run / "checkpoints")
    return (newest if newest is not None else run) / "adapters"


def prune_checkpoints(root: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what a kill left half-written."""
    for path in sorted(root.glob("update-*"), key=_number)[:-keep]:
        shutil.rmtree(path)
    for path in root.glob(".update-*"):
        shutil.rmtree(path, ignore_errors=True)


def _number(path: Path) -> int:
    return int(path.name.removeprefix("update-"))


def _save_critic(critic: Critic, folder: Path) -> None:
    folder.mkdir()
    weights = {name: value.detach().cpu().contiguous() for name, value in critic.named_parameters().items()}
    save_file(weights, folder / "weights.safetensors")
    save_file(critic.statistics(), folder / "statistics.safetensors")
    save_file(_optimizer_tensors(critic.named_parameters(), critic.learner), folder / "optimizer.safetensors")


@torch.no_grad()
def _load_critic(critic: Critic, folder: Path) -> None:
    weights = load_file(folder / "weights.safetensors")
    for name, parameter in critic.named_parameters().items():
        parameter.copy_(weights[name])
    critic.restore_statistics(load_file(folder / "statistics.safetensors"))
    _restore_optimizer(critic.named_parameters(), critic.learner, load_file(folder / "optimizer.safetensors"))


def _optimizer_tensors(parameters: Mapping[str, torch.Tensor], learner: Learner) -> dict[str, torch.Tensor]:
    tensors = {}
    for name, parameter in parameters.items():
        for key, value in learner.optimizer.state.get(parameter, {}).items():
            tensors[f"{key}:{name}"] = value.detach().cpu().clone()
    return tensors


def _restore_optimizer(
    parameters: Mapping[str, torch.Tensor], learner: Learner, stored: Mapping[str, torch.Tensor]
) -> None:
    for full, tensor in stored.items():
        key, _, name = full.partition(":")
        parameter = parameters[name]
        device = "cpu" if key == "step" or learner.offload else parameter.device
        learner.optimizer.state[parameter][key] = tensor.to(device)


def _torch_random() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _numpy_random() -> list[Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return [name, keys.tolist(), position, has_gauss, gauss]
