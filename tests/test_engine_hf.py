"""The in-process engine against plain forward passes: one request at a time, no cache, no batch."""

import asyncio
import dataclasses
import random

import numpy as np
import pytest
import torch
from helpers import complete
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from marft.bank import AdapterBank
from marft.config import Sampling
from marft.engines import hf
from marft.engines.base import Request
from marft.engines.hf import HFEngine
from marft.errors import EngineError, ModelError
from marft.games import make_game
from marft.rollout import Plan, Rollout
from marft.team import game_maker

POLICIES = ("alice", "bob", "frozen:base")
MANY = Sampling(max_new_tokens=6)
SHARP = Sampling(temperature=0.7, top_k=5, top_p=0.9, max_new_tokens=6)


def logits_of(model):
    """ids -> the next token's logits, from transformers alone."""

    @torch.inference_mode()
    def after(ids):
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].double().numpy()

    return after


@pytest.fixture(scope="module")
def plain(model_folder, adapters):
    """Policy -> ids -> logits: the base, and PEFT's own models of base and one adapter each."""

    def base():
        return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)

    models = {name: PeftModel.from_pretrained(base(), folder) for name, folder in adapters.items()}
    return {name: logits_of(model.eval()) for name, model in (models | {"frozen:base": base()}).items()}


@pytest.fixture
def engine(bank, chat):
    return HFEngine(bank, chat.stop_ids)


TEXTS = ["Go.", "The other chose <A>. Your choice?", "Hi 42 <B> <A>", "You and another player play 3 rounds. " * 3]


def prompt(chat, text):
    conversation = chat.conversation()
    conversation.hear([("user", text)])
    return list(conversation.ids)


def requests_of(chat, sampling, copies=2):
    places = [(policy, text, copy) for copy in range(copies) for text in TEXTS for policy in POLICIES]
    return [
        Request(policy, 1000 * copy + number, prompt(chat, text), sampling, f"{number}")
        for number, (policy, text, copy) in enumerate(places)
    ]


def assert_same(completion, ids, logprobs):
    assert completion.token_ids == ids
    np.testing.assert_allclose(completion.logprobs, logprobs, atol=1e-4)


@pytest.mark.parametrize("sampling", [MANY, SHARP], ids=["plain", "processed"])
def test_completions_are_those_of_a_naive_loop(engine, plain, chat, sampling):
    requests = requests_of(chat, sampling)
    for request, completion in zip(requests, engine.complete(requests), strict=True):
        ids, logprobs = complete(plain[request.policy], request, chat.stop_ids)
        assert_same(completion, ids, logprobs)
        assert completion.finish_reason == ("stop" if ids[-1] in chat.stop_ids else "length")


def test_nearly_no_temperature_is_transformers_greedy_search(engine, model_folder, chat):
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    cold = Sampling(temperature=1e-4, max_new_tokens=8)
    requests = [Request("frozen:base", 5, prompt(chat, text), cold) for text in TEXTS]
    for request, completion in zip(requests, engine.complete(requests), strict=True):
        ids = torch.tensor([request.prompt_ids])
        greedy = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=list(chat.stop_ids),
        )
        assert completion.token_ids == greedy[0, ids.shape[1] :].tolist()


def test_each_policy_of_one_call_is_answered_by_its_own_adapter(engine, plain, chat):
    ids = prompt(chat, TEXTS[1])
    requests = [Request(policy, 3, ids, MANY, policy) for policy in POLICIES]
    completions = dict(zip(POLICIES, engine.complete(requests), strict=True))
    for policy, completion in completions.items():
        for other in POLICIES:
            logits = torch.from_numpy(plain[other](ids)).log_softmax(-1)
            gap = abs(float(logits[completion.token_ids[0]]) - completion.logprobs[0])
            assert gap < 1e-4 if other == policy else gap > 1e-3


def test_policies_of_one_call_share_their_passes(engine, bank, chat):
    requests = requests_of(chat, Sampling(max_new_tokens=1), copies=1)
    apart = HFEngine(bank, chat.stop_ids)
    for policy in POLICIES:
        apart.complete([request for request in requests if request.policy == policy])
    engine.complete(requests)
    assert engine.counters.fed == apart.counters.fed
    assert engine.counters.passes == apart.counters.passes / len(POLICIES)


def test_a_pass_of_many_tokens_is_made_in_parts(engine, plain, chat, monkeypatch):
    requests = requests_of(chat, MANY)
    monkeypatch.setattr(hf, "PASS_TOKENS", 60)
    hidden, sizes = engine.bank.hidden, []
    monkeypatch.setattr(engine.bank, "hidden", lambda ids, **inputs: sizes.append(ids.numel()) or hidden(ids, **inputs))
    for request, completion in zip(requests, engine.complete(requests), strict=True):
        assert_same(completion, *complete(plain[request.policy], request, chat.stop_ids))
    assert max(sizes) <= 60


def dialogue(engine, chat, turns=4, seats=5):
    """Several conversations over several turns; returns all prompts and completions."""
    conversations = [chat.conversation() for _ in range(seats)]
    prompts, completions = [], []
    for turn in range(turns):
        requests = []
        for number, conversation in enumerate(conversations):
            conversation.hear([("user", TEXTS[(number + turn) % len(TEXTS)] if turn else TEXTS[3] + str(number))])
            policy = POLICIES[number % len(POLICIES)]
            requests.append(Request(policy, 100 * turn + number, list(conversation.ids), MANY, f"s{number}"))
        answers = engine.complete(requests)
        for conversation, answer in zip(conversations, answers, strict=True):
            conversation.answer(answer.token_ids)
        prompts.extend(request.prompt_ids for request in requests)
        completions.extend(answers)
    return prompts, completions


def test_a_beginning_as_long_as_the_cache_is_shared_like_any_other(engine, plain, chat):
    """64 positions are made at a time; torch does not copy onto itself a tensor of which all is read."""
    same = [*(prompt(chat, TEXTS[0]) * 64)[:64]]
    requests = [
        Request("alice", n, [*same, token], MANY, f"s{n}") for n, token in enumerate(chat.plain("Hi 42 <B> <A>"))
    ]
    for request, completion in zip(requests, engine.complete(requests), strict=True):
        assert_same(completion, *complete(plain["alice"], request, chat.stop_ids))


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other.token_ids, other.logprobs)
        assert (one.finish_reason, one.version) == (other.finish_reason, other.version)


def test_keeping_keys_and_values_changes_the_work_and_not_the_answers(bank, chat, monkeypatch):
    monkeypatch.setattr(hf, "SHARED_PREFIX", 10**9)
    keeping, forgetting = (HFEngine(bank, chat.stop_ids, reuse_cache=reuse) for reuse in (True, False))
    prompts, kept = dialogue(keeping, chat)
    same_prompts, forgotten = dialogue(forgetting, chat)
    assert prompts == same_prompts
    assert_equal(kept, forgotten)
    total, sampled = sum(map(len, prompts)), sum(len(completion.token_ids) for completion in kept)
    assert keeping.counters.sampled == forgetting.counters.sampled == sampled
    assert forgetting.counters.reused == 0
    # Every token passes the model once, but for each completion's last, which passes with the next prompt or never.
    assert forgetting.counters.fed == total + sampled - len(prompts)
    assert keeping.counters.fed + keeping.counters.reused == forgetting.counters.fed
    assert keeping.counters.fed < 0.5 * forgetting.counters.fed


def test_a_shared_beginning_is_computed_once_and_the_answers_are_the_same(bank, chat, monkeypatch):
    engines = []
    for fewest in (8, 10**9):
        monkeypatch.setattr(hf, "SHARED_PREFIX", fewest)
        engines.append(HFEngine(bank, chat.stop_ids))
        engines[-1].played = dialogue(engines[-1], chat, seats=9)[1]
    sharing, apart = engines
    assert_equal(sharing.played, apart.played)
    common = len(prompt(chat, TEXTS[3])) - 5  # at least; what follows the common text may merge with its end
    assert apart.counters.fed - sharing.counters.fed >= (9 - 3) * common


def test_prompts_that_share_all_or_nearly_nothing_are_answered_too(engine, plain, chat):
    same = [Request("alice", seed, prompt(chat, TEXTS[3]), MANY, str(seed)) for seed in range(4)]
    short = [
        Request("bob", seed, prompt(chat, text), MANY, str(seed)) for seed, text in enumerate(["Go.", "No.", "Go."])
    ]
    one = [Request("frozen:base", 1, [5], MANY)]
    requests = same + short + one
    for request, completion in zip(requests, engine.complete(requests), strict=True):
        assert_same(completion, *complete(plain[request.policy], request, chat.stop_ids))


def test_samples_of_a_prompt_compute_it_once(engine, plain, chat):
    asked = [prompt(chat, text) for text in (TEXTS[3], "Go on. " + TEXTS[3])]
    requests = [Request("alice", seed, ids, MANY, f"{seed}") for seed, ids in enumerate(asked * 4)]
    answers = engine.complete(requests)
    for request, completion in zip(requests, answers, strict=True):
        assert_same(completion, *complete(plain["alice"], request, chat.stop_ids))
    # a prompt's last token is fed for each sample, a completion's last one never
    assert engine.counters.fed <= sum(map(len, asked)) - 2 + sum(len(answer.token_ids) for answer in answers)


def test_samples_of_a_state_take_over_what_a_session_has_kept(engine, plain, chat):
    first = Request("alice", 0, prompt(chat, TEXTS[3]), MANY, "s0")
    (said,) = engine.complete([first])
    ids = first.prompt_ids + said.token_ids + prompt(chat, "Next.")
    requests = [Request("alice", seed, ids, MANY, f"s{seed}") for seed in range(5)]
    before = engine.counters.fed
    answers = engine.complete(requests)
    for request, completion in zip(requests, answers, strict=True):
        assert_same(completion, *complete(plain["alice"], request, chat.stop_ids))
    new = len(ids) - len(first.prompt_ids) - len(said.token_ids) + 1  # the completion's last token had not passed yet
    assert engine.counters.fed - before == new - 1 + sum(len(answer.token_ids) for answer in answers)


def test_a_session_may_change_its_past(engine, plain, chat):
    long, other = prompt(chat, TEXTS[3]), prompt(chat, "You and another <A>")
    for seed, ids in enumerate([long, other, long, long, long[:7], [*long, *other], other]):
        request = Request("alice", seed, ids, MANY, "session")
        (completion,) = engine.complete([request])
        assert_same(completion, *complete(plain["alice"], request, chat.stop_ids))


def test_two_requests_of_one_session_or_of_none_do_not_meet(bank, plain, chat):
    for max_batch in (512, 1):
        engine = HFEngine(bank, chat.stop_ids, max_batch=max_batch)
        for session in ("same", ""):
            for _ in range(2):
                requests = [Request("bob", 7, prompt(chat, text), MANY, session) for text in TEXTS]
                for request, completion in zip(requests, engine.complete(requests), strict=True):
                    assert_same(completion, *complete(plain["bob"], request, chat.stop_ids))


def test_sessions_come_and_go_while_others_stay(engine, plain, chat):
    rng = random.Random(0)
    past = {f"s{number}": prompt(chat, rng.choice(TEXTS)) for number in range(6)}
    for turn in range(5):
        sessions = rng.sample(sorted(past), rng.randint(1, 6))
        requests = [Request("alice", turn, list(past[name]), MANY, name) for name in sessions]
        for request, completion in zip(requests, engine.complete(requests), strict=True):
            assert_same(completion, *complete(plain["alice"], request, chat.stop_ids))
            past[request.session] += completion.token_ids + prompt(chat, "Next.")


def test_published_weights_are_live_and_the_old_ones_forgotten(make_bank, chat):
    bank = make_bank()
    engine = HFEngine(bank, chat.stop_ids)
    requests = [Request(policy, 9, prompt(chat, TEXTS[3]), MANY, policy) for policy in POLICIES]
    assert [completion.version for completion in engine.complete(requests)] == [-1, -1, -1]
    before = engine.complete(requests)
    with torch.no_grad():
        for parameter in bank.parameters("alice"):
            parameter.mul_(-1.5)
    engine.publish("alice", 3)
    after = engine.complete(requests)
    fresh = HFEngine(bank, chat.stop_ids).complete(requests)
    assert [completion.version for completion in after] == [3, -1, -1]
    assert_equal(after, [dataclasses.replace(fresh[0], version=3), *fresh[1:]])
    assert_equal(after[1:], before[1:])
    assert after[0].logprobs != pytest.approx(before[0].logprobs, abs=1e-3)


SHAPE = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.4,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
WINDOWED = {
    "qwen2, window in some layers": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=8, max_window_layers=1)
    ),
    "qwen2, window in all layers": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=8, max_window_layers=0)
    ),
    "qwen2, window switched off": lambda: Qwen2ForCausalLM(
        Qwen2Config(**SHAPE, use_sliding_window=False, sliding_window=8)
    ),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8, head_dim=8)),
    "mistral, eager attention": lambda: MistralForCausalLM(
        MistralConfig(**SHAPE, sliding_window=8, head_dim=8, attn_implementation="eager")
    ),
    "gemma2, capped logits": lambda: Gemma2ForCausalLM(
        Gemma2Config(**SHAPE, sliding_window=8, head_dim=8, query_pre_attn_scalar=8, final_logit_softcapping=3.0)
    ),
}


@pytest.mark.parametrize("name", WINDOWED)
def test_sliding_windows_are_those_of_the_model(name):
    torch.manual_seed(0)
    model = WINDOWED[name]().eval()
    engine, rng = HFEngine(AdapterBank(model), frozenset({1})), random.Random(0)
    past = {f"s{number}": [rng.randrange(2, 61) for _ in range(length)] for number, length in enumerate([3, 7, 19, 30])}
    for turn in range(3):
        requests = [Request("frozen:base", turn, list(ids), MANY, name) for name, ids in past.items()]
        for request, completion in zip(requests, engine.complete(requests), strict=True):
            assert_same(completion, *complete(logits_of(model), request, {1}))
            past[request.session] += completion.token_ids + [rng.randrange(2, 61) for _ in range(5)]


def test_requests_that_cannot_be_answered_say_why(engine, chat):
    good = prompt(chat, "Go.")
    with pytest.raises(ModelError, match=r"none is called 'carol'; there are alice, bob"):
        engine.complete([Request("carol", 0, good)])
    for held in (False, True):
        if held:
            engine.complete([Request("alice", 0, good, MANY, "session")])
        with pytest.raises(EngineError, match="no prompt"):
            engine.complete([Request("alice", 0, good), Request("alice", 0, [], MANY, "session")])
    longest = [5] * (engine.context - 5)
    with pytest.raises(EngineError, match=r"prompt of 2043 tokens and sampling.max_new_tokens 6 pass .* of 2048"):
        engine.complete([Request("alice", 0, longest, MANY)])
    with pytest.raises(EngineError, match="no prompt"):
        asyncio.run(engine.generate([Request("alice", 0, [])]))


def test_broken_weights_are_an_error_and_not_an_answer(make_bank, chat):
    bank = make_bank()
    engine = HFEngine(bank, chat.stop_ids)
    before = engine.complete([Request("bob", 0, prompt(chat, "Go."), MANY)])
    with torch.no_grad():
        bank.parameters("alice")[0].fill_(float("nan"))
    with pytest.raises(EngineError, match=r"alice gave log-probabilities that are not finite"):
        engine.complete([Request("bob", 0, prompt(chat, "Go.")), Request("alice", 0, prompt(chat, "Go."))])
    assert_equal(engine.complete([Request("bob", 0, prompt(chat, "Go."), MANY)]), before)


def test_an_error_amid_a_pass_leaves_no_stale_cache(bank, plain, chat, monkeypatch):
    engine = HFEngine(bank, chat.stop_ids)
    requests = [Request("alice", 0, prompt(chat, text), MANY, text) for text in TEXTS]

    def fail(*arguments, **options):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(bank, "hidden", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.complete(requests)
    for request, completion in zip(requests, engine.complete(requests), strict=True):
        assert_same(completion, *complete(plain["alice"], request, chat.stop_ids))


def test_waiting_requests_of_many_tasks_are_one_batch(engine, chat):
    async def all_at_once():
        tasks = [engine.generate([Request("alice", seed, prompt(chat, "Go."), MANY)]) for seed in range(20)]
        return await asyncio.gather(*tasks)

    together = [completion for (completion,) in asyncio.run(all_at_once())]
    assert engine.counters.passes <= 1 + MANY.max_new_tokens
    alone = [engine.complete([Request("alice", seed, prompt(chat, "Go."), MANY)])[0] for seed in range(20)]
    assert_equal(together, alone)


def test_requests_nobody_waits_for_any_more_do_not_block_the_next(engine, chat):
    request = Request("alice", 1, prompt(chat, "Go."), MANY)

    loop = asyncio.new_event_loop()
    task = loop.create_task(engine.generate([request]))
    loop.call_soon(loop.stop)
    loop.run_forever()  # stopped before the request could be answered
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    engine._waiting.append((request, loop.create_future()))  # as a loop that was killed harder leaves it
    loop.close()

    async def ask():
        async with asyncio.timeout(20):
            return await engine.generate([request])

    assert_equal(asyncio.run(ask()), engine.complete([request]))


def test_the_same_seed_plays_the_same_episodes_in_any_batch_and_order(bank, chat, make_recipe):
    """256 episodes, token for token, log-probs to rounding."""
    recipe = make_recipe()
    game = make_game(recipe.game.name, recipe.game.options | {"shuffle_names": True})
    plans = [Plan(number // 4, number % 4, number // 4, {"alice": "alice", "bob": "bob"}) for number in range(256)]

    def play(max_batch, order, reuse=True):
        engine = HFEngine(bank, chat.stop_ids, max_batch=max_batch, reuse_cache=reuse)
        rollout = Rollout(game_maker(game), chat, engine, None, recipe.sampling, ["alice", "bob"], seed=11)
        return {episode.id: episode for episode in asyncio.run(rollout.play([plans[number] for number in order]))}

    shuffled = list(range(256))
    random.Random(1).shuffle(shuffled)
    first = play(512, range(256))
    assert len(first) == 256
    assert len({str([turn.completion_ids for turn in episode.turns]) for episode in first.values()}) > 100
    for other in (play(7, range(256)), play(512, shuffled), play(64, shuffled, reuse=False)):
        assert other.keys() == first.keys()
        for name, episode in first.items():
            for ours, theirs in zip(episode.turns, other[name].turns, strict=True):
                assert (ours.seat, ours.prompt_ids, ours.completion_ids) == (
                    theirs.seat,
                    theirs.prompt_ids,
                    theirs.completion_ids,
                )
                np.testing.assert_allclose(ours.logprobs, theirs.logprobs, atol=1e-4)
            assert (episode.rewards, episode.facts) == (other[name].rewards, other[name].facts)
