"""Seats that a chat endpoint fills: texts over HTTP, as OpenAI's chat completions; no tokens, never trained.

Connections belong to an event loop, and each update has one of its own: the engine owns its clients only while somebody
has it open (`async with`), and `generate` opens it for itself where nobody has. Every attempt has a deadline and every
answer is checked; an empty or broken one is asked for again, never handed on.

Tokens count against the limit as the endpoint reports them. Where it reports none, one token is counted for three bytes
of text; an attempt that broke off after it was sent, and may be charged for, counts with its longest answer.
"""

from __future__ import annotations

import asyncio
import copy
import email.utils
import logging
import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from marft.config import Recipe, Remote
from marft.engines.base import Completion, Request
from marft.engines.route import REMOTE, first_error
from marft.errors import EngineError, RecipeError

logger = logging.getLogger(__name__)

BACKOFF = 0.5
"""Seconds; the wait before retry n is drawn between 0 and BACKOFF * 2^n, which spreads those who wait."""
MOST_WAIT = 120.0
"""Seconds; an endpoint that asks for a longer pause stops the run."""
BYTES_A_TOKEN = 3
AGAIN = (408, 409, 425, 429)
"""Answers, beside the server's own errors, that a later attempt may change."""

Messages = Sequence[tuple[str, str]]


def remotes_of(recipe: Recipe) -> dict[str, Remote]:
    """The endpoints that may fill a seat of the recipe, or judge in a reward."""
    names = [policy.remote for policy in recipe.policies.values() if policy.remote is not None]
    return {name: recipe.remotes[name] for name in names} | judges_of(recipe)


def judges_of(recipe: Recipe) -> dict[str, Remote]:
    """The endpoints that rewards ask: the option `remote`."""
    names = [reward.options.get("remote") for reward in recipe.rewards]
    return {name: recipe.remotes[name] for name in names if name in recipe.remotes}


def key_of(name: str, remote: Remote) -> str | None:
    """The endpoint's key out of the environment; None where the recipe names no variable."""
    if remote.key_env is None:
        return None
    key = os.environ.get(remote.key_env, "").strip()
    if not key:
        raise RecipeError(f"remotes.{name}.key_env: the environment variable {remote.key_env} is not set")
    if not (key.isascii() and key.isprintable()):
        raise RecipeError(f"remotes.{name}.key_env: {remote.key_env} holds characters that no key can have")
    return key


def check_keys(remotes: Mapping[str, Remote]) -> None:
    """Raise RecipeError where a key is missing: at the start, before a model is loaded."""
    for name, remote in remotes.items():
        key_of(name, remote)


@dataclass(slots=True)
class Counters:
    """Answers taken, attempts that failed, tokens counted, and how many of those were estimated."""

    answers: int = 0
    failures: int = 0
    tokens: int = 0
    estimated: int = 0

    def counts(self) -> list[tuple[str, int]]:
        return list(asdict(self).items())


class RemoteEngine:
    """Answers requests whose policy is "remote:NAME" by the endpoint of that name.

    processes: how many of them share each spend limit; this one may spend its part.
    Raises RecipeError at once where the variable of a key is not set.
    """

    def __init__(self, remotes: Mapping[str, Remote], processes: int = 1) -> None:
        self._endpoints = {
            f"{REMOTE}{name}": _Endpoint(name, remote, key_of(name, remote), processes)
            for name, remote in remotes.items()
        }
        self._loop: asyncio.AbstractEventLoop | None = None
        self._users = 0

    @property
    def counters(self) -> dict[str, Counters]:
        """By policy, since the engine was made."""
        return {policy: endpoint.counters for policy, endpoint in self._endpoints.items()}

    def twin(self) -> RemoteEngine:
        """Another engine of the same endpoints, for another event loop; both count together, against one limit."""
        other = copy.copy(self)
        other._endpoints = {policy: endpoint.twin() for policy, endpoint in self._endpoints.items()}
        other._loop, other._users = None, 0
        return other

    def go_on(self, counters: Mapping[str, Mapping[str, int]]) -> None:
        """Count on from what all processes together had counted, each from its part. counters: by policy."""
        for policy, counted in counters.items():
            if policy in self._endpoints:
                self._endpoints[policy].go_on(counted)

    async def __aenter__(self) -> RemoteEngine:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._users = loop, 0
            for endpoint in self._endpoints.values():
                endpoint.forget()  # connections of a loop that was stopped went with it
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            for endpoint in self._endpoints.values():
                await endpoint.close()

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        async with self:
            try:
                async with asyncio.TaskGroup() as tasks:
                    answers = [
                        tasks.create_task(self._endpoints[request.policy].answer(request.messages))
                        for request in requests
                    ]
            except BaseExceptionGroup as errors:
                raise first_error(errors) from None
        return [answer.result() for answer in answers]

    def end_sessions(self) -> None:
        return None


class _Again(Exception):
    """An attempt failed in a way that a later one may not. after: seconds that the endpoint asks to wait."""

    def __init__(self, cause: str, after: float | None = None) -> None:
        super().__init__(cause)
        self.after = after


class _Endpoint:
    """One endpoint: its client, its queue and what it has cost."""

    def __init__(self, name: str, remote: Remote, key: str | None, processes: int) -> None:
        self.where, self.remote, self.counters = f"remotes.{name}", remote, Counters()
        self._key, self._processes = key, processes
        self._limit = math.ceil(remote.spend_limit / processes)
        self._jitter = random.Random()  # of its own: play draws nothing from it
        self.forget()

    def go_on(self, counted: Mapping[str, int]) -> None:
        for name, count in Counters(**counted).counts():  # in place: a twin counts in the same object
            setattr(self.counters, name, math.ceil(count / self._processes))

    def twin(self) -> _Endpoint:
        other = copy.copy(self)
        other._jitter = random.Random()
        other.forget()
        return other

    def forget(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            most = self.remote.concurrency
            self._slots = asyncio.Semaphore(most)
            self._client = httpx.AsyncClient(
                base_url=self.remote.url.rstrip("/") + "/",
                headers={"Authorization": f"Bearer {self._key}"} if self._key is not None else {},
                timeout=self.remote.timeout,
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
            )
        return self._client

    async def answer(self, messages: Messages) -> Completion:
        """Ask until there is an answer, `retries` times more at most; who waits for a retry keeps its place."""
        client, most = self._open(), self.remote.retries + 1
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Again),
            stop=stop_after_attempt(most),
            wait=self._pause,
            before_sleep=self._tell,
            reraise=True,
        )
        async with self._slots:
            try:
                return await retrying(self._attempt, client, messages)
            except _Again as error:
                raise EngineError(
                    f"{self.where}: no usable answer from {self.remote.url} in {most} attempts; the last one: {error}"
                ) from None

    def _pause(self, state: RetryCallState) -> float:
        after = state.outcome.exception().after
        return (after or 0.0) + self._jitter.uniform(0.0, BACKOFF if after else BACKOFF * 2**state.attempt_number)

    def _tell(self, state: RetryCallState) -> None:
        logger.warning(
            "%s: attempt %d of %d failed, the next one in %.1f s: %s",
            *(self.where, state.attempt_number, self.remote.retries + 1, state.upcoming_sleep),
            state.outcome.exception(),
        )

    async def _attempt(self, client: httpx.AsyncClient, messages: Messages) -> Completion:
        self._check_limit()
        try:
            return await self._ask(client, messages)
        except _Again:
            self.counters.failures += 1
            raise

    async def _ask(self, client: httpx.AsyncClient, messages: Messages) -> Completion:
        sent = sum(len(text.encode()) for _, text in messages)
        longest = self.remote.max_tokens * BYTES_A_TOKEN
        try:
            async with asyncio.timeout(self.remote.timeout):
                response = await client.post("chat/completions", json=self._body(messages))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _Again(self._clean(f"cannot connect ({type(error).__name__}: {error})")) from None
        except (TimeoutError, httpx.TimeoutException):
            self._estimate(sent + longest)
            raise _Again(f"no answer within {self.remote.timeout:g} s") from None
        except httpx.RequestError as error:
            self._estimate(sent + longest)
            raise _Again(self._clean(f"the connection broke ({type(error).__name__}: {error})")) from None
        if not response.is_success:
            raise self._refusal(response)
        data = _json(response)
        tokens = _tokens(data)
        if tokens is None:
            self._estimate(sent + len(response.content) if data is None else sent + len(_text(data).encode()))
        else:
            self.counters.tokens += tokens
        if data is None:
            raise _Again(f"an answer that is no JSON object: {self._clean(response.text)}")
        text, reason = _text(data), _get(data, "choices", 0, "finish_reason")
        if not text.strip():
            raise _Again(self._empty(data, reason))
        self.counters.answers += 1
        return Completion([], [], "length" if reason == "length" else "stop", text=text)

    def _body(self, messages: Messages) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.remote.model,
            "messages": [{"role": role, "content": text} for role, text in messages],
            "max_tokens": self.remote.max_tokens,
            "temperature": self.remote.temperature,
        }
        return {key: value for key, value in (body | self.remote.fields).items() if value is not None}

    def _check_limit(self) -> None:
        if self.counters.tokens >= self._limit:
            part = f", of which each of {self._processes} processes has its part" if self._processes > 1 else ""
            raise EngineError(
                f"{self.where}: {self.counters.tokens:,} tokens are spent and the limit is {self._limit:,}{part}; "
                f"no further request was sent. Raise {self.where}.spend_limit and go on with --resume"
            )

    def _estimate(self, count: int) -> None:
        """Count bytes where the endpoint did not count tokens; said once."""
        if not self.counters.estimated:
            logger.warning(
                "%s: an attempt came without a count of its tokens; one is counted for every %d bytes of text",
                *(self.where, BYTES_A_TOKEN),
            )
        tokens = math.ceil(count / BYTES_A_TOKEN)
        self.counters.tokens += tokens
        self.counters.estimated += tokens

    def _refusal(self, response: httpx.Response) -> Exception:
        """What to raise for an answer that is an error: _Again where a later attempt may go better."""
        status, said = response.status_code, self._said(_json(response)) or self._clean(response.text)
        cause = f"answered {status}" + (f": {said}" if said else "")
        if status in AGAIN or status >= 500:
            after = _retry_after(response.headers.get("Retry-After"))
            if after is None or after <= MOST_WAIT:
                return _Again(cause, after)
            cause += f" (and asks to wait {after:,.0f} s)"
        hint = ""
        if status in (401, 403):
            hint = f"; the key comes from {self.remote.key_env}" if self._key else f"; set {self.where}.key_env"
        return EngineError(f"{self.where}: {self.remote.url} {cause}{hint}")

    def _empty(self, data: Mapping[str, Any], reason: object) -> str:
        """Why there is no text."""
        if reason == "length":
            return f"an empty answer, cut at its length; raise {self.where}.max_tokens"
        said = self._said(data) or self._clean(str(_get(data, "choices", 0, "message", "refusal") or ""))
        ended = f" (finish_reason {self._clean(str(reason))})" if reason else ""
        return f"an empty answer{ended}" + (f": {said}" if said else "")

    def _said(self, data: Mapping[str, Any] | None) -> str:
        """The message in an error's body, of the shapes that are about."""
        found = (_get(data, *path) for path in (("error", "message"), ("error",), ("message",), ("detail",)))
        return self._clean(next((text for text in found if isinstance(text, str)), ""))

    def _clean(self, text: str) -> str:
        """Text of others as it may stand in a message: one short line, without the key."""
        line = " ".join((text.replace(self._key, "[key]") if self._key else text).split())
        return line if len(line) <= 300 else line[:297] + "..."


def _json(response: httpx.Response) -> dict[str, Any] | None:
    try:
        data = response.json()
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _get(data: Any, *path: str | int) -> Any:
    """What lies at a path of keys and places; None where there is nothing."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def _text(data: Mapping[str, Any]) -> str:
    text = _get(data, "choices", 0, "message", "content")
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else ""


def _tokens(data: Mapping[str, Any] | None) -> int | None:
    """Tokens of prompt and answer as the endpoint counted them."""
    total = _get(data, "usage", "total_tokens")
    if not isinstance(total, int):
        parts = [_get(data, "usage", key) for key in ("prompt_tokens", "completion_tokens")]
        total = sum(parts) if all(isinstance(part, int) for part in parts) else 0
    return total if total > 0 else None


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header: a number or a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
