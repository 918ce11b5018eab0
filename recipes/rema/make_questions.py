"""Write questions.jsonl: each asks for the most, the least or the earliest of three different digits.

python recipes/rema/make_questions.py
"""

from __future__ import annotations

import json
import random
from itertools import permutations
from pathlib import Path

from players import PLANS, WORDS

COUNT = 900


def main() -> None:
    every = [(word, numbers) for word in WORDS for numbers in permutations(range(10), 3)]
    drawn = random.Random(0).sample(every, COUNT)
    rows = [
        {"question": f"{word} of {', '.join(map(str, numbers))}", "answer": str(PLANS[WORDS[word]](numbers))}
        for word, numbers in drawn
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    Path(__file__).with_name("questions.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
