"""The subjects of tasks.jsonl, and the drafts that the scripted writers choose from.

    python recipes/magrpo_writing/tasks.py

Drafts are clauses in a row: some name the subject and some do not, some are joined by connectives, and the two writers'
lengths are drawn alike, so that all that the reward asks for is there to be found, and none of it is there already.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

WHO = ("cat", "dog", "horse", "owl", "child", "baker", "sailor", "king", "thief", "nurse")
WHERE = ("park", "barn", "harbour", "tower", "market", "garden", "forest", "kitchen")
ABOUT = ("the {who} sat in the {where}", "a {who} ran to the {where}", "we saw the {who}", "the {where} was dark")
ASIDE = ("rain fell", "it was late", "nobody came", "bells rang all day", "that was long ago")
JOINTS = (" and ", ". but ", ". then ", ", although ", ". also ", ". therefore ", ". in short ", " while ")
CLAUSES = (1, 1, 2, 2, 3, 4)


def draft(who: str, where: str, clauses: int, rng: random.Random) -> str:
    """So many clauses, no two alike, each joined to the last by a full stop or a connective."""
    chosen = rng.sample([*ABOUT, *ASIDE], clauses)
    text = chosen[0]
    for clause in chosen[1:]:
        text += (". " if rng.random() < 0.5 else rng.choice(JOINTS)) + clause
    return text.format(who=who, where=where) + "."


def main() -> None:
    """Write the tasks beside this file."""
    rng = random.Random(0)
    rows = []
    for who in WHO:
        for where in WHERE:
            says = {seat: [draft(who, where, n, rng) for n in CLAUSES] for seat in ("writer1", "writer2")}
            rows.append({"question": f"{who}, {where}", "says": says})
    place = Path(__file__).with_name("tasks.jsonl")
    place.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
