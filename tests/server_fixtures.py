"""What the tests on real vLLM servers share: two servers started once a session, a proxy that breaks their answers on
purpose, and a trainer's parts in front of them."""

import asyncio
import contextlib
import functools
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

import httpx
import numpy as np
from trainer_fixtures import DATA, Rig, base_folder, shake

from marft.config import Launch
from marft.engines.make import make_engine
from marft.model import base_source
from marft.recipe import merge, parse_recipe
from marft.rollout import plan_update
from marft.serve.fleet import Fleet
from marft.train.workers import Workers

LAUNCH = {"max_model_len": 512, "args": {"max-num-seqs": 64}}
KEY = "MARFT_TEST_KEY"


@functools.cache
def served_folder() -> str:
    """The folder of a tiny model whose heads are wide enough for vLLM on the CPU; in the cache of `base_folder`."""
    cache = os.path.dirname(base_folder())
    tiny = {"hidden": 64, "heads": 2, "kv_heads": 2, "intermediate": 48, "vocabulary": 400, "context": 1024}
    tiny |= {"warmup_episodes": 64, "warmup_steps": 40, "warmup_batch": 16, "warmup_learning_rate": 0.01}
    game = {"name": "prisoners_dilemma", "rounds": 10}
    with mock.patch.dict(os.environ, MARFT_CACHE=cache):
        return base_source(parse_recipe({**DATA, "game": game, "model": {"name": "tiny", "tiny": tiny}}))


def served_data(**changes) -> dict:
    """A small recipe on that model, as plain data."""
    return merge(DATA | {"model": {"name": served_folder(), "device": "cpu"}}, changes)


def start_fleet(logs, replicas: int, recipe=None, key=None) -> Fleet:
    """Servers of the tests' model (or a recipe's) with room for all adapters, healthy when this returns."""
    source = served_folder() if recipe is None else base_source(recipe)
    recipe = recipe or parse_recipe(served_data())
    launch = Launch(replicas=replicas, **LAUNCH | {"args": LAUNCH["args"] | {"max-loras": 8}})
    fleet = Fleet(recipe, source, launch, logs, on_cpu=True, context=1024, key=key)
    fleet.start()
    until = time.monotonic() + 500
    for url in fleet.urls:
        while not is_healthy(url):
            assert fleet.server(url).alive, fleet.server(url).tail()
            assert time.monotonic() < until, fleet.server(url).tail()
            time.sleep(0.5)
    return fleet


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


class ServedRig(Rig):
    """A Rig whose completions come from servers at `urls`. Use as a context; `play` as in Rig."""

    def __init__(self, fleet, urls, folder, *, engine=None, shaken=0.05, **changes):
        self.settings = {"kind": "vllm", "urls": list(urls), "key_env": KEY, "health_every": 0.2, **(engine or {})}
        self.data = served_data(engine=self.settings, **changes)
        os.environ[KEY] = fleet.key
        with mock.patch("trainer_fixtures.make_recipe", return_value=parse_recipe(self.data)):
            super().__init__(shaken=shaken)
        self.engine = make_engine(self.recipe, self.base, self.bank, folder, Workers(None))
        self.rollout.model = self.engine

    def __enter__(self):
        try:
            self.engine.start()
        except BaseException:
            self.engine.close()
            raise
        return self

    def __exit__(self, *_):
        self.engine.close()

    def publish(self) -> None:
        for name, learner in self.learners.items():
            self.engine.publish(name, learner.version)

    def move(self, name: str, size: float = 0.05) -> None:
        """The agent learns something: its weights change and its version rises."""
        shake(self.bank, name, size)
        self.learners[name].version += 1

    def served(self, replica, name: str) -> tuple[np.ndarray, tuple]:
        """A server's log-probs of the likeliest tokens under what speaks for a policy now, and where they stand."""
        found = self.engine.admin.likeliest(replica, self.engine.feed.current[name].name, self.engine.feed.probe)
        return found.logprob, (found.place, found.token)

    def scores(self, name: str | None) -> np.ndarray:
        """(K, V) the trainer's log-probs after each of the probe's prompts."""
        return self.engine._score(name)

    def rollouts(self, update: int = 0) -> list:
        return asyncio.run(self.rollout.play(plan_update(self.recipe, update)))


class Proxy:
    """Stands between the engine and one server and hands everything through, but for the faults it is told of.

    fault: (path) -> None to hand through, or what to do instead: a status, bytes to answer with, "hang", "close".
    """

    def __init__(self, target: str):
        self.target, self.fault, self.seen = target, lambda path: None, 0
        proxy, self._done = self, threading.Event()
        self._client = httpx.Client(timeout=60)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                proxy.answer(self)

            do_POST = do_GET

            def log_message(self, *_):
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, handler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        self.seen += handler.path.endswith("/completions")
        fault = self.fault(handler.path)
        if fault == "hang":
            self._done.wait(60)
            fault = "close"
        if fault == "close":
            handler.close_connection = True
            with contextlib.suppress(OSError):
                handler.connection.shutdown(2)
            return
        if fault is None:
            keep = {name: handler.headers[name] for name in ("Authorization", "Content-Type") if handler.headers[name]}
            found = self._client.request(handler.command, self.target + handler.path, content=body, headers=keep)
            status, content = found.status_code, found.content
        else:
            status, content = (
                (fault, b'{"error": {"message": "made to fail"}}') if isinstance(fault, int) else (200, fault)
            )
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._done.set()
        self._server.shutdown()
        self._server.server_close()


def completions_only(fault, first: int | None = None):
    """A fault of /v1/completions alone, and of the first so many of them."""
    left = [10**9 if first is None else first]
    lock = threading.Lock()

    def decide(path):
        if not path.endswith("/completions"):
            return None
        with lock:
            left[0] -= 1
            return fault if left[0] >= 0 else None

    return decide
