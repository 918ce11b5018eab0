"""The typed recipe: every key a recipe may have, its meaning, its default and its bounds.

Types only: importing this file imports neither torch nor any engine. Reading files, inheritance, overrides and the
checks that need the tables of games, players and presets are in `marft.recipe`.
"""

from marft.config.base import Strict
from marft.config.engine import Engine, Launch
from marft.config.model import Adapter, Model, Optimizer, Tiny
from marft.config.play import Branching, Game, Reward, Rollout, Sampling
from marft.config.recipe import Recipe
from marft.config.team import KINDS, Agent, Past, Policy, Remote, Seat
from marft.config.train import Critic, Train

__all__ = [
    "Adapter",
    "Agent",
    "Branching",
    "Critic",
    "Engine",
    "Game",
    "KINDS",
    "Launch",
    "Model",
    "Optimizer",
    "Past",
    "Policy",
    "Recipe",
    "Remote",
    "Reward",
    "Rollout",
    "Sampling",
    "Seat",
    "Strict",
    "Tiny",
    "Train",
]
