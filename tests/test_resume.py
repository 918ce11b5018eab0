"""A run that is killed at any instant goes on to the bit."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest
import yaml
from trainer_fixtures import recipe_data

from marft.store import read_episodes
from marft.train.folder import read_metrics

UPDATES = 16
DEADLINE = 240


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A small run that saves at every second update."""
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_data(f"train.updates={UPDATES}", "train.save_every=2", "game.rounds=6")))
    return path


def start(recipe: Path, out: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "marft", "train", str(recipe), "--out", str(out), *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, errors[-2000:]


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """The run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    finish(start(recipe, out))
    return out


def fingerprint(out: Path) -> dict[str, str]:
    """Digest of every adapter file and of the last checkpoint's optimizer states."""
    files = sorted((out / "adapters").rglob("*.safetensors"))
    files += sorted((out / "checkpoints" / f"update-{UPDATES:06d}").rglob("*.safetensors"))
    assert len(files) == 2 + 2 + 2 + 1
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lines(out: Path) -> list[dict]:
    """Metrics without what the clock says."""
    return [
        {key: value for key, value in line.items() if not key.startswith("seconds/")}
        for line in read_metrics(out / "metrics.jsonl")
    ]


def wait_for_line(process: subprocess.Popen, out: Path, count: int) -> None:
    """Until the run has written `count` lines of metrics, or has ended."""
    limit = time.monotonic() + DEADLINE
    while process.poll() is None and len(read_metrics(out / "metrics.jsonl")) < count:
        assert time.monotonic() < limit, "the run does not come forward"
        time.sleep(0.005)


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == -signal.SIGKILL, f"it was over before it could be killed: {errors[-2000:]}"


def same(out: Path, whole: Path) -> None:
    assert fingerprint(out) == fingerprint(whole)
    assert lines(out) == lines(whole)
    assert [line["update"] for line in lines(out)] == list(range(UPDATES))
    assert list(read_episodes(out)) == list(read_episodes(whole))
    assert not list(out.rglob("*.tmp-*"))


def test_a_run_killed_once_ends_as_if_it_had_not_been(recipe, whole, tmp_path):
    process = start(recipe, tmp_path / "run")
    wait_for_line(process, tmp_path / "run", 5)
    kill(process)
    finish(start(recipe, tmp_path / "run", "--resume"))
    same(tmp_path / "run", whole)


@pytest.mark.distributed
def test_a_run_killed_at_five_random_moments_ends_as_if_it_had_not_been(recipe, whole, tmp_path):
    rng, out = random.Random(7), tmp_path / "run"
    spent = [
        sum(value for key, value in line.items() if key.startswith("seconds/"))
        for line in read_metrics(whole / "metrics.jsonl")
    ]
    for number in range(5):
        process = start(recipe, out, *(["--resume"] if number else []))
        wait_for_line(process, out, len(read_metrics(out / "metrics.jsonl")) + 1)
        time.sleep(rng.uniform(0, 1.5 * median(spent)))  # anywhere in the next update or the one after, saving included
        kill(process)
    finish(start(recipe, out, "--resume"))
    same(out, whole)


def test_a_finished_run_resumed_changes_nothing(recipe, whole):
    before = fingerprint(whole), lines(whole)
    finish(start(recipe, whole, "--resume"))
    assert (fingerprint(whole), lines(whole)) == before


def test_nothing_in_a_run_folder_is_a_pickle(whole):
    names = {path.suffix for path in whole.rglob("*") if path.is_file()}
    assert names <= {".yaml", ".json", ".jsonl", ".parquet", ".safetensors", ".md", ".lock", ""}
    for path in whole.rglob("*"):
        if path.is_file():
            assert path.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x04", b"\x80\x05"), path  # pickle's first bytes
    assert json.loads((whole / "run.json").read_text())["seed"] == 0
