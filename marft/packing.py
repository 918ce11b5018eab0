"""Rows end to end in one sequence, without padding: all matrices see them as one, attention looks within each row only.

A transformers model finds its attention by a name in its config; `NAME` is ours. It takes the layout of the rows from
the forward pass's arguments and computes rows of about one length together, by torch's scaled dot product attention.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "marft_packed"
TOGETHER = 0.8
"""Rows whose length is at least this share of the longest one's are computed together, filled up to it."""
LONGEST_PROBE = 8192
"""Of a model whose window is longer than this the window is not tried out."""


@dataclass(frozen=True)
class Block:
    """Neighbouring rows that attention takes together.

    start, stop: their tokens in the pack. rows, width: how many, and the longest one's length. from_P: the token that
    each of the rows · width places takes, to_T: the place of each token; None where all are of one length.
    """

    start: int
    stop: int
    rows: int
    width: int
    from_P: Tensor | None = None
    to_T: Tensor | None = None


@dataclass(frozen=True)
class Layout:
    """Where rows lie in a pack: in which blocks, and (1, T) each token's place in its row."""

    blocks: tuple[Block, ...]
    position_1T: Tensor


def layout_of(lengths: Sequence[int], device: torch.device | str = "cpu") -> Layout:
    """The layout of rows of these lengths, one after the other."""
    blocks: list[Block] = []
    for own in _alike(lengths):
        blocks.append(_block(blocks[-1].stop if blocks else 0, own, device))
    position_T = torch.cat([torch.arange(length) for length in lengths])
    return Layout(tuple(blocks), position_T[None].to(device))


def _alike(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Runs of neighbours that are computed together."""
    own = [lengths[0]]
    for length in lengths[1:]:
        if min(own[-1], own[0], length) < TOGETHER * max(own[-1], own[0], length):
            yield own
            own = []
        own.append(length)
    yield own


def _block(start: int, lengths: Sequence[int], device: torch.device | str) -> Block:
    rows, width, total = len(lengths), max(lengths), sum(lengths)
    if min(lengths) == width:
        return Block(start, start + total, rows, width)
    length_R1, place_W = torch.tensor(lengths)[:, None], torch.arange(width)
    first_R1 = torch.tensor(lengths).cumsum(0)[:, None] - length_R1
    filled_RW = place_W < length_R1
    from_RW = first_R1 + torch.where(filled_RW, place_W, 0)  # what fills up comes after all that is real: causal
    to_T = torch.arange(rows * width)[filled_RW.flatten()]
    return Block(start, start + total, rows, width, (start + from_RW.flatten()).to(device), to_T.to(device))


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each row, as transformers calls it; `packed` comes through the model's forward.

    query: (1, heads, T, width), key and value likewise. Returns (1, T, heads, width), and no weights.
    """
    shape = {"scale": scaling, "window": sliding_window, "softcap": softcap}
    found = [_attend(block, query[0], key[0], value[0], **shape) for block in packed.blocks]
    return (torch.cat(found) if len(found) > 1 else found[0])[None], None


def _attend(
    block: Block, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None, window: int | None, softcap: Any
) -> Tensor:
    """(tokens, heads, width) of a block's rows."""
    query_RHWD, key_RHWD, value_RHWD = (_spread(block, heads_HTD) for heads_HTD in (query, key, value))
    windowed = window is not None and window < block.width
    if softcap is not None:
        out_RHWD = _capped(query_RHWD, key_RHWD, value_RHWD, scale, window if windowed else None, softcap)
    else:
        mask = _causal(block.width, window, query.device) if windowed else None
        grouped = query.shape[0] != key.shape[0]
        out_RHWD = scaled_dot_product_attention(
            query_RHWD, key_RHWD, value_RHWD, mask, is_causal=mask is None, scale=scale, enable_gqa=grouped
        )
    out_PHD = out_RHWD.transpose(1, 2).flatten(0, 1)
    return out_PHD if block.to_T is None else out_PHD.index_select(0, block.to_T)


def _spread(block: Block, heads_HTD: Tensor) -> Tensor:
    """(rows, heads, longest length, width) out of the pack."""
    if block.from_P is None:
        heads_HPD = heads_HTD[:, block.start : block.stop]
    else:
        heads_HPD = heads_HTD.index_select(1, block.from_P)
    return heads_HPD.unflatten(1, (block.rows, block.width)).transpose(0, 1)


def _causal(width: int, window: int | None, device: torch.device) -> Tensor:
    """(W, W) whether a place sees another: none after it, and with a window only the last `window` ones."""
    behind_WW = torch.arange(width, device=device)[:, None] - torch.arange(width, device=device)
    return (behind_WW >= 0) & (behind_WW < (window or width))


def _capped(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None, softcap: float
) -> Tensor:
    """Gemma 2's attention, whose scores are capped, which torch's own does not know."""
    times = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    score = query @ key.transpose(-1, -2) * (scale if scale is not None else query.shape[-1] ** -0.5)
    score = torch.tanh(score / softcap) * softcap
    score = score.masked_fill(~_causal(query.shape[2], window, query.device), -torch.inf)
    return torch.softmax(score, -1, dtype=torch.float32).to(query.dtype) @ value


def can_pack(model: torch.nn.Module) -> bool:
    """Whether the model's attention can be replaced by ours: tried on rows that pass its sliding window, if it has one.

    Models that keep a state instead of attention, or that look at parts of the sequence in other ways, cannot.
    """
    config = model.config
    if config._attn_implementation not in ("sdpa", "eager"):
        return False
    if set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention", "sliding_attention"}:
        return False
    window = getattr(config, "sliding_window", None) or 0
    ids = torch.arange(1, 8 + min(window, LONGEST_PROBE), device=model.device) % config.vocab_size
    rows = [ids, ids[:3]]
    layout = layout_of([len(row) for row in rows], model.device)
    usual, core = config._attn_implementation, model.base_model
    with torch.no_grad():
        apart = torch.cat([core(input_ids=row[None], use_cache=False)[0][0] for row in rows])
        try:
            config._attn_implementation = NAME
            inputs = {"position_ids": layout.position_1T, "use_cache": False, "packed": layout}
            together = core(input_ids=torch.cat(rows)[None], **inputs)[0][0]
        except (TypeError, ValueError, RuntimeError):  # it does not hand on what our attention needs
            return False
        finally:
            config._attn_implementation = usual
    return close(together, apart)


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Whether hidden states that were computed in two ways are the same, up to rounding."""
    tolerance = 1e-4 if theirs.dtype in (torch.float32, torch.float64) else 5e-2
    return bool((ours - theirs).abs().max() <= tolerance * max(1.0, float(theirs.abs().max())))


AttentionInterface.register(NAME, packed_attention)
