"""What metrics are called in the report, and how to read them.

What many games measure, and what training does, stands here. What one game alone measures is called by its own key, in
words, and explained by the docstring of that game's `metrics`; of games that are not built in, nothing is known.
"""

from __future__ import annotations

from marft.games import GAMES

KNOWN = {
    "cooperation": ("Cooperation", "Share of choices that cooperate: 1 = always cooperates, 0 = never."),
    "cooperation_after_first": ("Cooperation after round 1", "Share of choices that cooperate, first rounds left out."),
    "p_c_cc": ("P(C | CC)", "Cooperates after both cooperated: 1 keeps the peace."),
    "p_c_cd": ("P(C | CD)", "Cooperates after being betrayed: 0 retaliates, 1 lets itself be exploited."),
    "p_c_dc": ("P(C | DC)", "Cooperates after betraying the other: 1 makes up for it, 0 goes on exploiting."),
    "p_c_dd": ("P(C | DD)", "Cooperates after both defected: above 0 it can forgive, at 0 it stays locked."),
    "return": ("Return", "Undiscounted payoff of an episode per seat."),
    "opponent_return": ("Opponent's return", "Undiscounted payoff of an episode per seat of the opponent."),
    "welfare": ("Welfare", "Joint payoff of all seats per round."),
    "invalid": ("Invalid answers", "Share of answers the game could not read: 0 = all readable."),
}
"""Of games: metric -> (heading, how to read it)."""

TRAINING = {
    "kl": ("KL to base", "Distance from the base model in nats per token: 0 = plays like the base."),
    "entropy": ("Entropy", "Nats per token: 0 = always the same answer, higher = still explores."),
    "grad_norm": ("Gradient norm", "Length of the gradient before clipping."),
    "gap": ("Log-prob gap", "Mean |engine − trainer| log-probability of the same tokens: near 0 both run one policy."),
    "gap_max": ("Largest log-prob gap", "The worst single token of the update."),
    "loss": ("Loss", "The value that was minimised. It need not fall: rewards and baseline move with the play."),
    "policy": ("Policy loss", "The policy-gradient term of the loss."),
    "learning_rate": ("Learning rate", ""),
    "clip_fraction": ("Clip fraction", "Share of tokens whose gradient was clipped away."),
    "off_policy_weight": ("Off-policy weight", "Mean correction for the engine's policy: 1 = none needed."),
    "tokens": ("Tokens read", "Tokens per update in the trained rows, prompts included."),
    "trained": ("Tokens trained", "Tokens per update that carry loss: the agent's own completions."),
    "failed": ("Failed episodes", "Episodes per update that broke off; they are kept on disk and never scored."),
}
"""Of training, likewise."""

CONDITIONAL = ("p_c_cc", "p_c_cd", "p_c_dc", "p_c_dd")
"""Chances to cooperate given the seat's own last move, then the other's."""

SHARES = ("cooperation", "cooperation_after_first", *CONDITIONAL)
"""Metrics whose axis always shows 0 to 1."""

POSITIVE = ("invalid", "kl", "entropy", "grad_norm", "gap", "tokens", "trained", "failed")
"""Metrics whose axis starts at 0."""


def name_of(metric: str) -> str:
    """The metric's heading."""
    known = KNOWN.get(metric) or TRAINING.get(metric)
    words = metric.replace("_", " ")
    return known[0] if known else words[:1].upper() + words[1:]


def meaning_of(metric: str, game: str | None = None) -> str:
    """How to read a metric of that game, or without one of training; empty where only a game of the user's knows."""
    if game is None:
        return TRAINING[metric][1] if metric in TRAINING else ""
    if metric in KNOWN:
        return KNOWN[metric][1]
    return GAMES[game].meanings().get(metric, "") if game in GAMES else ""


def label_of(key: str) -> str:
    """The heading of a key of metrics.jsonl: "game/cooperation", "agent/alice/kl", "reward/payoff"."""
    kind, _, rest = key.partition("/")
    owner, slash, metric = rest.partition("/")
    if slash:
        return f"{name_of(metric)}, {owner}"
    return f"Reward {rest}" if kind == "reward" else name_of(rest)
