"""Built-in questions about small numbers, so short that a tiny model reads them, with nothing to install."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import prod
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from marft.tasks.taskset import Task

NAME = "arithmetic"


class ArithmeticOptions(BaseModel):
    """kind: what is asked. terms: how many numbers. digits: the most a number has. A level adds one term each."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    kind: Literal["sum", "sum_mod10", "product", "largest", "digit_sum"] = "sum_mod10"
    terms: int = Field(2, ge=1, le=100, strict=True)
    digits: int = Field(1, ge=1, le=12, strict=True)


def questions(options: ArithmeticOptions, level: int, seed: int) -> Iterator[Task]:
    """Questions without end, drawn from the seed."""
    rng = random.Random(seed)
    count = options.terms + level
    while True:
        numbers = [rng.randrange(10 ** rng.randint(1, options.digits)) for _ in range(count)]
        yield Task(*ask(options.kind, numbers), NAME, {"kind": options.kind, "numbers": numbers})


def ask(kind: str, numbers: list[int]) -> tuple[str, str]:
    """(question, answer)"""
    if kind == "largest":
        return f"largest of {', '.join(map(str, numbers))}", str(max(numbers))
    if kind == "digit_sum":
        text = "".join(map(str, numbers))
        return f"sum of the digits of {text}", str(sum(map(int, text)))
    if kind == "product":
        return " * ".join(map(str, numbers)), str(prod(numbers))
    total = sum(numbers)
    text = " + ".join(map(str, numbers))
    return (f"({text}) mod 10", str(total % 10)) if kind == "sum_mod10" else (text, str(total))
