"""A published folder on a real vLLM server, started by the command that its model card gives."""

import os
import re
import shlex
import subprocess
import time

import httpx
import pytest
from server_fixtures import is_healthy, served_data
from trainer_fixtures import Rig
from transformers import AutoTokenizer

from marft.config import Launch
from marft.files import write_text
from marft.publish.folder import publish
from marft.recipe import dump_recipe, parse_recipe
from marft.scoring import Scorer
from marft.serve.command import ENVIRONMENT, ON_CPU, find_python
from marft.serve.server import free_ports

pytestmark = pytest.mark.server

AGENTS = ("alice", "bob")
DEADLINE = 300


@pytest.fixture(scope="module")
def rig(monkeypatch_module):
    monkeypatch_module.setattr("trainer_fixtures.make_recipe", lambda *_: parse_recipe(served_data()))
    return Rig(shaken=0.3)


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def published(rig, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "pair"
    write_text(run / "recipe.yaml", dump_recipe(rig.recipe))
    write_text(run / "metrics.jsonl", "")
    for agent in AGENTS:
        rig.bank.save(agent, run / "adapters" / agent)
    return publish(run, tmp_path_factory.mktemp("out") / "team", with_base=True)


@pytest.fixture(scope="module")
def url(published):
    """The server of the card, on the CPU: its folder's name is where the reader has put it."""
    card = (published / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^vllm serve (.*)$", card, re.M)
    arguments = [part.replace("FOLDER/", f"{published}/") for part in shlex.split(command)]
    (port,) = free_ports(1)
    start = [find_python(Launch()), "-m", "vllm.entrypoints.openai.api_server", "--model", *arguments]
    start += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager"]
    start += ["--max-model-len", "512", "--max-num-seqs", "8"]
    with (published.parent / "server.log").open("wb") as log:
        server = subprocess.Popen(start, env={**os.environ, **ENVIRONMENT, **ON_CPU}, stdout=log, stderr=log)
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + DEADLINE
        while not is_healthy(address):
            said = (published.parent / "server.log").read_text(errors="replace")[-3000:]
            assert server.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def test_the_server_of_the_card_says_what_the_trainer_says(rig, published, url):
    tokenizer = AutoTokenizer.from_pretrained(published / "base")
    ids = tokenizer("Round 1 of 3. <answer>A</answer> and so on", add_special_tokens=False).input_ids
    found = {}
    for agent in AGENTS:
        asked = {"model": agent, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        answer = httpx.post(f"{url}/v1/completions", json=asked, timeout=60).raise_for_status().json()
        places = answer["choices"][0]["prompt_logprobs"][1:]
        found[agent] = [place[str(token)]["logprob"] for place, token in zip(places, ids[1:], strict=True)]
        (ours,) = Scorer(rig.bank, 1000).score(agent, [ids[:1]], [ids[1:]])
        assert found[agent] == pytest.approx(ours.tolist(), abs=1e-4)
    assert max(abs(one - other) for one, other in zip(*found.values(), strict=True)) > 1e-2
