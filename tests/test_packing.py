"""Rows packed end to end against rows side by side and rows one by one; and which models can be packed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from marft.bank import AdapterBank
from marft.batches import micro_batches
from marft.config import Adapter, Sampling
from marft.packing import NAME, layout_of
from marft.scoring import Scorer, _Text

SHAPE = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
SLIDING = {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]}
MODELS = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=8),
    "qwen3 with windows": Qwen3Config(**SHAPE, **SLIDING, use_sliding_window=True, head_dim=8),
    "mistral, all windows": MistralConfig(**SHAPE, sliding_window=4),
    "gemma2, capped scores": Gemma2Config(**SHAPE, **SLIDING, head_dim=8, query_pre_attn_scalar=8),
    "gemma3": Gemma3TextConfig(**SHAPE, **SLIDING, head_dim=8, query_pre_attn_scalar=8),
}
SAMPLING = Sampling(temperature=0.8)


def bank_of(config, packing=True):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    model.requires_grad_(False)
    bank = AdapterBank(model, packing)
    bank.add("alice", Adapter(rank=4, alpha=8), seed=1)
    with torch.no_grad():
        for parameter in bank.parameters("alice"):
            parameter.normal_(std=0.1)
    return bank


def ragged(rng, count=9):
    rows = []
    for length in rng.integers(2, 24, count):
        targets = np.flatnonzero(rng.random(length - 1) < 0.6) + 1
        targets = targets if len(targets) else np.array([length - 1])
        rows.append(_Text(rng.integers(1, 60, length), targets))
    return rows


def loss_and_gradient(bank, rows, budget=1000):
    """A loss in which each row's tokens weigh differently, through several passes, and its gradient."""
    scorer, total = Scorer(bank, budget), 0.0
    for parameter in bank.parameters("alice"):
        parameter.grad = None
    count = sum(len(row.targets) for row in rows)
    for batch in scorer.passes.batches(rows):
        with bank.use("alice"):
            scores = scorer.forward([rows[number] for number in batch], SAMPLING, entropy_gradient=True)
            weight_N = torch.cat([torch.full((len(rows[n].targets),), (-1.0) ** n * (n + 1)) for n in batch])
            loss = (weight_N * (scores.logp_N + 0.1 * scores.entropy_N)).sum() / count
            loss.backward()
            total += float(loss.detach())
    return total, torch.cat([parameter.grad.flatten() for parameter in bank.parameters("alice")])


@pytest.mark.parametrize("name", MODELS)
def test_packed_padded_and_one_by_one_give_the_same_loss_and_gradient(name):
    rows = ragged(np.random.default_rng(0))
    packed, padded = bank_of(MODELS[name]), bank_of(MODELS[name], packing=False)
    assert packed.packs
    assert not padded.packs
    found = [loss_and_gradient(packed, rows), loss_and_gradient(packed, rows, budget=40)]
    found += [loss_and_gradient(padded, rows), loss_and_gradient(padded, rows, budget=1)]  # the last one row by row
    (loss, gradient), *others = found
    size = float(gradient.abs().max())
    assert size > 1e-3
    for other_loss, other in others:
        assert abs(other_loss - loss) < 1e-6 * max(1.0, abs(loss))
        assert float((other - gradient).abs().max()) < 1e-6 * max(1.0, size)


def test_a_row_is_blind_to_its_neighbours_in_the_pack():
    bank = bank_of(MODELS["qwen3 with windows"])
    rows = ragged(np.random.default_rng(1), count=5)
    scorer = Scorer(bank, 1000)
    before = scorer.measure("alice", rows, SAMPLING)
    rows[2].ids = (rows[2].ids + 7) % 60
    after = scorer.measure("alice", rows, SAMPLING)
    changed = [not torch.equal(one.logp_N, other.logp_N) for one, other in zip(before, after, strict=True)]
    assert changed == [False, False, True, False, False]


def test_the_models_own_attention_is_back_after_use():
    bank = bank_of(MODELS["llama"])
    usual = bank.config._attn_implementation
    with bank.use("alice"):
        Scorer(bank, 100).forward(ragged(np.random.default_rng(2), 3), SAMPLING)
        assert bank.config._attn_implementation == NAME
    assert bank.config._attn_implementation == usual


@pytest.mark.parametrize(
    "config",
    [
        GPT2Config(vocab_size=60, n_embd=32, n_layer=1, n_head=2, n_positions=64),
        MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=1, state_size=4),
    ],
    ids=["gpt2", "mamba"],
)
def test_a_model_that_cannot_be_packed_is_padded(config):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    bank = AdapterBank(model)
    rows = ragged(np.random.default_rng(3), 4)
    together = Scorer(bank, 1000).measure(None, rows, SAMPLING)
    for row, scores in zip(rows, together, strict=True):
        alone = torch.log_softmax(model(torch.from_numpy(row.ids)[None]).logits[0] / 0.8, -1)
        expected = alone[torch.from_numpy(row.targets - 1), torch.from_numpy(row.ids[row.targets])]
        assert torch.allclose(scores.logp_N, expected, atol=1e-5)


lengths_lists = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(lengths_lists)
@settings(max_examples=200, deadline=None)
def test_a_layout_takes_every_token_to_a_place_of_its_own_row_and_back(lengths):
    layout = layout_of(lengths)
    total = sum(lengths)
    assert [position for length in lengths for position in range(length)] == layout.position_1T[0].tolist()
    came_back = []
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    for block in layout.blocks:
        if block.from_P is None:
            assert block.rows * block.width == block.stop - block.start
            came_back += range(block.start, block.stop)
            continue
        places = block.from_P.view(block.rows, block.width)
        for number, row in enumerate(places):
            assert len({int(row_of[token]) for token in row}) == 1, (lengths, number)
        came_back += block.from_P[block.to_T].tolist()
    assert came_back == list(range(total))


@given(lengths_lists, st.integers(1, 100))
@settings(max_examples=200, deadline=None)
def test_packs_hold_every_row_once_and_keep_to_the_budget(lengths, budget):
    found = micro_batches([range(length) for length in lengths], budget, padded=False)
    assert sorted(number for pack in found for number in pack) == list(range(len(lengths)))
    for pack in found:
        assert sum(lengths[number] for number in pack) <= budget or len(pack) == 1
    for one, other in zip(found, found[1:], strict=False):  # no pack ends before it is full
        assert sum(lengths[number] for number in one) + lengths[other[0]] > budget
