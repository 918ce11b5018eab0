"""Several bases in one run: loaded bases, banks and scorers, each call going to the base that the policy is on.

What has one base never comes here: a `Base`, an `AdapterBank` and a `Scorer` are the same things for everybody. Both
kinds are asked in the same way, `bank.of(policy)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from marft.bank import AdapterBank
from marft.bases import home_of, views_of
from marft.chat import ChatByBase
from marft.config import Recipe
from marft.errors import ModelError
from marft.model import Base, load_base
from marft.scoring import Scorer
from marft.shards import Whole

HomeOf = Callable[[str], tuple[str, str]]
"""Policy -> (key of its base, its name there); see `marft.bases.home_of`."""


@dataclass
class Bases:
    """The loaded bases by key, in the place of one. home: who is on which."""

    each: Mapping[str, Base]
    home: HomeOf

    @property
    def chat(self) -> ChatByBase:
        return ChatByBase({key: base.chat for key, base in self.each.items()}, self.home)


class Banks:
    """The adapter banks of several bases, each with its own lock; `of` finds the one that holds a policy."""

    shards = Whole()

    def __init__(self, each: Mapping[str, AdapterBank], home: HomeOf) -> None:
        self.each, self.home = each, home

    def of(self, policy: str) -> AdapterBank:
        return self.each[self.home(policy)[0]]


AnyBase = Base | Bases
AnyBank = AdapterBank | Banks


class Scorers:
    """The scoring service of several bases: a text is scored, and encoded, as the policy's base reads it."""

    def __init__(self, bases: Bases, banks: Banks, token_budget: int) -> None:
        self._home = banks.home
        self._each = {key: Scorer(bank, token_budget, bases.each[key].chat.plain) for key, bank in banks.each.items()}

    def encode(self, text: str, policy: str | None = None) -> list[int]:
        """A text as the policy's tokenizer has it, control tokens disarmed."""
        if policy is None:
            raise ModelError("scoring: the run has several bases; say for whom a text is encoded, encode(text, policy)")
        return self._each[self._home(policy)[0]].encode(text)

    def score(
        self, policy: str | None, prompts: Sequence[Sequence[int]], continuations: Sequence[Sequence[int]]
    ) -> list[np.ndarray]:
        """As `Scorer.score`; the ids must be of the policy's own tokenizer."""
        if policy is None:
            raise ModelError("scoring: the run has several bases; name a policy, such as frozen:base")
        key, name = self._home(policy)
        return self._each[key].score(name, prompts, continuations)


def open_bases(
    recipe: Recipe,
    load: Callable[[Recipe], Base] = load_base,
    *,
    packing: bool = True,
    home: HomeOf | None = None,
) -> tuple[AnyBase, AnyBank]:
    """Everything that the recipe's agents and frozen policies are on, and a bank on each.

    load: a base from the recipe as that base sees it. home: where policies are that the recipe does not know.
    """
    if not recipe.models:
        base = load(recipe)
        return base, AdapterBank(base.model, packing)
    home = home or partial(home_of, recipe)
    bases = Bases({key: load(view) for key, view in views_of(recipe).items()}, home)
    return bases, Banks({key: AdapterBank(base.model, packing) for key, base in bases.each.items()}, home)


def make_scorer(base: AnyBase, bank: AnyBank, token_budget: int) -> Scorer | Scorers:
    """The scoring service on what `open_bases` brought."""
    if isinstance(base, Bases):
        return Scorers(base, bank, token_budget)
    return Scorer(bank, token_budget, base.chat.plain)
