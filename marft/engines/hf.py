"""The in-process engine: transformers in this process, sharing the trainer's base and adapters.

All requests that wait at the same moment, of all episodes, make one batch: rows of several agents pass the base
together and each its own adapter, where the adapters allow it (`marft.mixed`), else agent by agent. Each conversation
keeps its keys and values from turn to turn, so a turn costs its new tokens only. Randomness is drawn per request, so a
completion does not depend on what it was batched with.

The weights are the trainer's own, so nothing may be played while they change; an engine that plays `apart` keeps a copy
of each agent's adapter as it was published, and its passes and the trainer's take turns on the bank.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from marft.bank import AdapterBank
from marft.config import Sampling
from marft.engines.base import PASS_TOKENS, Completion, Request
from marft.engines.kv import SlotCache, attention_mask
from marft.errors import EngineError
from marft.sampling import pick, sampled_logprobs
from marft.seeds import uniforms

FROZEN = "frozen:"
PLAYED = "played:{}"
"""The bank's adapter that plays for an agent where the engine plays apart."""
SHARED_PREFIX = 8
"""Fewest tokens in common for which a pass of its own pays."""


@dataclass(slots=True)
class Counters:
    """Work done: tokens sampled, tokens fed through the model, tokens found in the cache, seconds in the model."""

    sampled: int = 0
    fed: int = 0
    reused: int = 0
    passes: int = 0


@dataclass(slots=True)
class _Slot:
    """A conversation's place in the cache, the adapter it speaks with, and the ids whose keys and values are in it."""

    number: int
    adapter: str | None
    ids: list[int] = field(default_factory=list)


class _Slots:
    """The conversations that have a place in the cache, by policy and session. `made`: how many places there are."""

    def __init__(self) -> None:
        self.made = 0
        self.held: dict[tuple[str, str], _Slot] = {}
        self._free: list[int] = []

    def of(self, policy: str, session: str, adapter: str | None) -> _Slot:
        key = policy, session
        if key not in self.held:
            self.made += not self._free
            self.held[key] = _Slot(self._free.pop() if self._free else self.made - 1, adapter)
        return self.held[key]

    def end(self, ended: Callable[[str, str], bool]) -> None:
        """Free the places of what `ended(policy, session)` holds for."""
        for key in [key for key in self.held if ended(*key)]:
            self._free.append(self.held.pop(key).number)


class HFEngine:
    """Completions from an AdapterBank. Policies are the bank's adapters; "frozen:base" is the bare base."""

    def __init__(
        self,
        bank: AdapterBank,
        stop_ids: frozenset[int],
        *,
        max_batch: int = 512,
        reuse_cache: bool = True,
        apart: bool = False,
    ) -> None:
        self.shares_weights = not apart
        self.bank = bank
        self.stop_ids = np.array(sorted(stop_ids))
        self.max_batch = max_batch
        self.reuse_cache = reuse_cache
        self.versions: dict[str, int] = {}
        self.counters = Counters()
        self.context = getattr(bank.config, "max_position_embeddings", None)
        self._windows = _attention_windows(bank.config)
        self._additive = _additive_mask(bank.base)
        self._waiting: list[tuple[Sequence[Request], asyncio.Future[list[Completion]]]] = []
        self._cache = SlotCache()
        self._slots = _Slots()

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        loop = asyncio.get_running_loop()
        if self._waiting and self._waiting[0][1].get_loop() is not loop:
            self._waiting.clear()  # their loop was stopped before they were answered; nobody waits for them
        if not self._waiting:
            loop.call_soon(self._flush_when_quiet, loop, 0)
        answer: asyncio.Future[list[Completion]] = loop.create_future()
        self._waiting.append((requests, answer))
        return await answer

    def publish(self, agent: str, version: int) -> None:
        """The bank's weights of `agent` are now `version`; what is cached of the old ones must go."""
        with self.bank.lock:
            if not self.shares_weights:
                copy = PLAYED.format(agent)
                if copy in self.bank.names:
                    self.bank.overwrite(copy, agent)
                else:
                    self.bank.copy(agent, copy)
            self.versions[agent] = version
            self._forget(agent)

    def start(self) -> None:
        return None

    def prepare(self, policies: Sequence[str]) -> None:
        """The bank holds them all."""

    def close(self) -> None:
        self.end_sessions()

    def end_sessions(self, start: str = "") -> None:
        with self.bank.lock:
            self._end(lambda _, session: session.startswith(start))

    def _forget(self, policy: str) -> None:
        self._end(lambda own, _: own == policy)

    def _end(self, ended: Callable[[str, str], bool]) -> None:
        self._slots.end(ended)
        if not self._slots.held:  # once nobody plays any more, keys and values make room for the trainer
            self._cache, self._slots = SlotCache(), _Slots()

    def _flush_when_quiet(self, loop: asyncio.AbstractEventLoop, seen: int) -> None:
        """Wait until a turn of the event loop brings no new request: then every episode that can wait is waiting."""
        if len(self._waiting) > seen:
            loop.call_soon(self._flush_when_quiet, loop, len(self._waiting))
            return
        waiting = [(requests, answer) for requests, answer in self._waiting if not answer.done()]
        self._waiting = []
        try:
            completions = iter(self.complete([request for requests, _ in waiting for request in requests]))
        except Exception as error:  # every caller that waits must hear of it
            for _, answer in waiting:
                answer.set_exception(error)
            return
        for requests, answer in waiting:
            answer.set_result(list(itertools.islice(completions, len(requests))))

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Complete all requests now, in batches of one sampling setting."""
        with self.bank.lock:
            return self._complete(requests)

    def _complete(self, requests: Sequence[Request]) -> list[Completion]:
        batches: dict[tuple[Sampling, str], list[int]] = {}
        for number, request in enumerate(requests):
            batches.setdefault((request.sampling, request.policy), []).append(number)
        for (sampling, _), numbers in batches.items():
            self._check_lengths([requests[number] for number in numbers], sampling)
        completions: list[Completion | None] = [None] * len(requests)
        try:
            for sampling, numbers in self._together(batches):
                taken: set[int] = set()
                slots = {number: self._slot(requests[number], number, taken) for number in numbers}
                numbers.sort(key=lambda number, slots=slots: slots[number].number)
                for start in range(0, len(numbers), self.max_batch):
                    part = numbers[start : start + self.max_batch]
                    done = self._complete_batch(sampling, [requests[n] for n in part], [slots[n] for n in part])
                    for number, completion in zip(part, done, strict=True):
                        completions[number] = completion
                if not self.reuse_cache:
                    self.end_sessions()
        except BaseException:
            self.end_sessions()  # a slot may name ids whose keys and values were never computed
            raise
        return completions

    def _together(self, batches: Mapping[tuple[Sampling, str], list[int]]) -> Iterator[tuple[Sampling, list[int]]]:
        """What is computed at once: a sampling setting, and the requests' numbers, policy after policy."""
        for sampling in dict.fromkeys(sampling for sampling, _ in batches):
            own = {policy: numbers for (other, policy), numbers in batches.items() if other == sampling}
            if len(own) > 1 and self.bank.mixes_rows([self._adapter(policy) for policy in own]):
                yield sampling, list(itertools.chain.from_iterable(own.values()))
            else:
                for numbers in own.values():
                    yield sampling, numbers

    def _adapter(self, policy: str) -> str | None:
        """The bank's name of what a policy speaks with."""
        if policy == f"{FROZEN}base":
            return None
        return PLAYED.format(policy) if not self.shares_weights and policy in self.versions else policy

    def _slot(self, request: Request, number: int, taken: set[int]) -> _Slot:
        """The request's slot, with as much of it kept as the prompt shares with what is cached.

        A slot serves one request at a time: of two with the same session in one call, the second gets another slot.
        """
        policy, adapter = request.policy, self._adapter(request.policy)
        slot = self._slots.of(policy, request.session or f"#{number}", adapter)
        if slot.number in taken:
            slot = self._slots.of(policy, f"#{number}", adapter)
        taken.add(slot.number)
        held, prompt = slot.ids, request.prompt_ids
        keep = min(len(held), len(prompt) - 1)
        if held[:keep] != prompt[:keep]:
            keep = next(n for n, (ours, theirs) in enumerate(zip(held, prompt, strict=False)) if ours != theirs)
        del held[keep:]
        return slot

    @torch.inference_mode()
    def _complete_batch(
        self, sampling: Sampling, requests: Sequence[Request], slots: Sequence[_Slot]
    ) -> list[Completion]:
        count = len(requests)
        seeds = np.array([request.seed for request in requests], dtype=np.uint64)
        tokens = np.zeros((count, sampling.max_new_tokens), dtype=np.int64)
        logprobs = np.zeros((count, sampling.max_new_tokens))
        lengths = np.zeros(count, dtype=np.int64)
        stopped = np.zeros(count, dtype=bool)
        self._share(requests, slots)
        feed = [request.prompt_ids[len(slot.ids) :] for request, slot in zip(requests, slots, strict=True)]
        self.counters.reused += sum(len(slot.ids) for slot in slots)
        active = np.arange(count)
        for position in range(sampling.max_new_tokens):
            logits_BV = self._forward(feed, [slots[number] for number in active])
            logp_BV = sampled_logprobs(logits_BV, sampling)
            noise_B = torch.from_numpy(uniforms(seeds[active], position)).to(logp_BV.device)
            chosen_B = pick(logp_BV, noise_B)
            chosen = chosen_B.cpu().numpy()
            tokens[active, position] = chosen
            logprobs[active, position] = logp_BV.gather(-1, chosen_B[:, None]).squeeze(-1).double().cpu().numpy()
            lengths[active] += 1
            ends = np.isin(chosen, self.stop_ids)
            stopped[active] = ends
            active = active[~ends]
            if not len(active):
                break
            feed = [[token] for token in chosen[~ends].tolist()]
        self.counters.sampled += int(lengths.sum())
        broken = ~np.isfinite(logprobs).all(1)
        if broken.any():
            policy = requests[int(broken.argmax())].policy
            raise EngineError(f"engine: {policy} gave log-probabilities that are not finite; its weights are broken")
        return [
            Completion(
                tokens[n, : lengths[n]].tolist(),
                logprobs[n, : lengths[n]].tolist(),
                "stop" if stopped[n] else "length",
                self.versions.get(requests[n].policy, -1),
            )
            for n in range(count)
        ]

    def _share(self, requests: Sequence[Request], slots: Sequence[_Slot]) -> None:
        """Of requests with the same prompt one computes it (all but its last token), and the others copy that."""
        alike: dict[str | None, dict[tuple[int, ...], list[_Slot]]] = {}
        for request, slot in zip(requests, slots, strict=True):
            alike.setdefault(slot.adapter, {}).setdefault(tuple(request.prompt_ids), []).append(slot)
        leaders = {
            adapter: {prompt: max(own, key=lambda slot: len(slot.ids)) for prompt, own in prompts.items()}
            for adapter, prompts in alike.items()
        }
        self._compute_and_copy([one for own in leaders.values() for one in _beginnings(own)])
        wanted = []
        for adapter, prompts in alike.items():
            for prompt, own in prompts.items():
                leader = leaders[adapter][prompt]
                lacking = [slot for slot in own if slot is not leader and _lacks_most(slot, prompt)]
                wanted += [(leader, prompt[len(leader.ids) : -1], lacking)] if lacking else []
        self._compute_and_copy(wanted)

    def _compute_and_copy(self, wanted: Sequence[tuple[_Slot, Sequence[int], Sequence[_Slot]]]) -> None:
        """Feed each first slot what it lacks, and give the slots beside it all that it then holds."""
        computing = [(missing, slot) for slot, missing, _ in wanted if missing]
        if computing:
            self._forward([missing for missing, _ in computing], [slot for _, slot in computing])
        pairs = [(one, other) for one, _, others in wanted for other in others]
        if pairs:
            numbers = torch.tensor([[one.number, other.number] for one, other in pairs], device=self.bank.device)
            longest = max(len(one.ids) for one, _ in pairs)
            self._cache.copy(numbers[:, 0], numbers[:, 1], longest, self._slots.made)
            for one, other in pairs:
                other.ids[:] = one.ids

    def _forward(self, feed: Sequence[Sequence[int]], slots: Sequence[_Slot]) -> torch.Tensor:
        """Feed each slot its new ids; logits (rows, vocabulary) after the last of them."""
        most = max(1, PASS_TOKENS // max(map(len, feed)))
        parts = [slice(start, start + most) for start in range(0, len(feed), most)]
        logits = [self._pass(feed[part], slots[part]) for part in parts]
        return torch.cat(logits) if len(logits) > 1 else logits[0]

    def _pass(self, feed: Sequence[Sequence[int]], slots: Sequence[_Slot]) -> torch.Tensor:
        device = self.bank.device
        sizes = np.array([len(ids) for ids in feed])
        starts = np.array([len(slot.ids) for slot in slots])
        width = int(sizes.max())
        ids = np.zeros((len(feed), width), dtype=np.int64)
        for row, new in enumerate(feed):
            ids[row, : len(new)] = new
            slots[row].ids.extend(new)
        positions = torch.from_numpy(starts[:, None] + np.arange(width)).to(device)
        length = int((starts + sizes).max())
        numbers = torch.tensor([slot.number for slot in slots], device=device)
        self._cache.aim(numbers, positions, length, self._slots.made)
        masks = {kind: attention_mask(positions, length, window) for kind, window in self._windows.items()}
        if self._additive is not None:
            masks = {kind: (~mask).to(self._additive) * torch.finfo(self._additive).min for kind, mask in masks.items()}
        with self.bank.use_rows([slot.adapter for slot in slots]):
            hidden = self.bank.hidden(
                torch.from_numpy(ids).to(device),
                position_ids=positions,
                attention_mask=masks if len(masks) > 1 else masks["full_attention"],
                past_key_values=self._cache,
                use_cache=True,
            )
            self.counters.fed += int(sizes.sum())
            self.counters.passes += 1
            last = torch.from_numpy(sizes - 1).to(device)
            return self.bank.head(hidden[torch.arange(len(feed), device=device), last])

    def _check_lengths(self, requests: Sequence[Request], sampling: Sampling) -> None:
        longest = max(len(request.prompt_ids) for request in requests)
        if not all(request.prompt_ids for request in requests):
            raise EngineError("engine: a request has no prompt")
        if self.context is not None and longest + sampling.max_new_tokens > self.context:
            raise EngineError(
                f"engine: a prompt of {longest} tokens and sampling.max_new_tokens {sampling.max_new_tokens} pass the "
                f"model's context of {self.context}; shorten the game or choose another model"
            )


def _beginnings(leaders: Mapping[tuple[int, ...], _Slot]) -> list[tuple[_Slot, Sequence[int], list[_Slot]]]:
    """What new conversations of one adapter begin with in common (a game's rules), for the first of them to compute."""
    prompts = [prompt for prompt, slot in leaders.items() if not slot.ids]
    if len(prompts) < 2:
        return []
    low, high = min(prompts), max(prompts)  # whatever two sorted ends share, all between them share
    most = min(map(len, prompts)) - 1
    common = next((n for n in range(most) if low[n] != high[n]), most)
    if common < SHARED_PREFIX:
        return []
    first, *others = (leaders[prompt] for prompt in prompts)
    return [(first, prompts[0][:common], others)]


def _lacks_most(slot: _Slot, prompt: Sequence[int]) -> bool:
    """Whether so much of a prompt is missing in a slot that copying all of it pays."""
    missing = len(prompt) - 1 - len(slot.ids)
    return missing >= SHARED_PREFIX and 2 * missing >= len(prompt)


def _additive_mask(model: torch.nn.Module) -> torch.dtype | None:
    """The type of the mask for attention that adds it to the scores; None where a boolean mask is taken, as by sdpa."""
    kind = model.config._attn_implementation
    if kind not in ("sdpa", "eager"):
        raise EngineError(f"engine: kind hf cannot mask {kind} attention; load the model with sdpa or eager attention")
    return model.dtype if kind == "eager" else None


def _attention_windows(config: object) -> dict[str, int | None]:
    """Attention kind -> window, for the kinds of layers the model has."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    unknown = kinds - {"full_attention", "sliding_attention"}
    if unknown:
        raise EngineError(f"engine: kind hf cannot run layers of the kind {', '.join(sorted(unknown))}")
    windows: dict[str, int | None] = {"full_attention": None}
    if "sliding_attention" in kinds:
        windows["sliding_attention"] = config.sliding_window
    elif getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        windows["full_attention"] = config.sliding_window  # Mistral's way: every layer has the same window
    return windows
