"""Servers that a run starts: killed, stopped and lost while it trains; and none of them left when it ends."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from server_fixtures import KEY, LAUNCH, ServedRig, served_data, start_fleet

from marft.recipe import parse_recipe
from marft.rollout import plan_update
from marft.serve.server import free_ports
from marft.store import read_episodes
from marft.train.checkpoint import latest_checkpoint
from marft.train.folder import read_metrics

pytestmark = pytest.mark.server

DEADLINE = 400
FAST = {"health_every": 0.3, "health_deadline": 2.0}

RAISES = """
def broken(episode):
    if episode.update >= 1:
        raise RuntimeError("made to fail")
    return dict.fromkeys(episode.seats, 1.0)
"""


class Run:
    """`marft train` in a process of its own."""

    def __init__(self, folder, *arguments, **changes):
        self.out, self.data = folder / "run", served_data(**changes)
        self.path = folder / "recipe.yaml"
        self.path.write_text(yaml.safe_dump(self.data))
        self.log = folder / "log"
        command = [sys.executable, "-m", "marft", "train", str(self.path), "--out", str(self.out), *arguments]
        with open(self.log, "ab") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, what, seconds=DEADLINE):
        until = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < until, self.text()
            time.sleep(0.05)

    def reached(self, updates: int):
        return lambda: len(read_metrics(self.out / "metrics.jsonl")) >= updates

    def end(self, seconds=DEADLINE) -> int:
        try:
            return self.process.wait(seconds)
        finally:
            if self.process.poll() is None:
                self.process.kill()

    def servers(self) -> list[psutil.Process]:
        """The servers themselves, children of their wardens, in the order they were started."""
        wardens = sorted(psutil.Process(self.process.pid).children(), key=lambda one: one.create_time())
        return [child for warden in wardens for child in warden.children() if "vllm" in " ".join(child.cmdline())]

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def each_episode_once(self) -> None:
        recipe = parse_recipe(self.data)
        planned = [plan.name(0) for update in range(recipe.train.updates) for plan in plan_update(recipe, update)]
        played = list(read_episodes(self.out))
        assert sorted(episode.id for episode in played) == sorted(planned)
        assert all(episode.status == "done" for episode in played)


def gone(family, seconds=30) -> bool:
    _, alive = psutil.wait_procs(family, timeout=seconds)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def launched(replicas: int, **engine) -> dict:
    return {"kind": "vllm", "launch": {"replicas": replicas, **LAUNCH}, **FAST, **engine}


def test_a_run_goes_on_when_replicas_are_killed_while_episodes_are_played(tmp_path):
    run = Run(tmp_path, engine=launched(2), train={"updates": 40, "save_every": 5}, rollout={"groups": 4})
    run.wait_for(run.reached(2))
    family = run.family()
    run.servers()[0].send_signal(signal.SIGKILL)
    run.wait_for(run.reached(5))
    run.servers()[-1].send_signal(signal.SIGKILL)
    family += run.family()
    assert run.end() == 0, run.text()
    assert run.text().count("starting it again") >= 1
    assert "requests go elsewhere" in run.text()
    run.each_episode_once()
    assert gone(family)


def test_a_lone_replica_that_is_killed_or_hangs_is_started_and_fed_again(tmp_path):
    run = Run(tmp_path, engine=launched(1), train={"updates": 12, "save_every": 5})
    run.wait_for(run.reached(2))
    run.servers()[0].send_signal(signal.SIGKILL)
    run.wait_for(run.reached(6))
    run.servers()[0].send_signal(signal.SIGSTOP)
    assert run.end() == 0, run.text()
    assert run.text().count("starting it again") == 2
    assert "does not answer any more; starting it again" in run.text()
    run.each_episode_once()


def test_without_any_replica_the_run_stops_at_its_deadline_and_can_be_resumed(tmp_path, monkeypatch):
    fleet = start_fleet(tmp_path / "servers", 1)
    monkeypatch.setenv(KEY, fleet.key)
    engine = {"kind": "vllm", "urls": fleet.urls, "key_env": KEY, "recover_deadline": 4.0, **FAST}
    changes = {"engine": engine, "train": {"updates": 30, "save_every": 100}, "rollout": {"groups": 4}}
    try:
        run = Run(tmp_path, **changes)
        run.wait_for(run.reached(3))
        fleet.stop()
        assert run.end() == 7, run.text()
        assert "no replica was well for 4 s (engine.recover_deadline)" in run.text()
        done = len(read_metrics(run.out / "metrics.jsonl"))
        assert latest_checkpoint(run.out / "checkpoints").name == f"update-{done:06d}"
        fleet.start()
        again = Run(tmp_path, "--resume", **(changes | {"engine": engine | {"recover_deadline": 300.0}}))
        assert again.end() == 0, again.text()
        assert len(read_metrics(run.out / "metrics.jsonl")) == 30
        again.each_episode_once()
    finally:
        fleet.stop()


@pytest.mark.parametrize("end", ["kill -9", "Ctrl-C", "exception"])
def test_no_server_outlives_its_run(tmp_path, end):
    changes = {}
    if end == "exception":
        (tmp_path / "mine.py").write_text(RAISES)
        changes["rewards"] = [{"use": f"{tmp_path / 'mine.py'}:broken"}]
    run = Run(tmp_path, engine=launched(1), train={"updates": 100_000}, **changes)
    run.wait_for(lambda: (run.out / "servers" / "server-0.log").exists() and len(run.servers()) == 1)
    if end == "kill -9":  # while the server is starting
        family = run.family()
        run.process.kill()
    elif end == "Ctrl-C":
        run.wait_for(run.reached(1))
        family = run.family()
        run.process.send_signal(signal.SIGINT)
    else:
        run.wait_for(lambda: len(run.family()) >= 3)
        family = run.family()
        run.end()
        assert "made to fail" in run.text()
    run.end()
    assert len(family) >= 2
    assert gone(family)


def test_a_server_without_a_common_disk_downloads_its_adapters(tmp_path, monkeypatch):
    (port,) = free_ports(1)
    cache = tmp_path / "servers-cache"
    for name, value in (("HF_ENDPOINT", f"http://127.0.0.1:{port}"), ("HF_HUB_OFFLINE", "0"), ("HF_HOME", str(cache))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_TOKEN", "the-key-of-both")
    fleet = start_fleet(tmp_path / "servers", 1, key="the-key-of-both")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try:
        with ServedRig(fleet, fleet.urls, tmp_path / "run", engine={"share": "hub", "share_port": port}) as rig:
            rig.publish()
            rig.move("alice")
            rig.engine.publish("alice", 1)
            assert len(rig.rollouts()) == 6
        held = {path.parent.parent.parent.name for path in cache.rglob("adapter_model.safetensors")}
        assert {name.rpartition("-")[0] for name in held} == {
            f"models--marft--{n}" for n in ("alice-0", "alice-1", "bob-0")
        }
    finally:
        fleet.stop()
