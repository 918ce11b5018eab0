"""`marft serve` by itself: it brings back a server that died, feeds a training of two processes that plays while it
learns, and leaves nothing running."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from launches import CONFIGS
from server_fixtures import KEY, LAUNCH, is_healthy, served_data
from test_serving import DEADLINE, FAST, gone

from marft.recipe import parse_recipe
from marft.store import read_episodes
from marft.train.folder import read_metrics

pytestmark = pytest.mark.server

SECRET = "of this test"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", KEY: SECRET}


@contextlib.contextmanager
def serving(recipe: Path, folder: Path):
    """(process, the file that holds the servers' addresses, the log) while `marft serve` runs."""
    urls, log = folder / "urls", folder / "serve.log"
    command = [sys.executable, "-m", "marft", "serve", str(recipe), "--out", str(folder / "servers")]
    with open(log, "ab") as file:
        process = subprocess.Popen([*command, "--urls-file", str(urls)], stdout=file, stderr=file, env=ENVIRONMENT)
    try:
        wait_for(urls.is_file, process, log)
        yield process, urls, log
    finally:
        if process.poll() is None:
            process.kill()


def wait_for(what, process, log) -> None:
    until = time.monotonic() + DEADLINE
    while not what():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


def test_a_served_recipe_feeds_a_training_of_two_processes_that_plays_ahead(tmp_path):
    train = {"updates": 6, "save_every": 100}
    engine = {"kind": "vllm", "key_env": KEY, **FAST}
    data = served_data(engine=engine | {"launch": {"replicas": 1, **LAUNCH}}, train=train)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(data))
    with serving(recipe, tmp_path) as (process, urls, log):
        (url,) = urls.read_text().split()
        assert httpx.get(f"{url}/v1/models").status_code == 401  # the key is asked for
        family = psutil.Process(process.pid).children(recursive=True)
        (server,) = [one for one in family if one.cmdline()[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]]
        server.send_signal(signal.SIGKILL)
        wait_for(lambda: "starting it again" in log.read_text(), process, log)
        wait_for(lambda: is_healthy(url), process, log)

        apart = data | {"engine": engine | {"urls_file": str(urls)}}
        apart["rollout"] = data["rollout"] | {"max_staleness": 1, "groups": 4}
        recipe.write_text(yaml.safe_dump(apart))
        command = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--config_file",
            str(CONFIGS / "cpu2.yaml"),
            "-m",
            "marft",
        ]
        command += ["train", str(recipe), "--out", str(tmp_path / "run")]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr[-3000:]

        family += psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, log.read_text()
    assert gone(family)
    assert SECRET not in log.read_text()

    episodes, metrics = list(read_episodes(tmp_path / "run")), read_metrics(tmp_path / "run" / "metrics.jsonl")
    size = parse_recipe(apart).rollout.group_size
    assert Counter(episode.update for episode in episodes) == dict.fromkeys(range(6), 4 * size)
    assert len({episode.id for episode in episodes}) == len(episodes)
    assert all(episode.status == "done" for episode in episodes)
    for update, line in enumerate(metrics):
        ages = [update - turn.version for one in episodes if one.update == update for turn in one.turns]
        assert min(ages) >= 0
        assert max(ages) == line["async/staleness_max"] <= 1
    assert (tmp_path / "run" / "episodes" / "update-000005-1.parquet").is_file()  # both processes played
