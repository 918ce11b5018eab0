"""G over a rollout tree: R_j = r_j + mean over the children's returns (MAGRPO, 2508.04652).

`node` names the joint turn a row belongs to, `parent` the node it continues; a parent that is nowhere a node makes a
root. Nodes are named within their instance. A node that stands in several episodes is one node. Solved by doubling,
like `scan`: R = Σ_k M^k r, where M hands every node's sum to its parent divided by the number of children.
"""

from __future__ import annotations

import numpy as np

from marft.blocks import Return
from marft.credit import scan
from marft.credit.keys import Codes, combine, compact, factorise, first_rows
from marft.credit.stream import Stream
from marft.credit.table import Decisions


def tree(stream: Stream, decisions: Decisions, settings: Return) -> np.ndarray:
    """R_j = r_j + mean over children of R, undiscounted.

    With a team attribution r_j is the team's reward at the node, otherwise every seat has a return of its own, to which
    nodes where it is silent add nothing of their own. Without the columns `node` and `parent` each episode is a chain,
    and this is the undiscounted return to go.
    """
    if "node" not in decisions.columns and "parent" not in decisions.columns:
        return scan.to_go(stream.reward_V, stream.segment_V, stream.clock_V, 1.0)[stream.row_D]
    node, up_K = _nodes(decisions)
    seat = Codes(np.zeros(len(node.code), np.int64), 1) if stream.team else decisions.codes["seat"]
    reward_D = stream.reward_V[stream.row_D]
    if stream.team:  # one number for all seats of the node
        reward_D = reward_D / np.bincount(stream.row_D)[stream.row_D]
    place_D = node.code * seat.size + seat.code
    value_KS = np.bincount(place_D, reward_D * shares(decisions), node.size * seat.size)
    return _backup(value_KS.reshape(node.size, seat.size), up_K).reshape(-1)[place_D]


def shares(decisions: Decisions) -> np.ndarray:
    """(D,) the weight of a decision among its copies on all the paths that lead through its node; they add up to 1.

    A path weighs as much as a walk that takes every child alike would choose it, so that a weighted mean over a node's
    paths is the mean over its children of theirs: a child with many leaves counts no more than one with few. Without a
    tree every decision stands alone.
    """
    n, known = len(decisions.clock_D), decisions.columns.known
    if "node" not in decisions.columns or "parent" not in decisions.columns:
        return np.ones(n)
    if "shares" not in known:
        known["shares"] = _shares(decisions, n)
    return known["shares"]


def _shares(decisions: Decisions, n: int) -> np.ndarray:
    node, up_K = _nodes(decisions)
    children_K = np.bincount(up_K[up_K >= 0], minlength=node.size)
    choice_K = np.where(up_K >= 0, np.log(np.maximum(children_K[np.maximum(up_K, 0)], 1)), 0.0)
    stop = compact(combine([decisions.codes["episode"], node], n))
    first = first_rows(stop)
    episode_D = decisions.codes["episode"].code
    chance_E = -np.bincount(episode_D[first], choice_K[node.code[first]], decisions.codes["episode"].size)
    cell = compact(combine([node, decisions.codes["seat"]], n))
    best_C = np.full(cell.size, -np.inf)
    np.maximum.at(best_C, cell.code, chance_E[episode_D])
    weight_D = np.exp(chance_E[episode_D] - best_C[cell.code])  # a long path's own chance may be less than any float
    return weight_D / np.bincount(cell.code, weight_D)[cell.code]


def _nodes(decisions: Decisions) -> tuple[Codes, np.ndarray]:
    """Codes of the nodes without unused ones, and the code of each node's parent or −1."""
    known = decisions.columns.known
    if "nodes" not in known:
        known["nodes"] = _find_nodes(decisions)
    return known["nodes"]


def _find_nodes(decisions: Decisions) -> tuple[Codes, np.ndarray]:
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
