"""One episode of a published team, to see that it speaks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from marft.banks import open_bases
from marft.engines.make import hf_engine
from marft.engines.remote import check_keys, remotes_of
from marft.episode import Episode
from marft.eval.teams import home_in, load_team
from marft.rollout import FLAT, Plan
from marft.team import make_rollout


def play_published(folder: Path, seed: int) -> Episode:
    """The team in its seats, on the instance of this seed."""
    team = load_team(folder.name, folder, None)
    recipe = team.recipe
    check_keys(remotes_of(recipe))
    base, bank = open_bases(recipe, packing=False, home=home_in([team]))
    team.load_into(bank)
    rollout = make_rollout(recipe, base.chat, bank, hf_engine(base, bank, max_batch=recipe.engine.max_batch))
    rollout.seed, rollout.plan = seed, FLAT
    seats = {seat: team.policy(seat) for seat in recipe.team}
    return asyncio.run(rollout.play([Plan(0, 0, seed, seats)]))[0]
