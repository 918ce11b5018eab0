"""A word, or a pattern, that ends a loop when it stands near the end of a text.

The pattern comes from the recipe and the text from a model, so that a pattern is kept to what cannot take long: no
repeated group, nothing looked back or ahead at, two repetitions at most, on a few characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LENGTH = 200
"""Characters at the end of a text in which it is looked for."""
_HEAVY = re.compile(r"\)[*+?{]|\\[0-9]|\(\?")
_REPEATED = re.compile(r"[*+{]")


class Verdict:
    """`word`, in any case, or `/pattern/`. ValueError for a pattern that is none, or could take long."""

    def __init__(self, text: str) -> None:
        self.word, self.pattern = text.lower(), None
        if len(text) > 2 and text[0] == text[-1] == "/":
            inner = text[1:-1]
            if _HEAVY.search(inner) or len(_REPEATED.findall(inner)) > 2:
                raise ValueError(f"{text} may repeat no group, look at none, and use *, + and {{ twice at most")
            try:
                self.pattern = re.compile(inner, re.IGNORECASE)
            except re.error as error:
                raise ValueError(f"{text} is not a pattern: {error}") from None

    def __call__(self, texts: Iterable[str]) -> bool:
        """Whether all the texts say so."""
        return all(self._says(text[-LENGTH:]) for text in texts)

    def _says(self, text: str) -> bool:
        return self.word in text.lower() if self.pattern is None else bool(self.pattern.search(text))
