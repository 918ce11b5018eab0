"""Named algorithms: one table, a row per method. A preset is a composition of blocks, never a subclass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from marft.blocks import KL, Algorithm, Alignment, Attribution, Baseline, OffPolicy, Return
from marft.errors import RecipeError
from marft.lookup import explain, nearest


class Preset(NamedTuple):
    """`source`: where the method and its numbers are from."""

    settings: Algorithm
    source: str
    summary: str


_SOCIAL = {
    "attribution": Attribution(kind="own"),
    "return_": Return(kind="to_go", gamma=0.9),
    "baseline": Baseline(kind="loo", key=("instance", "seat", "step")),
    "off_policy": OffPolicy(kind="truncate", cap=2.0),
    "kl": KL(kind="k3", coef=0.001),
}

PRESETS: dict[str, Preset] = {
    "reinforce": Preset(
        Algorithm(attribution=Attribution(kind="own"), return_=Return(kind="to_go"), baseline=Baseline(kind="none")),
        "Williams 1992",
        "each seat's own undiscounted reward-to-go, no baseline",
    ),
    "rloo": Preset(
        Algorithm(
            attribution=Attribution(kind="own"),
            return_=Return(kind="to_go"),
            baseline=Baseline(kind="loo", key=("instance", "seat")),
        ),
        "arXiv 2402.14740",
        "reward-to-go minus the mean of the group's other episodes",
    ),
    "prosocial": Preset(
        Algorithm(alignment=Alignment(kind="sum"), **_SOCIAL),
        "arXiv 2511.19405, the sum-of-rewards baseline; gamma as in ad_align",
        "every seat's advantage is the sum of all seats' advantages",
    ),
    "ad_align": Preset(
        Algorithm(alignment=Alignment(kind="ad_align", beta=1.0, gamma=0.9, gamma_a=0.9), **_SOCIAL),
        "arXiv 2511.19405",
        "Advantage Alignment: the others' advantages, weighed by my own past ones",
    ),
}


def algorithm(settings: str | Algorithm | Mapping[str, Any]) -> Algorithm:
    """An `Algorithm` from a preset name, from itself, or from a mapping of blocks.

    A mapping may name a `preset` to start from; its blocks then change only the options they name, and a bare string
    changes only a block's `kind`. Raises RecipeError that names the nearest valid word.
    """
    if isinstance(settings, Algorithm):
        return settings
    if isinstance(settings, str):
        return _preset(settings).settings
    if not isinstance(settings, Mapping):
        raise RecipeError(f"algorithm: expected a preset's name or a mapping of blocks, got {settings!r}")
    blocks = {"return" if name == "return_" else name: value for name, value in settings.items()}
    name = blocks.pop("preset", None)
    if name is not None:
        blocks = _merge(_preset(name).settings.model_dump(by_alias=True), blocks)
    try:
        return Algorithm.model_validate(blocks)
    except ValidationError as error:
        raise RecipeError(explain(error, Algorithm, "algorithm.", also=("preset",))) from None


def _preset(name: Any) -> Preset:
    if not isinstance(name, str) or name not in PRESETS:
        raise RecipeError(f"algorithm: no preset {name!r}{nearest(name, PRESETS)}")
    return PRESETS[name]


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        if isinstance(old, dict) and isinstance(value, str):
            value = {"kind": value}
        merged[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged
