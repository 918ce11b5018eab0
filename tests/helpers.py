"""Slow and plain versions of what marft computes fast, and stand-ins for engines."""

import asyncio

import numpy as np

from marft.engines.base import Completion
from marft.errors import GameError

MASK = 2**64 - 1


def splitmix(seed, position):
    """Output number `position` of splitmix64 started at `seed`, as a float of 53 bits; after the C reference code."""
    state = (seed + (position + 1) * 0x9E3779B97F4A7C15) & MASK
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 11) / 2**53


def distribution(logits, temperature=1.0, top_k=0, top_p=1.0):
    """Probabilities of one row after temperature, top-k (ties with the k-th stay) and top-p, in float64."""
    scores = [float(value) / temperature for value in logits]
    kept = set(range(len(scores)))
    if 0 < top_k < len(scores):
        least = sorted(scores)[-top_k]
        kept = {token for token in kept if scores[token] >= least}
    if top_p < 1.0:
        top, mass, chosen = max(scores), 0.0, set()
        total = sum(np.exp(scores[token] - top) for token in kept)
        for token in sorted(kept, key=lambda token: (-scores[token], token)):
            chosen.add(token)
            mass += np.exp(scores[token] - top) / total
            if mass >= top_p:
                break
        kept = chosen
    top = max(scores[token] for token in kept)
    total = sum(np.exp(scores[token] - top) for token in kept)
    return np.array([np.exp(scores[token] - top) / total if token in kept else 0.0 for token in range(len(scores))])


def draw(probabilities, uniform):
    """The first token at which the running sum passes `uniform`."""
    running = 0.0
    for token, probability in enumerate(probabilities):
        running += probability
        if probability > 0 and running > uniform:
            return token
    return int(np.flatnonzero(probabilities)[-1])


def complete(logits_after, request, stop_ids):
    """One request, token by token, without a cache: (ids, log-probs). logits_after: ids -> the next token's logits."""
    ids, said, logprobs, sampling = list(request.prompt_ids), [], [], request.sampling
    while len(said) < sampling.max_new_tokens and not (said and said[-1] in stop_ids):
        p = distribution(logits_after(ids), sampling.temperature, sampling.top_k, sampling.top_p)
        token = draw(p, splitmix(request.seed, len(said)))
        said.append(token)
        logprobs.append(float(np.log(p[token])))
        ids.append(token)
    return said, logprobs


class Speaker:
    """A stand-in for the model's engine. `say(request)` gives a text, token ids or a whole Completion.

    It keeps all `requests` it was given.
    """

    def __init__(self, chat, say):
        self.chat, self.say, self.requests, self.sessions_ended = chat, say, [], 0

    async def generate(self, requests):
        self.requests.extend(requests)
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        said = self.say(request)
        if isinstance(said, Completion):
            return said
        ids = [*self.chat.plain(said), self.chat.end_id] if isinstance(said, str) else list(said)
        return Completion(ids, [-0.5] * len(ids), "stop" if ids[-1] in self.chat.stop_ids else "length", 7)

    def end_sessions(self, start=""):
        self.sessions_ended += 1


class Delayed(Speaker):
    """The same after some time, and by versions. `delay(request)`: seconds; `fails(request)`: the episode fails."""

    shares_weights = False

    def __init__(self, chat, say, delay, fails=lambda request: False):
        super().__init__(chat, say)
        self.delay, self.fails, self.versions, self.playing, self.ended = delay, fails, {}, 0, []

    def publish(self, agent, version):
        self.versions[agent] = version

    def prepare(self, policies):
        self.prepared = set(policies)

    async def generate(self, requests):
        self.playing += 1
        try:
            await asyncio.sleep(max(map(self.delay, requests)))
        finally:
            self.playing -= 1
        if any(map(self.fails, requests)):
            raise GameError("the game broke")
        answers = await super().generate(requests)
        for request, answer in zip(requests, answers, strict=True):
            answer.version = self.versions[request.policy]
        return answers

    def end_sessions(self, start=""):
        super().end_sessions(start)
        self.ended.append(start)
