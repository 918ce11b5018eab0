"""Runs of the command line in one or several processes, and what they leave behind."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import load_file
from trainer_fixtures import recipe_data

from marft.store import read_episodes

CONFIGS = Path(__file__).parent.parent / "recipes" / "accelerate"
DEADLINE = 240
SMALL = ("train.updates=3", "rollout.groups=5", "algorithm=ad_align")


def launch(
    tmp_path, name: str, processes: int | None, *overrides: str, config: str = "cpu2", flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess:
    """Train a small recipe in some processes under accelerate, or plainly in one (None); raises past the deadline.

    config: the accelerate file of two processes.
    """
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe_data(*SMALL, *overrides)))
    command = [sys.executable]
    if processes is not None:
        command += ["-m", "accelerate.commands.launch"]
        chosen = ["--config_file", str(CONFIGS / f"{config}.yaml")]
        command += chosen if processes == 2 else ["--cpu", "--num_processes", "1"]
    command += ["-m", "marft", "train", str(path), "--out", str(tmp_path / name), *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)


def trained(tmp_path, name: str, processes: int | None, *overrides: str, **options) -> Path:
    """The folder of such a run, which must succeed."""
    done = launch(tmp_path, name, processes, *overrides, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return tmp_path / name


@functools.cache
def alone(*overrides: str) -> Path:
    """The folder of such a run in one process; the same one for all tests, who leave it as it is."""
    folder = Path(tempfile.mkdtemp(prefix="marft-alone-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return trained(folder, "one", None, *overrides)


def weights(folder) -> dict[str, np.ndarray]:
    return {
        f"{agent}/{name}": tensor
        for agent in ("alice", "bob")
        for name, tensor in load_file(folder / "adapters" / agent / "adapter_model.safetensors").items()
    }


def texts(folder) -> dict[str, list]:
    return {episode.id: [turn.completion_ids for turn in episode.turns] for episode in read_episodes(folder)}


def gap(one: Path, other: Path) -> float:
    """The largest difference between two runs' adapters, which must have moved."""
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert max(float(np.abs(tensor).max()) for name, tensor in ours.items() if "lora_B" in name) > 1e-3
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)
