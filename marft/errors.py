"""What can go wrong by the user's doing, each with one clear message and its own exit code.

Anything raised from here is printed without a traceback by the command line; every other exception is a defect of
marft and keeps its traceback. A message says what is wrong, the value seen, and the key or flag to change.
"""

from __future__ import annotations


class MarftError(Exception):
    """Base of all errors a user can mend."""

    exit_code = 1


class RecipeError(MarftError):
    """The recipe, an override or a flag cannot be used as written."""

    exit_code = 2


class ModelError(MarftError):
    """The base model or an adapter cannot be loaded."""

    exit_code = 3


class RunFolderError(MarftError):
    """The run folder cannot be used: unwritable, in use, of another recipe, or damaged."""

    exit_code = 4


class GameError(MarftError):
    """A game broke its contract or raised."""

    exit_code = 5


class RewardError(MarftError):
    """A reward function raised or returned something that is not a finite number."""

    exit_code = 6


class EngineError(MarftError):
    """An engine answered wrongly, not at all, or with another adapter than it was asked for."""

    exit_code = 7
