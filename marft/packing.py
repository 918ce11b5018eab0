"""Rows end to end in one sequence, without padding: all matrices see them as one, attention looks within each row only.

Rows that begin alike share that beginning: it stands once in the pack, and the others look it up there.

A transformers model finds its attention by a name in its config; `NAME` is ours. It takes the layout of the rows from
the forward pass's arguments and computes rows of about one shape together, by torch's scaled dot product attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention
from transformers import AttentionInterface

from marft.sharing import Piece, runs

NAME = "marft_packed"
TOGETHER = 0.8
"""Rows whose length is at least this share of the longest one's are computed together, filled up to it."""
MASKED = 1 << 22
"""Places of the masks of rows that are computed together though they share beginnings of several lengths."""
LONGEST_PROBE = 8192
"""Of a model whose window is longer than this the window is not tried out."""


@dataclass(frozen=True)
class Block:
    """Neighbouring rows that attention takes together.

    start, stop: the tokens in the pack that are theirs alone. rows, width: how many rows, and the most such tokens of
    one. ahead: the most tokens of one that stand elsewhere in the pack. own_P: the token that each of the rows · width
    places takes, to_T: the place of each token; None where all have as many. seen_P: the token at each of the
    rows · (ahead + width) places that are looked at; None where that is the own ones. lacks_R: how many places ahead
    are not a row's; None where that is none of any.
    """

    start: int
    stop: int
    rows: int
    width: int
    ahead: int = 0
    own_P: Tensor | None = None
    to_T: Tensor | None = None
    seen_P: Tensor | None = None
    lacks_R: Tensor | None = None


@dataclass(frozen=True)
class Layout:
    """Where rows lie in a pack: in which blocks, and (1, T) each token's place in its row."""

    blocks: tuple[Block, ...]
    position_1T: Tensor


def layout_of(pieces: Sequence[Piece], device: torch.device | str = "cpu") -> Layout:
    """The layout of rows whose own tokens lie one after the other, in this order, in a pack that they fill."""
    blocks = tuple(_block(run, device) for run in runs(pieces, TOGETHER, MASKED))
    position_T = np.concatenate([np.arange(piece.known, len(piece.place_L)) for piece in pieces])
    return Layout(blocks, torch.from_numpy(position_T)[None].to(device))


def apart(lengths: Sequence[int]) -> list[Piece]:
    """Rows of these lengths that have nothing in common."""
    ends = np.cumsum(lengths)
    return [
        Piece(number, np.arange(end - length, end), 0)
        for number, (end, length) in enumerate(zip(ends, lengths, strict=True))
    ]


def _block(pieces: Sequence[Piece], device: torch.device | str) -> Block:
    """A row's first own token fills up: behind its end nobody looks, ahead of it a mask hides that."""
    rows, width, ahead = len(pieces), max(piece.own for piece in pieces), max(piece.known for piece in pieces)
    start, stop = pieces[0].start, int(pieces[-1].place_L[-1]) + 1
    own_P = to_T = seen_P = lacks_R = None
    if min(piece.own for piece in pieces) < width:
        begin_R1 = np.array([piece.start for piece in pieces])[:, None]
        filled_RW = np.arange(width) < np.array([piece.own for piece in pieces])[:, None]
        own_P = torch.from_numpy((begin_R1 + np.where(filled_RW, np.arange(width), 0)).ravel()).to(device)
        to_T = torch.from_numpy(np.flatnonzero(filled_RW)).to(device)
    if ahead:
        seen_RK = np.repeat(np.array([piece.start for piece in pieces])[:, None], ahead + width, 1)
        for row, piece in enumerate(pieces):
            seen_RK[row, ahead - piece.known : ahead + piece.own] = piece.place_L
        seen_P = torch.from_numpy(seen_RK.ravel()).to(device)
        lacks = [ahead - piece.known for piece in pieces]
        lacks_R = torch.tensor(lacks, device=device) if any(lacks) else None
    return Block(start, stop, rows, width, ahead, own_P, to_T, seen_P, lacks_R)


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
    query_RHWD = _spread(block, query, block.width, block.own_P)
    if block.seen_P is None:
        key_RHKD, value_RHKD = (_spread(block, heads_HTD, block.width, block.own_P) for heads_HTD in (key, value))
    else:
        seen = block.ahead + block.width
        key_RHKD, value_RHKD = (_spread(block, heads_HTD, seen, block.seen_P) for heads_HTD in (key, value))
    windowed = window is not None and window < block.ahead + block.width
    if softcap is not None:
        out_RHWD = _capped(query_RHWD, key_RHKD, value_RHKD, scale, _seen(block, window, query.device), softcap)
    else:
        mask = _seen(block, window, query.device) if windowed or block.ahead else None
        grouped = query.shape[0] != key.shape[0]
        out_RHWD = scaled_dot_product_attention(
            query_RHWD, key_RHKD, value_RHKD, mask, is_causal=mask is None, scale=scale, enable_gqa=grouped
        )
    out_PHD = out_RHWD.transpose(1, 2).flatten(0, 1)
    return out_PHD if block.to_T is None else out_PHD.index_select(0, block.to_T)


def _spread(block: Block, heads_HTD: Tensor, width: int, from_P: Tensor | None) -> Tensor:
    """(rows, heads, `width`, size) out of the pack."""
    if from_P is None:
        return heads_HTD[:, block.start : block.stop].unflatten(1, (block.rows, width)).transpose(0, 1)
    token_THD = heads_HTD.transpose(0, 1)  # as a table of tokens, whose way back is a sum of rows, and fast
    found_PF = embedding(from_P, token_THD.flatten(1))
    return found_PF.unflatten(1, token_THD.shape[1:]).unflatten(0, (block.rows, width)).transpose(1, 2)


def _seen(block: Block, window: int | None, device: torch.device) -> Tensor:
    """(W, K) or (R, 1, W, K) whether a token sees another: none after it, with a window only the last `window`."""
    place_W = torch.arange(block.ahead, block.ahead + block.width, device=device)
    place_K = torch.arange(block.ahead + block.width, device=device)
    behind_WK = place_W[:, None] - place_K
    seen_WK = (behind_WK >= 0) & (behind_WK < (window or len(place_K)))
    if block.lacks_R is None:
        return seen_WK
    return seen_WK & (place_K >= block.lacks_R[:, None])[:, None, None]


def _capped(query: Tensor, key: Tensor, value: Tensor, scale: float | None, seen: Tensor, softcap: float) -> Tensor:
    """Gemma 2's attention, whose scores are capped, which torch's own does not know."""
    times = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    score = query @ key.transpose(-1, -2) * (scale if scale is not None else query.shape[-1] ** -0.5)
    score = torch.tanh(score / softcap) * softcap
    score = score.masked_fill(~seen, -torch.inf)
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
    layout = layout_of(apart([len(row) for row in rows]), model.device)
    usual, core = config._attn_implementation, model.base_model
    with torch.no_grad():
        single = torch.cat([core(input_ids=row[None], use_cache=False)[0][0] for row in rows])
        try:
            config._attn_implementation = NAME
            inputs = {"position_ids": layout.position_1T, "use_cache": False, "packed": layout}
            together = core(input_ids=torch.cat(rows)[None], **inputs)[0][0]
        except (TypeError, ValueError, RuntimeError):  # it does not hand on what our attention needs
            return False
        finally:
            config._attn_implementation = usual
    return close(together, single)


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Whether hidden states that were computed in two ways are the same, up to rounding."""
    tolerance = 1e-4 if theirs.dtype in (torch.float32, torch.float64) else 5e-2
    return bool((ours - theirs).abs().max() <= tolerance * max(1.0, float(theirs.abs().max())))


AttentionInterface.register(NAME, packed_attention)
