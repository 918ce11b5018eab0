"""Which engine answers for which policy: by how the policy's name begins."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from marft.engines.base import Completion, Engine, Request
from marft.errors import EngineError

SCRIPTED = "scripted:"
PERSON = "person:"
REMOTE = "remote:"
WITHOUT_TOKENS = (SCRIPTED, PERSON, REMOTE)
"""How policies begin that answer in text alone, so that their seat needs no conversation in tokens."""


async def complete(
    requests: Sequence[Request], model: Engine | None, scripted: Engine, remote: Engine | None
) -> list[Completion]:
    """Scripted policies to `scripted`, remote ones to `remote`, all others to `model`; who is slow works meanwhile."""
    parts: dict[str, list[int]] = {}
    for number, request in enumerate(requests):
        kind = next((prefix for prefix in (SCRIPTED, REMOTE) if request.policy.startswith(prefix)), "")
        parts.setdefault(kind, []).append(number)
    engines = {SCRIPTED: scripted, REMOTE: remote, "": model}
    answers: dict[int, Completion] = {}

    async def ask(kind: str, numbers: list[int]) -> None:
        completions = await engines[kind].generate([requests[number] for number in numbers])
        if len(completions) != len(numbers):
            raise EngineError(f"engine: {len(numbers)} requests were answered with {len(completions)} completions")
        answers.update(zip(numbers, completions, strict=True))

    if REMOTE in parts and "" in parts:
        try:
            async with asyncio.TaskGroup() as tasks:
                for kind, numbers in parts.items():
                    tasks.create_task(ask(kind, numbers))
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
    else:
        for kind, numbers in parts.items():
            await ask(kind, numbers)
    return [answers[number] for number in range(len(requests))]


def first_error(errors: BaseExceptionGroup) -> BaseException:
    """The first single exception in a group."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
