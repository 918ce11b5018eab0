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
from marft.config import Adapter, Sampling
from marft.packing import NAME, apart, layout_of
from marft.scoring import Scorer, _Text
from marft.sharing import SHARE, WORTH, needed, passes_of, pieces_of, tokens_of

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


def bank_of(config, packing=True, dtype=torch.float32):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    model.requires_grad_(False)
    bank = AdapterBank(model, packing)
    bank.add("alice", Adapter(rank=4, alpha=8), seed=1)
    with torch.no_grad():
        for parameter in bank.parameters("alice"):
            parameter.data = parameter.data.normal_(std=0.1).to(dtype)
    return bank


def row_of(rng, ids):
    targets = np.flatnonzero(rng.random(len(ids) - 1) < 0.6) + 1
    return _Text(ids, targets if len(targets) else np.array([len(ids) - 1]))


def ragged(rng, count=9):
    return [row_of(rng, rng.integers(1, 60, length)) for length in rng.integers(2, 24, count)]


def families(rng, count=14):
    """Rows that begin as earlier ones do: of one length, of others, wholly alike, and alike in too little to matter."""
    rows = [rng.integers(1, 60, 50)]
    for number in range(count):
        elder = rows[rng.integers(len(rows))]
        shared = int(rng.choice([len(elder), 16, 17, 30, 3]))
        tail = rng.integers(1, 60, int(rng.choice([1, 8, 8, 9, 20])) if number else 0)
        rows.append(np.concatenate([elder[:shared], tail])[:60])
    return [row_of(rng, ids) for ids in rows]


def loss_and_gradient(bank, rows, budget=1000):
    """A loss in which each row's tokens weigh differently, through several passes, and its gradient."""
    scorer, total = Scorer(bank, budget), 0.0
    for parameter in bank.parameters("alice"):
        parameter.grad = None
    count = sum(len(row.targets) for row in rows)
    for batch in scorer.passes.batches(rows):
        with bank.use("alice"):
            scores = scorer.forward([rows[number] for number in batch], sampling=SAMPLING, entropy_gradient=True)
            weights = {n: (-1.0) ** n * (n + 1) / len(rows) for n in batch}
            weight_N = torch.cat([torch.full((len(rows[n].targets),), weight) for n, weight in weights.items()])
            loss = (weight_N * (scores.logp_N + 0.1 * scores.entropy_N)).sum() / count
            loss.backward()
            total += float(loss.detach())
    return total, torch.cat([parameter.grad.flatten() for parameter in bank.parameters("alice")])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("make", [ragged, families])
@pytest.mark.parametrize("name", MODELS)
def test_packed_padded_and_one_by_one_give_the_same_loss_and_gradient(name, make, dtype):
    rows = make(np.random.default_rng(0))
    packed, padded = bank_of(MODELS[name], dtype=dtype), bank_of(MODELS[name], packing=False, dtype=dtype)
    assert packed.packs
    assert not padded.packs
    found = [loss_and_gradient(packed, rows), loss_and_gradient(packed, rows, budget=60)]
    found += [loss_and_gradient(padded, rows), loss_and_gradient(padded, rows, budget=1)]  # the last one row by row
    (loss, gradient), *others = found
    size = float(gradient.abs().max())
    assert size > 1e-3
    tolerance = 1e-6 if dtype == torch.float32 else 2e-8  # the models' norms stay in float32
    for other_loss, other in others:
        assert abs(other_loss - loss) < tolerance * max(1.0, abs(loss))
        assert float((other - gradient).abs().max()) < tolerance * max(1.0, size)


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
        Scorer(bank, 100).forward(ragged(np.random.default_rng(2), 3), sampling=SAMPLING)
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
short_rows = st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=60), min_size=1, max_size=20)
"""Of two different ids, so that many begin alike."""


def texts(lists):
    return [_Text(np.array(ids), np.array([len(ids) - 1])) for ids in lists]


@given(lengths_lists)
@settings(max_examples=200, deadline=None)
def test_a_layout_takes_every_token_to_a_place_of_its_own_row_and_back(lengths):
    layout = layout_of(apart(lengths))
    total = sum(lengths)
    assert [position for length in lengths for position in range(length)] == layout.position_1T[0].tolist()
    came_back = []
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    for block in layout.blocks:
        if block.own_P is None:
            assert block.rows * block.width == block.stop - block.start
            came_back += range(block.start, block.stop)
            continue
        places = block.own_P.view(block.rows, block.width)
        for number, row in enumerate(places):
            assert len({int(row_of[token]) for token in row}) == 1, (lengths, number)
        came_back += block.own_P[block.to_T].tolist()
    assert came_back == list(range(total))


@given(short_rows, st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_what_a_row_looks_up_elsewhere_is_what_it_begins_with(lists, first):
    rows = texts(lists)
    pieces = pieces_of(rows, first)
    assert sorted(piece.row for piece in pieces) == list(range(len(rows)))
    pack = np.concatenate([rows[piece.row].ids[piece.known : len(piece.place_L)] for piece in pieces])
    assert [place for piece in pieces for place in piece.place_L[piece.known :]] == [*range(first, first + len(pack))]
    for piece in pieces:
        assert pack[piece.place_L - first].tolist() == rows[piece.row].ids[: needed(rows[piece.row])].tolist()
    assert sum(piece.own for piece in pieces) == tokens_of(rows)


@given(short_rows)
@settings(max_examples=200, deadline=None)
def test_no_more_is_computed_than_the_distinct_beginnings_and_what_is_not_worth_sharing(lists):
    rows = texts(lists)
    distinct = {tuple(ids[: place + 1]) for ids in lists for place in range(len(ids) - 1)}
    spared = [max(WORTH, SHARE * needed(row)) for row in rows]
    assert len(distinct) <= tokens_of(rows) <= len(distinct) + sum(spared)


def test_samples_of_a_prompt_cost_the_prompt_once():
    rng = np.random.default_rng(0)
    prompt = rng.integers(1, 60, 40)
    answers = [np.concatenate([[first], rng.integers(1, 60, 8)]) for first in range(8)]
    rows = [_Text(np.concatenate([prompt, answer]), np.arange(40, 49)) for answer in answers]
    assert tokens_of(rows) == 40 + 8 * 8  # the last id of a row predicts nothing


@given(short_rows, st.integers(1, 100), st.booleans())
@settings(max_examples=200, deadline=None)
def test_packs_hold_every_row_once_and_keep_to_the_budget(lists, budget, mixed):
    rows = texts(lists)
    owners = [number % 2 for number in range(len(rows))] if mixed else None

    def size(pack):
        parts = [[rows[n] for n in pack if not mixed or owners[n] == one] for one in range(1 + mixed)]
        return sum(tokens_of(part) for part in parts if part)

    found = passes_of(rows, budget, owners)
    assert sorted(number for pack in found for number in pack) == list(range(len(rows)))
    for pack in found:
        assert size(pack) <= budget or len(pack) == 1
    for one, other in zip(found, found[1:], strict=False):  # no pack ends before it is full
        assert size([*one, other[0]]) > budget
