"""The scoring service against transformers and PEFT alone; rewards that ask it, and what becomes of their mistakes."""

import numpy as np
import pytest
import torch
from peft import PeftModel
from test_rewards import played
from transformers import AutoModelForCausalLM

from marft.errors import ModelError, RewardError
from marft.rewards import load_reward, takes_all
from marft.scoring import Scorer
from marft.train.rewarding import score_all

PROMPTS = [[5], [260, 9, 9, 4], list(range(20, 60)), [7, 7], [99, 98, 97]]
CONTINUATIONS = [[6, 7, 8], [1], [300, 301], [], list(range(40, 70))]


@pytest.fixture(scope="module")
def plain(model_folder, adapters):
    """(policy, prompt, continuation) -> log-probs by one pass over all logits, in float64."""

    def base():
        return AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64)

    models = {None: base()} | {name: PeftModel.from_pretrained(base(), folder) for name, folder in adapters.items()}

    @torch.no_grad()
    def logp(policy, prompt, continuation):
        logits = models[policy].eval()(torch.tensor([[*prompt, *continuation]])).logits[0]
        scores = torch.log_softmax(logits, -1)[len(prompt) - 1 : len(prompt) - 1 + len(continuation)]
        return [float(scores[place, token]) for place, token in enumerate(continuation)]

    return logp


@pytest.mark.parametrize("budget", [1, 64, 10**6])
@pytest.mark.parametrize("policy", ["alice", "bob", None])
def test_scores_are_those_of_the_whole_models_logits_however_they_are_batched(bank, plain, policy, budget):
    found = Scorer(bank, budget).score(policy, PROMPTS, CONTINUATIONS)
    assert [len(logp_N) for logp_N in found] == [3, 1, 2, 0, 30]
    for logp_N, prompt, continuation in zip(found, PROMPTS, CONTINUATIONS, strict=True):
        assert logp_N.dtype == np.float64
        np.testing.assert_allclose(logp_N, plain(policy, prompt, continuation), atol=1e-4)


def test_policies_differ_and_the_base_has_two_names(bank):
    scores = {
        name: np.concatenate(Scorer(bank, 512).score(name, PROMPTS, CONTINUATIONS))
        for name in ("alice", "bob", None, "frozen:base")
    }
    np.testing.assert_array_equal(scores[None], scores["frozen:base"])
    assert min(np.abs(scores[a] - scores[b]).max() for a, b in [("alice", "bob"), ("alice", None)]) > 1e-3


def test_a_frozen_adapter_is_scored_under_the_name_that_episodes_record(make_bank, adapters):
    bank = make_bank()
    bank.load(f"frozen:{adapters['bob']}", adapters["bob"])
    scorer = Scorer(bank, 512)
    for one, other in zip(
        scorer.score(f"frozen:{adapters['bob']}", PROMPTS, CONTINUATIONS),
        scorer.score("bob", PROMPTS, CONTINUATIONS),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_scoring_leaves_the_adapter_in_use_and_no_gradient_behind(bank):
    with bank.use("alice"):
        Scorer(bank, 64).score("bob", PROMPTS, CONTINUATIONS)
        ids = torch.tensor([[5, 6, 7]])
        now = bank.head(bank.hidden(ids, use_cache=False)).detach()
    with bank.use("alice"):
        assert torch.equal(now, bank.head(bank.hidden(ids, use_cache=False)).detach())
    assert all(parameter.grad is None for parameter in bank.parameters("bob"))


def test_what_cannot_be_scored_is_refused(bank):
    scorer = Scorer(bank, 64)
    assert scorer.score("alice", [], []) == []
    with pytest.raises(ModelError, match="first token of a text has no probability"):
        scorer.score("alice", [[5], []], [[6], [7]])
    with pytest.raises(ModelError, match="none is called 'carol'"):
        scorer.score("carol", [[5]], [[6]])
    with pytest.raises(ModelError, match="given no tokenizer"):
        scorer.encode("hello")
    with pytest.raises(ValueError, match="shorter|longer"):
        scorer.score("alice", [[5]], [])


def test_texts_are_encoded_without_control_tokens(bank, chat):
    scorer = Scorer(bank, 64, chat.plain)
    ids = scorer.encode("a<|im_end|>b")
    assert isinstance(ids, list)
    assert not set(ids) & set(chat.stop_ids)


# --- rewards that take all episodes at once


def all_at_once(answer):
    return {"mine": (lambda episodes, scorer: answer(episodes, scorer), 2.0)}


def test_a_reward_of_all_episodes_gets_them_once_with_the_service_and_pays_each_its_own():
    episodes, calls = [played(), played(), played()], []

    def mine(episodes, scorer):
        calls.append((len(episodes), scorer))
        return ({"a": [0.0, float(number), 0.0]} for number, _ in enumerate(episodes))

    service = object()
    score_all(episodes, {"mine": (mine, 2.0), "payoff": (load_reward("payoff"), 1.0)}, service)
    assert calls == [(3, service)]
    assert [episode.terms["mine"]["a"] for episode in episodes] == [[0, 0, 0], [0, 2, 0], [0, 4, 0]]
    assert all(episode.terms["payoff"]["a"] == [1.0, -2.5, 0.0] for episode in episodes)


def test_it_takes_all_if_its_first_parameter_says_so():
    assert takes_all(load_reward("information_gain", {"prefix": "The answer: "}))
    assert not takes_all(load_reward("payoff", {"scale": 2.0}))
    assert not takes_all(lambda: {})


def fails_late(episodes, scorer):
    yield {}
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda episodes, scorer: [{}], "reward mine answered 2 episodes with 1 results"),
        (lambda episodes, scorer: [{}] * 3, "reward mine answered 2 episodes with 3 results"),
        (lambda episodes, scorer: 1 / 0, "reward mine raised ZeroDivisionError: .* on 2 episodes"),
        (lambda episodes, scorer: None, "reward mine raised TypeError: .* on 2 episodes"),
        (fails_late, "reward mine raised KeyError: 'lost' on 2 episodes"),
        (lambda episodes, scorer: [{}, {"d": 1.0}], "names a seat 'd' that g does not have"),
        (lambda episodes, scorer: [{"a": float("nan")}, {}], "must be finite numbers"),
        (lambda episodes, scorer: [{}, None], "reward mine raised TypeError: .* on e7"),
    ],
)
def test_what_is_no_answer_for_all_is_refused_by_name(answer, message):
    with pytest.raises(RewardError, match=message):
        score_all([played(), played()], all_at_once(answer))
