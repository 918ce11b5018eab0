"""One vLLM server as the engine sees it: its HTTP interface, what it answers, and whether it may be asked.

What a server answers is checked here word by word: an answer that is empty, cut short or of the wrong length never
becomes a completion.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx
import numpy as np

from marft.config import Sampling
from marft.engines.base import Completion
from marft.errors import EngineError

ADMIN_DEADLINE = 60.0
"""Seconds in which a server loads or unloads an adapter, or scores a probe."""

PAUSES = (0.2, 1.0)
"""Seconds before a second and a third attempt of a call about adapters."""

LATE = "was not answered within"

STRIKES = 3
"""Bad answers in a row after which a replica is taken out and has to prove itself again."""


LIKELIEST = 20
"""Tokens whose log-probs a probe asks for at each place; vLLM gives no more by default."""


class Likeliest(NamedTuple):
    """Log-probs (N,) of tokens (N,) at places (N,), the numbers of their prompts."""

    place: np.ndarray
    token: np.ndarray
    logprob: np.ndarray


class Unwell(Exception):
    """A replica did not answer as it should: another one may."""


class AdapterLost(Unwell):
    """A replica does not know an adapter that it was given; it was probably started anew."""


@dataclass(eq=False)
class Replica:
    """A server's addresses and present state.

    state: "starting", "up" or "down", with the `reason`. running: requests in flight, each with the limit that can cut
    it short. strikes: bad answers in a row. served: how many requests it has answered.
    """

    url: str
    admin: str
    state: str = "starting"
    reason: str = "not asked yet"
    running: dict[asyncio.Timeout, asyncio.AbstractEventLoop] = field(default_factory=dict)
    strikes: int = 0
    served: int = 0

    @property
    def up(self) -> bool:
        return self.state == "up"

    def take_in(self) -> None:
        self.state, self.reason = "up", ""

    def take_out(self, why: str) -> bool:
        """Whether it was up. One that is starting stays so, whatever late news there is of its former life."""
        was = self.up
        self.state, self.reason = ("down" if was else self.state), why
        return was

    def __str__(self) -> str:
        return f"{self.url} ({self.state}{f': {self.reason}' if not self.up else ''})"


class Admin:
    """The calls that are made one at a time: health, adapters, scoring of a probe. Blocking, each with a deadline."""

    def __init__(self, key: str | None) -> None:
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=self.headers, timeout=ADMIN_DEADLINE)

    def close(self) -> None:
        self._client.close()

    def check_health(self, replica: Replica, deadline: float) -> None:
        """Returns if the server says that it is well; Unwell otherwise."""
        self._once("GET", f"{replica.url}/health", timeout=deadline)

    def adapters(self, replica: Replica) -> set[str]:
        """Names that the server answers to, the base's among them."""
        found = self._call("GET", f"{replica.admin}/v1/models")
        try:
            return {one["id"] for one in found["data"]}
        except (KeyError, TypeError):
            raise Unwell(f"GET /v1/models was answered with {found!r:.200}") from None

    def load(self, replica: Replica, name: str, place: str) -> None:
        """place: a folder that the server sees, or a name on its hub."""
        try:
            self._call("POST", f"{replica.admin}/v1/load_lora_adapter", {"lora_name": name, "lora_path": place})
        except EngineError as error:
            if "already been loaded" not in str(error):  # names are versioned: it is the very adapter
                raise

    def unload(self, replica: Replica, name: str) -> None:
        try:
            self._call("POST", f"{replica.admin}/v1/unload_lora_adapter", {"lora_name": name})
        except AdapterLost:
            return

    def likeliest(self, replica: Replica, name: str, prompts: Sequence[Sequence[int]]) -> Likeliest:
        """The likeliest next tokens of each prompt under an adapter, at temperature 1.

        The ordinary way of sampling is asked, not `prompt_logprobs`: vLLM 0.32 on the CPU dies of those when a request
        for an adapter is in the same batch.
        """
        body = {"model": name, "prompt": list(map(list, prompts)), "max_tokens": 1, "temperature": 1.0, "seed": 0}
        body |= {"logprobs": LIKELIEST, "return_tokens_as_token_ids": True}
        found = self._call("POST", f"{replica.admin}/v1/completions", body)
        places: list[int] = []
        tokens: list[int] = []
        logprobs: list[float] = []
        try:
            for choice in sorted(found["choices"], key=lambda one: one["index"]):
                (top,) = choice["logprobs"]["top_logprobs"]
                for token, value in top.items():
                    places.append(choice["index"])
                    tokens.append(int(token.removeprefix("token_id:")))
                    logprobs.append(float(value))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Unwell(f"a probe of {name} was answered with {found!r:.200}") from None
        if sorted(set(places)) != list(range(len(prompts))):
            raise Unwell(f"a probe of {name} with {len(prompts)} prompts was answered for {len(set(places))}")
        return Likeliest(np.array(places), np.array(tokens), np.array(logprobs))

    def _call(self, method: str, url: str, body: Any = None) -> Any:
        """A call whose first failures may be a hiccup, unless they took all the time there is."""
        for pause in PAUSES:
            try:
                return self._once(method, url, body)
            except AdapterLost:
                raise
            except Unwell as error:
                if LATE in str(error):
                    raise
            time.sleep(pause)
        return self._once(method, url, body)

    def _once(self, method: str, url: str, body: Any = None, timeout: float = ADMIN_DEADLINE) -> Any:
        try:
            response = self._client.request(method, url, json=body, timeout=timeout)
        except httpx.TimeoutException:
            raise Unwell(f"{method} {_path(url)} {LATE} {timeout:g} s") from None
        except httpx.HTTPError as error:
            raise Unwell(f"{method} {_path(url)}: {type(error).__name__} {error}".rstrip()) from None
        check_status(response.status_code, response.content, _path(url))
        try:
            return json.loads(response.content)
        except ValueError:
            return response.text


def check_status(status: int, content: bytes, path: str) -> None:
    """Unwell where another replica may do better; EngineError, with the server's words, where none will."""
    if 200 <= status < 300:
        return
    said = _message(content)
    if (status == 404 and "exist" in said) or "cannot be found" in said:
        raise AdapterLost(said)
    if status >= 500 or status in (404, 408, 409, 425, 429):
        raise Unwell(f"{path} was answered with status {status}: {said}")
    if status in (401, 403):
        raise EngineError(
            f"engine: a server refused the API key ({status}); put its key into engine.key_env's variable"
        )
    raise EngineError(f"engine: a server refused {path} ({status}): {said}")


def request_body(model: str, prompt_ids: Sequence[int], sampling: Sampling, seed: int, stop: Sequence[int]) -> bytes:
    """The body of one completion request: token ids in, token ids and log-probs out."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt_ids,
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "seed": seed % 2**63,
        "stop_token_ids": stop,
        "logprobs": 0,
        "return_token_ids": True,
    }
    if sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    return json.dumps(body, separators=(",", ":")).encode()


def read_completion(content: bytes, prompt: int, limit: int, stop: frozenset[int], version: int) -> Completion:
    """What a server answered, checked. prompt: ids that were sent; limit: most ids that may come back.

    Raises Unwell where the answer is not one: no JSON, no ids, ids without log-probs, a prompt of another length.
    """
    try:
        data: Mapping[str, Any] = json.loads(content)
        (choice,) = data["choices"]
        ids, logprobs, reason = choice["token_ids"], choice["logprobs"]["token_logprobs"], choice["finish_reason"]
        seen = data["usage"]["prompt_tokens"]
    except (ValueError, KeyError, TypeError) as error:
        raise Unwell(f"the answer is no completion ({type(error).__name__}: {error}): {content[:120]!r}") from None
    if not ids or not isinstance(ids, list) or len(ids) != len(logprobs) or len(ids) > limit:
        raise Unwell(
            f"{len(ids or ())} token ids came with {len(logprobs or ())} log-probs, at most {limit} were asked for"
        )
    if seen != prompt:
        raise Unwell(f"the server read a prompt of {seen} tokens where {prompt} were sent")
    if reason not in ("stop", "length") or (reason == "stop") != (ids[-1] in stop):
        raise Unwell(f"finish reason {reason!r} with last token {ids[-1]}")
    if not all(isinstance(value, float | int) and math.isfinite(value) and value <= 1e-6 for value in logprobs):
        raise Unwell(f"log-probs are {logprobs!r:.120}")
    return Completion(ids, [float(value) for value in logprobs], reason, version)


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return content[:300].decode("utf-8", "replace") or "(no body)"


def _path(url: str) -> str:
    return httpx.URL(url).path
