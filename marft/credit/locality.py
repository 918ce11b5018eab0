"""Whether a group's credit can be told from the group alone. A pure function of settings."""

from __future__ import annotations

from collections.abc import Iterable

from marft.blocks import Algorithm
from marft.credit.couplings import needs_of

OWN = {"instance", "episode"}
"""Columns of which one must stand in the key of a statistic that is to stay within the group."""
REMEMBERS = {
    "critic": "baseline.kind critic learns from the whole batch",
    "state": "baseline remembers earlier batches (kind ema_per_seat, or kernel capability)",
    "shared_rollouts": "ratio.foreign_power lets agents learn from each other's rows",
    "entropy_history": "entropy_band stands around a mean over the batch",
}


def not_local(algorithm: Algorithm) -> str | None:
    """The setting by which other groups of the batch enter a group's credit or its gradient; None where none does."""
    base, norm, align = algorithm.baseline, algorithm.normalise, algorithm.alignment
    prepare, needs = algorithm.prepare, needs_of(algorithm)
    keyed = {"prepare.key": prepare.key if prepare.kind != "none" else None}
    keyed["baseline.key"] = base.key if base.kind in ("mean", "loo", "max", "unique_mean") else None
    keyed["normalise.key"] = norm.key if norm.kind == "std" else None
    for one in algorithm.transforms:
        keyed[f"transforms {one.kind} key"] = one.key if one.kind in ("nll_gain", "filter") else None
    rules = (
        *((need in needs, sentence) for need, sentence in REMEMBERS.items()),
        (algorithm.update.kind != "simultaneous", f"update.kind {algorithm.update.kind} makes steps in an order"),
        (algorithm.update.kl_stop is not None, "update.kl_stop ends passes over the whole batch"),
        (prepare.kind != "none" and prepare.scale, "prepare.scale is over the whole batch"),
        (algorithm.resize.kind != "none", f"resize.kind {algorithm.resize.kind} draws from the whole batch"),
        (align.centre != "none", f"alignment.centre {align.centre} is over the whole batch"),
        (align.whiten != "none", f"alignment.whiten {align.whiten} is over the whole batch"),
        (norm.kind == "whiten", "normalise.kind whiten is over the whole batch"),
        *((_wide(key), f"{name} {list(key or ())} holds neither instance nor episode") for name, key in keyed.items()),
    )
    return next((f"algorithm.{sentence}" for broken, sentence in rules if broken), None)


def _wide(key: Iterable[str] | None) -> bool:
    return key is not None and not OWN & set(key)
