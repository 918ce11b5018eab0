"""results.json of an evaluation, checked: the form is that of `marft.eval`, and only what the report uses is read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from marft.errors import RunFolderError

SCHEMA = 1


class Measure(BaseModel):
    """A mean with its interval; None where nothing was observed."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> bool:
        return self.mean is not None and math.isfinite(self.mean)

    @property
    def bounded(self) -> bool:
        return all(end is not None and math.isfinite(end) for end in (self.low, self.high))


class Pairing(BaseModel):
    """One team against one opponent; `kind` is self, scripted or team."""

    team: str
    opponent: str
    kind: str = "scripted"
    episodes: int = 0
    metrics: dict[str, Measure] = Field(default_factory=dict)

    def measure(self, metric: str) -> Measure:
        return self.metrics.get(metric, Measure())


class Results(BaseModel):
    """An evaluation, whole."""

    game: str = ""
    pairs: list[Pairing] = Field(default_factory=list)
    settings: dict[str, Any] = Field(default_factory=dict)

    def metrics(self) -> list[str]:
        """All metrics, in the order they first appear."""
        return list(dict.fromkeys(key for pairing in self.pairs for key in pairing.metrics))

    def teams(self) -> list[str]:
        return list(dict.fromkeys(pairing.team for pairing in self.pairs))


def read_results(path: Path) -> Results:
    """Read and check a results.json."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"results {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RunFolderError(f"results {path} is not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        seen = data.get("schema") if isinstance(data, dict) else None
        raise RunFolderError(f"results {path} has schema {seen!r}; this version reads schema {SCHEMA}")
    try:
        return Results.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise RunFolderError(f"results {path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
