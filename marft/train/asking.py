"""What a reward may ask a remote model: many conversations at once, an answer or its error for each.

The connections belong to one call's event loop. Tokens count with those of remote seats, against the same limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from marft.engines.base import Request
from marft.engines.remote import RemoteEngine
from marft.engines.route import REMOTE
from marft.errors import EngineError

Conversation = Sequence[tuple[str, str]]


class Asking:
    """Asks the endpoints of an engine beside it, which may be at play in another thread."""

    def __init__(self, remote: RemoteEngine | None) -> None:
        self.remote = remote.twin() if remote is not None else None

    def ask(self, name: str, conversations: Sequence[Conversation]) -> list[str | Exception]:
        """What the endpoint `name` of `remotes` says to each. Every wait has the deadlines of the endpoint."""
        if self.remote is None:
            raise EngineError(f"remotes: nobody may be asked as {name!r} here")
        return asyncio.run(self._all(name, conversations))

    async def _all(self, name: str, conversations: Sequence[Conversation]) -> list[str | Exception]:
        async with self.remote:
            asked = [self._one(name, list(conversation)) for conversation in conversations]
            return list(await asyncio.gather(*asked))

    async def _one(self, name: str, conversation: list[tuple[str, str]]) -> str | Exception:
        try:
            (answer,) = await self.remote.generate([Request(f"{REMOTE}{name}", 0, messages=conversation)])
        except EngineError as error:  # a failed judgement, which the reward's on_error decides about
            return error
        return answer.text or ""
