"""The questions of tasks.jsonl, and the arguments that the scripted sides choose from.

    python recipes/debate_judged/tasks.py

A question is a line of three entries and asks for x. A side may say its answer, quote an entry that is there (its own
answer's, or another) or one that is not. Of the six arguments for a true answer three prove it where it is below 5, and
else one; none for a false one does. A choice that depended on nothing would leave a model in which no adapter can move
it.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

QUESTIONS = 320


def row(rng: random.Random) -> dict[str, object]:
    """A question with its answer, the false ones, and six arguments for each."""
    names = [*rng.sample("abcdefgh", 2), "x"]
    values = dict(zip(names, rng.sample("0123456789", 3), strict=True))
    order = rng.sample(names, 3)
    says = {}
    for name, value in values.items():
        other, third = rng.sample([one for one in names if one != name], 2)
        claim, proof, aside, lie = (
            f"It is {value}.",
            *(f"<quote>{quote}</quote>" for quote in (f"{name}{value}", f"{third}{values[third]}", f"{other}{value}")),
        )
        says[value] = (
            [claim, proof, proof, proof, aside, lie] if value < "5" else [claim, claim, claim, proof, aside, lie]
        )
    question = " ".join(f"{name}{values[name]}" for name in order) + ", x?"
    return {"question": question, "answer": values["x"], "wrong": [values[one] for one in names[:2]], "says": says}


def main() -> None:
    """Write the tasks beside this file."""
    rng = random.Random(0)
    rows = {one["question"]: one for one in (row(rng) for _ in range(QUESTIONS))}
    place = Path(__file__).with_name("tasks.jsonl")
    place.write_text("".join(json.dumps(one) + "\n" for one in rows.values()), encoding="utf-8")


if __name__ == "__main__":
    main()
