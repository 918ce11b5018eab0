"""Credit by the formulas, one row at a time, in plain loops: what the vectorised blocks are held against.

Written from the definitions and shares no code with marft.credit. A row is a dict with one decision: episode, group,
game, seat, agent, role, step, reward, value, nll, tokens; in a tree also node and parent.
"""

from __future__ import annotations

from collections import defaultdict
from math import exp, fsum, sqrt

OMITTED = 1e-12


def mean(values, weights=None):
    weights = [1.0] * len(values) if weights is None else weights
    return fsum(w * v for w, v in zip(weights, values, strict=True)) / fsum(weights)


def spread(values, unbiased, weights=None):
    weights = [1.0] * len(values) if weights is None else weights
    count = fsum(weights)
    if count - unbiased <= 0:
        return 0.0
    centre = mean(values, weights)
    square = fsum(w * (v - centre) ** 2 for w, v in zip(weights, values, strict=True))
    found = sqrt(square / (count - unbiased))
    return 0.0 if found <= OMITTED * sqrt(mean([v * v for v in values], weights)) else found


def label(row, name, tree):
    if name == "instance":
        return row["group"]
    if name == "parent" and not tree:
        return row["step"]
    return row.get(name, 0)


def group(rows, u, key, tree=False):
    return [v for v in range(len(rows)) if all(label(rows[v], k, tree) == label(rows[u], k, tree) for k in key)]


def rewards(blocks, rows):
    """Attributed reward of every row: a list; for team kinds the reward of its step."""
    kind, alpha, gamma = blocks.attribution.kind, blocks.attribution.alpha, blocks.attribution.gamma
    earned = [row["reward"] for row in rows]

    def step(u):
        return at(u, rows[u]["step"])

    def steps(u):
        return sorted({row["step"] for row in rows if row["episode"] == rows[u]["episode"]})

    def at(u, when):
        return [v for v in range(len(rows)) if (rows[v]["episode"], rows[v]["step"]) == (rows[u]["episode"], when)]

    found = []
    for u, row in enumerate(rows):
        order = steps(u)
        place = order.index(row["step"])
        r = earned[u]
        if kind in ("own",):
            found.append(r)
        elif kind in ("team_sum", "team_local"):
            found.append(fsum(earned[v] for v in step(u)) + (row.get("local", 0.0) if kind == "team_local" else 0.0))
        elif kind == "last_agent":
            found.append(r if row["seat"] == max(rows[v]["seat"] for v in step(u)) else 0.0)
        elif kind in ("margin", "quality"):
            if place == 0:
                found.append(r)
                continue
            q = mean([earned[v] for v in at(u, order[place - 1])])
            found.append(r + alpha * ((r - q) if kind == "margin" else q * r - (1 - q) * (1 - r)))
        elif kind == "debate_score":
            top, bottom = r, 1.0
            if blocks.attribution.shared:
                for later in order[place + 1 :]:
                    weight = gamma ** (later - row["step"])
                    top += weight * mean([earned[v] for v in at(u, later)])
                    bottom += weight
            else:
                for v, other in enumerate(rows):
                    if (
                        other["episode"] == row["episode"]
                        and other["seat"] == row["seat"]
                        and other["step"] > row["step"]
                    ):
                        top += gamma ** (other["step"] - row["step"]) * earned[v]
                        bottom += gamma ** (other["step"] - row["step"])
            found.append(top / bottom)
        elif kind == "influence":
            changes = []
            if place + 1 < len(order):
                after = {rows[v]["seat"]: earned[v] for v in at(u, order[place + 1])}
                changes = [after[rows[v]["seat"]] - earned[v] for v in step(u) if v != u and rows[v]["seat"] in after]
            total = fsum(changes)
            found.append(r + alpha * ((total > 0) - (total < 0)))
        else:
            raise NotImplementedError(kind)
    return found


def prepare(blocks, rows):
    if blocks.prepare.kind == "none":
        return rows
    centred = [
        row["reward"] - mean([rows[v]["reward"] for v in group(rows, u, blocks.prepare.key)])
        for u, row in enumerate(rows)
    ]
    largest = max(abs(row["reward"]) for row in rows)
    centred = [r if abs(r) > OMITTED * largest else 0.0 for r in centred]
    if blocks.prepare.scale:
        tokens = [x for row, r in zip(rows, centred, strict=True) for x in [r] + [0.0] * (row["tokens"] - 1)]
        centre = mean(tokens)
        square = fsum((x - centre) ** 2 for x in tokens) / max(len(tokens) - 1, 1)
        centred = [r / sqrt(square) if square > 0 else 0.0 for r in centred]
    return [{**row, "reward": r} for row, r in zip(rows, centred, strict=True)]


def returns(blocks, rows, tree):
    earned, kind, gamma, lam = rewards(blocks, rows), blocks.return_.kind, blocks.return_.gamma, blocks.return_.lam
    team = blocks.attribution.kind in ("team_sum", "team_mean")

    def stream(u):
        """(step, reward) of what the row's seat is credited with."""
        if team:
            return sorted(
                {(rows[v]["step"], earned[v]) for v in range(len(rows)) if rows[v]["episode"] == rows[u]["episode"]}
            )
        mine = [v for v in range(len(rows)) if all(rows[v][k] == rows[u][k] for k in ("episode", "seat"))]
        return sorted((rows[v]["step"], earned[v]) for v in mine)

    if kind == "turn":
        return earned
    if kind == "episode":
        return [fsum(r for _, r in stream(u)) for u in range(len(rows))]
    if kind == "to_go" or (kind == "tree" and not tree):
        return [
            fsum(gamma ** (k - row["step"]) * r for k, r in stream(u) if k >= row["step"]) for u, row in enumerate(rows)
        ]
    if kind == "tree":
        nodes = sorted({(row["group"], row["node"]) for row in rows})
        parent = {(row["group"], row["node"]): (row["group"], row["parent"]) for row in rows}
        own = {k: fsum(row["reward"] for row in rows if (row["group"], row["node"]) == k) for k in nodes}

        def backed(node):
            children = [k for k in nodes if parent[k] == node]
            return own[node] + (mean([backed(k) for k in children]) if children else 0.0)

        return [backed((row["group"], row["node"])) for row in rows]
    if kind == "gae":
        found = [0.0] * len(rows)
        for u in sorted(range(len(rows)), key=lambda u: -rows[u]["step"]):
            row = rows[u]
            later = [v for v in range(len(rows)) if all(rows[v][k] == row[k] for k in ("episode", "seat"))]
            later = sorted((v for v in later if rows[v]["step"] > row["step"]), key=lambda v: rows[v]["step"])
            until = rows[later[0]]["step"] if later else float("inf")
            r = fsum(gamma ** (k - row["step"]) * x for k, x in stream(u) if row["step"] <= k < until)
            found[u] = r - row["value"]
            if later:
                weight = gamma ** (until - row["step"])
                found[u] += weight * rows[later[0]]["value"] + weight * lam * found[later[0]]
        return found
    chain = sorted(range(len(rows)), key=lambda u: (rows[u]["episode"], rows[u]["step"], rows[u]["seat"]))
    found = [0.0] * len(rows)
    for place in reversed(range(len(chain))):
        u = chain[place]
        found[u] = earned[u] - rows[u]["value"]
        if place + 1 < len(chain) and rows[chain[place + 1]]["episode"] == rows[u]["episode"]:
            v = chain[place + 1]
            found[u] += gamma * rows[v]["value"] + gamma * lam * found[v]
    return found


def distinct(values):
    """One of each run of values that differ by rounding only."""
    kept, last, near = [], None, OMITTED * max(map(abs, values))
    for value in sorted(values):
        if last is None or value - last > near:
            kept.append([])
        kept[-1].append(value)
        last = value
    return [mean(run) for run in kept]


def baselined(blocks, rows, value, tree):
    base = blocks.baseline
    if blocks.return_.kind.startswith("gae") or base.kind == "none":
        return list(value)
    if base.kind == "critic":
        return [v - row["value"] for v, row in zip(value, rows, strict=True)]
    found = []
    if base.kind == "ema_per_seat":
        running, advantage = defaultdict(float), {}
        pairs = sorted({(row["episode"], row["game"], row["seat"]) for row in rows})
        for episode, game, seat in pairs:
            mine = [u for u in range(len(rows)) if (rows[u]["episode"], rows[u]["seat"]) == (episode, seat)]
            first = min(mine, key=lambda u: rows[u]["step"])
            for u in mine:
                advantage[u] = value[u] - running[game, seat]
            running[game, seat] = base.decay * running[game, seat] + (1 - base.decay) * value[first]
        return [advantage[u] for u in range(len(rows))]
    if base.kernel == "capability":
        recent = {}
        for agent in {row["agent"] for row in rows}:
            plays = {}
            for u in sorted(range(len(rows)), key=lambda u: -rows[u]["step"]):
                if rows[u]["agent"] == agent:
                    plays[rows[u]["episode"], rows[u]["seat"]] = value[u]
            recent[agent] = mean(list(plays.values()))
    for u, row in enumerate(rows):
        members = group(rows, u, base.key, tree)
        values = [value[v] for v in members]
        if base.alone == "raw" and len(members) == 1:
            found.append(value[u])
        elif base.kernel == "capability":
            mine = recent[row["agent"]]
            ratio = [
                mine / recent[a] if mine >= 0 and recent[a] > 0 and a != row["agent"] else 1.0
                for a in (rows[v]["agent"] for v in members)
            ]
            found.append(
                value[u] - mean([w * v for w, v in zip(ratio, values, strict=True)]) if len(members) > 1 else 0.0
            )
        elif base.kind == "mean":
            found.append(value[u] - mean(values))
        elif base.kind == "loo":
            others = [value[v] for v in members if rows[v]["episode"] != row["episode"]]
            found.append(value[u] - mean(others) if others else 0.0)
        elif base.kind == "max":
            found.append(value[u] - max(values))
        else:
            kept = distinct(values)
            zero = [abs(v) <= OMITTED * max(map(abs, values)) for v in values]
            found.append(value[u] - fsum(kept) / (len(kept) + (base.with_zero and not any(zero))))
    return found


def aligned(blocks, rows, base):
    align = blocks.alignment
    if align.kind == "none":
        return base
    found = []
    for u, row in enumerate(rows):
        others = fsum(
            base[v]
            for v in range(len(rows))
            if (rows[v]["episode"], rows[v]["step"]) == (row["episode"], row["step"]) and rows[v]["seat"] != row["seat"]
        )
        past = [
            v
            for v in range(len(rows))
            if all(rows[v][k] == row[k] for k in ("episode", "seat")) and rows[v]["step"] < row["step"]
        ]
        if align.kind == "sum":
            found.append(base[u] + others)
        elif align.kind == "ad_align":
            weight = align.gamma * fsum(align.gamma_a ** (row["step"] - rows[v]["step"]) * base[v] for v in past)
            found.append(base[u] + align.beta * weight * others)
        else:
            weight = fsum(base[v] for v in past) / row["step"] if row["step"] else 0.0
            found.append(base[u] + align.beta * weight * others)
    return found


def normalised(blocks, rows, advantage, value, tree):
    norm = blocks.normalise
    if norm.kind == "none":
        return advantage
    found = []
    for u, a in enumerate(advantage):
        members = group(rows, u, norm.key, tree) if norm.kind == "std" else list(range(len(rows)))
        if norm.skip_zeros:
            members = [v for v in members if advantage[v] != 0]
        if not members or (norm.skip_zeros and a == 0):
            found.append(0.0)
            continue
        weights = [rows[v]["tokens"] if norm.over == "tokens" else 1.0 for v in members]
        source = value if norm.of == "return" else advantage
        values = [source[v] for v in members]
        if norm.alone == "raw" and len(members) == 1:
            found.append(a / (1 + norm.eps))
            continue
        sigma = spread(values, norm.unbiased, weights)
        top = a - mean(values, weights) if norm.kind == "whiten" else a
        bottom = {"add": sigma + norm.eps, "inside": sqrt(sigma**2 + norm.eps), "floor": max(sigma, norm.eps)}
        found.append(top / bottom[norm.eps_place] if sigma else 0.0)
    return found


def transformed(blocks, rows, advantage, value, tree):
    for step in blocks.transforms:
        if step.kind == "clamp":
            advantage = [max(-step.limit, min(step.limit, a)) for a in advantage]
        elif step.kind == "nll_gain":
            found = []
            for u, a in enumerate(advantage):
                values = [rows[v]["nll"] for v in group(rows, u, step.key, tree)]
                sigma = spread(values, True)
                z = (rows[u]["nll"] - mean(values)) / (sigma + 1e-6) if sigma else 0.0
                found.append(a * exp(-step.alpha * z))
            advantage = found
        elif step.kind == "filter":
            alive = [spread([value[v] for v in group(rows, u, step.key, tree)], False) > 0 for u in range(len(rows))]
            advantage = [a if keep else 0.0 for a, keep in zip(advantage, alive, strict=True)]
    return advantage


def slow_credit(blocks, rows):
    """The advantage of every row of `rows`, a list."""
    tree = "parent" in rows[0]
    rows = prepare(blocks, rows)
    value = returns(blocks, rows, tree)
    advantage = aligned(blocks, rows, baselined(blocks, rows, value, tree))
    return transformed(blocks, rows, normalised(blocks, rows, advantage, value, tree), value, tree)
