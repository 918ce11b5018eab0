"""G over a rollout tree: R_j = r_j + mean over the children's returns (MAGRPO, 2508.04652).

`node` names the joint turn a row belongs to, `parent` the node it continues; a parent that is nowhere a node makes a
root. Nodes are named within their instance. A node that stands in several episodes is one node. Solved by doubling,
like `scan`: R = Σ_k M^k r, where M hands every node's sum to its parent divided by the number of children.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from marft.blocks import Return
from marft.credit import scan
from marft.credit.keys import Codes, combine, compact, factorise
from marft.credit.table import Decisions

if TYPE_CHECKING:
    from marft.credit.attribution import Stream


def tree(stream: Stream, decisions: Decisions, settings: Return) -> np.ndarray:
    """R_j = r_j + mean over children of R, undiscounted.

    With a team attribution r_j is the sum over the node's seats, otherwise every seat has a return of its own, to which
    nodes where it is silent add nothing of their own. Without the columns `node` and `parent` each episode is a chain,
    and this is the undiscounted return to go.
    """
    if "node" not in decisions.columns and "parent" not in decisions.columns:
        return scan.to_go(stream.reward_V, stream.segment_V, stream.clock_V, 1.0)[stream.row_D]
    node, up_K = _nodes(decisions)
    seat = Codes(np.zeros(len(node.code), np.int64), 1) if stream.team else decisions.codes["seat"]
    cell = combine([node, decisions.codes["seat"]], len(node.code))
    reward_D = decisions.reward_D if stream.team else stream.reward_V[stream.row_D]
    # A node of several episodes is recorded once in each of them.
    share_D = reward_D / np.bincount(cell.code, minlength=cell.size)[cell.code]
    place_D = node.code * seat.size + seat.code
    value_KS = np.bincount(place_D, share_D, node.size * seat.size).reshape(node.size, seat.size)
    return _backup(value_KS, up_K).reshape(-1)[place_D]


def multiplicity(decisions: Decisions) -> np.ndarray:
    """(D,) in how many episodes each decision of the tree stands."""
    node, _ = _nodes(decisions)
    cell = combine([node, decisions.codes["seat"]], len(node.code))
    return np.bincount(cell.code, minlength=cell.size)[cell.code]


def _nodes(decisions: Decisions) -> tuple[Codes, np.ndarray]:
    """Codes of the nodes without unused ones, and the code of each node's parent or −1."""
    n = len(decisions.clock_D)
    label_D = decisions.columns.labels("node", "return tree")
    above_D = decisions.columns.labels("parent", "return tree")
    if label_D.dtype.kind != above_D.dtype.kind:
        label_D, above_D = label_D.astype(str), above_D.astype(str)
    both = factorise(np.concatenate([label_D, above_D]))
    name, above = Codes(both.code[:n], both.size), Codes(both.code[n:], both.size)
    instance = decisions.codes["instance"]
    pair = combine([Codes(np.tile(instance.code, 2), instance.size), both], 2 * n)
    pair = compact(pair)
    used = np.zeros(pair.size, bool)
    used[pair.code[:n]] = True
    rank = np.where(used, np.cumsum(used) - 1, -1)
    node = Codes(rank[pair.code[:n]], int(used.sum()))
    up_K = np.full(node.size, -1)
    up_K[node.code] = np.where(name.code == above.code, -1, rank[pair.code[n:]])
    return node, up_K


def _backup(value_KS: np.ndarray, up_K: np.ndarray) -> np.ndarray:
    children_K = np.bincount(up_K[up_K >= 0], minlength=len(up_K))
    has_K = up_K >= 0
    factor_K = np.where(has_K, 1.0 / np.maximum(children_K[np.maximum(up_K, 0)], 1), 0.0)
    total_KS = value_KS.copy()
    seats = value_KS.shape[1]
    for _ in range(len(up_K).bit_length()):  # a path of K nodes needs log2(K) doublings; a cycle ends here too
        if not has_K.any():
            break
        at = (up_K[has_K, None] * seats + np.arange(seats)).ravel()
        handed = (factor_K[has_K, None] * total_KS[has_K]).ravel()
        total_KS = total_KS + np.bincount(at, handed, total_KS.size).reshape(total_KS.shape)
        above_K = np.maximum(up_K, 0)
        factor_K = np.where(has_K, factor_K * factor_K[above_K], 0.0)
        up_K = np.where(has_K, up_K[above_K], -1)
        has_K = up_K >= 0
    return total_KS
