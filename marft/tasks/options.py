"""The `task:` option of a game: where its questions come from, and which of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Split = Literal["train", "test"]
OVER = 5
"""Updates whose mean decides, where `until.over` says nothing."""


class Until(BaseModel):
    """When a stage is over: after so many `updates`; or when `metric`, as metrics.jsonl calls it, is `reaches` or more
    in the mean of the stage's last `over` updates."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    updates: int | None = Field(None, ge=1, strict=True)
    metric: str | None = None
    reaches: float | None = Field(None, allow_inf_nan=False)
    over: int | None = Field(None, ge=1, le=1000, strict=True)

    @model_validator(mode="after")
    def _one_condition(self) -> Until:
        if (self.updates is None) == (self.metric is None) or (self.metric is None) != (self.reaches is None):
            raise ValueError("say either {updates: 20} or {metric: game/final_accuracy, reaches: 0.8}")
        if self.over is not None and self.metric is None:
            raise ValueError("over says how many updates a metric's mean is over; there is no metric")
        return self

    @property
    def window(self) -> int:
        """How many updates the metric's mean is over."""
        return self.over or OVER

    def __str__(self) -> str:
        if self.metric is None:
            return f"after {self.updates} updates"
        return f"when {self.metric} reaches {self.reaches:g} over {self.window} updates"


class Stage(BaseModel):
    """One stage of a curriculum: what it changes about the task, and when the next one begins; the last never ends."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    set: str | None = None
    path: str | dict[Split, str] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    level: int | None = Field(None, ge=0, le=100, strict=True)
    until: Until | None = None


class TaskOptions(BaseModel):
    """set: a set by name, `arithmetic` or `reasoning_gym:NAME`. path: or a file of one's own, .jsonl or .parquet, or
    a folder that `datasets` saved; {train: file, test: file} where the two lie apart.

    options: of the set. level: how hard, from 0, by the set's own curriculum. columns: which of a file's columns hold
    `question` and `answer`, where they are not called so. split: train or test, which share no question. test_share: of
    the questions, chosen by a hash of each, where there are no files for both. size: how many different questions;
    default all of a file's, and of a set what some hundred draws bring. seed: of the draws. template: a prompt (jinja2)
    over `question` and the row's further columns, which becomes the question.

    curriculum: stages that training goes through, each with its own set, path, options or level and, but for the last,
    until {updates: 20} or {metric: game/final_accuracy, reaches: 0.8, over: 5}. stage: the one that is asked, from 0.
    Where it is not said, training begins with the first, and whatever else plays asks the last.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    set: str | None = None
    path: str | dict[Split, str] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    level: int | None = Field(None, ge=0, le=100, strict=True)
    columns: dict[Literal["question", "answer"], str] = Field(default_factory=dict)
    split: Split = "train"
    test_share: float = Field(0.2, gt=0, lt=1)
    size: int | None = Field(None, ge=1, le=1_000_000, strict=True)
    seed: int = Field(0, ge=0, strict=True)
    template: str | None = None
    curriculum: tuple[Stage, ...] = ()
    stage: int | None = Field(None, ge=0, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _bare_set(cls, data: Any) -> Any:
        return {"set": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_source(self) -> TaskOptions:
        if self.curriculum:
            return self._climbs()
        if self.stage is not None:
            raise ValueError(f"stage {self.stage} is one of a curriculum, and there is none")
        if self.set is not None and self.path is not None:
            raise ValueError(f"name a set or a path, not both, got set {self.set!r} and path {self.path!r}")
        for key in ("options", "level"):
            if self.path is not None and getattr(self, key):
                raise ValueError(f"{key} is for sets by name; the rows of {self.path!r} are what they are")
        if self.path is None and self.columns:
            raise ValueError("columns are for a path; a set by name has its own")
        if isinstance(self.path, dict) and len(self.path) < 2:
            raise ValueError(f"path needs both train and test, got {self.path}; a single file is split by a hash")
        return self

    def _climbs(self) -> TaskOptions:
        """Itself, where its curriculum can be gone through."""
        last = len(self.curriculum) - 1
        if self.stage is not None and self.stage > last:
            raise ValueError(f"stage {self.stage}: the curriculum has stages 0 to {last}")
        for number, stage in enumerate(self.curriculum):
            if (stage.until is None) != (number == last):
                what = (
                    "must say until when, as {updates: 20}" if number < last else "is the last one: take out its until"
                )
                raise ValueError(f"curriculum[{number}] {what}")
        _ = self.stages
        return self

    @property
    def stages(self) -> tuple[TaskOptions, ...]:
        """The tasks of each stage, as they would be written without a curriculum. ValueError where one cannot be."""
        own, found = self.model_dump(exclude={"curriculum", "stage"}), []
        for number, stage in enumerate(self.curriculum):
            changed = stage.model_dump(exclude={"until", "options"}, exclude_none=True)
            try:
                found.append(TaskOptions(**own | changed | {"options": self.options | stage.options}))
            except ValidationError as error:
                (first, *_) = error.errors()
                raise ValueError(f"curriculum[{number}]: {first['msg'].removeprefix('Value error, ')}") from None
        return tuple(found)

    @property
    def rises(self) -> bool:
        """Whether training goes through stages."""
        return bool(self.curriculum) and self.stage is None

    @property
    def asked(self) -> int | None:
        """The number of the stage that is asked; None without a curriculum."""
        return len(self.curriculum) - 1 if self.rises else self.stage

    @property
    def source(self) -> str:
        """The name of the task set, as episodes record it."""
        if self.path is not None:
            return self.path if isinstance(self.path, str) else self.path[self.split]
        return self.set or "arithmetic"
