"""Scripted players behind the engine interface: text from a Python function, no tokens, never trained."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from marft.engines.base import Completion, Request
from marft.errors import GameError
from marft.game import Player


class ScriptedEngine:
    """Answers requests whose policy is "scripted:NAME" by calling that player on the request's view."""

    shares_weights = False

    def __init__(self, players: Mapping[str, Player]) -> None:
        self.players = players

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        player = self.players[request.policy]
        try:
            text = player(request.view, random.Random(request.seed))
        except Exception as error:  # a player is a user's function: the message must name it
            raise GameError(f"player {request.policy} raised {type(error).__name__}: {error}") from error
        if not isinstance(text, str):
            raise GameError(f"player {request.policy} returned {text!r}, not a text")
        return Completion([], [], "stop", text=text)

    def end_sessions(self, start: str = "") -> None:
        return None
