"""The `task:` option of a game: where its questions come from, and which of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Split = Literal["train", "test"]


class TaskOptions(BaseModel):
    """set: a set by name, `arithmetic` or `reasoning_gym:NAME`. path: or a file of one's own, .jsonl or .parquet, or
    a folder that `datasets` saved; {train: file, test: file} where the two lie apart.

    options: of the set. level: how hard, from 0, by the set's own curriculum. columns: which of a file's columns hold
    `question` and `answer`, where they are not called so. split: train or test, which share no question. test_share: of
    the questions, chosen by a hash of each, where there are no files for both. size: how many different questions;
    default all of a file's, and of a set what some hundred draws bring. seed: of the draws. template: a prompt (jinja2)
    over `question` and the row's further columns, which becomes the question.
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

    @model_validator(mode="before")
    @classmethod
    def _bare_set(cls, data: Any) -> Any:
        return {"set": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one_source(self) -> TaskOptions:
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

    @property
    def source(self) -> str:
        """The name of the task set, as episodes record it."""
        if self.path is not None:
            return self.path if isinstance(self.path, str) else self.path[self.split]
        return self.set or "arithmetic"
