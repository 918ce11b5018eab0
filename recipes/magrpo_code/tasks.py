"""The functions of tasks.jsonl with their tests, and the lines that the scripted programmers choose from.

    python recipes/magrpo_code/tasks.py

What they write fits together by chance only, and what goes wrong most depends on the function: with small factors they
write Python, with small shifts the main function often calls the helper. Choices that depended on nothing would leave a
model in which no adapter can move them.
"""

from __future__ import annotations

import json
from pathlib import Path

TRIED = (0, 1, 5)
"""Arguments of the tests."""
SMALL = 3
"""The largest small number."""


def row(factor: int, sign: str, shift: int) -> dict[str, object]:
    """One function of x, and six lines that each may write for it, some of them the same."""
    product, added = f"x*{factor}", f"{sign}{shift}"
    values = {x: factor * x + (shift if sign == "+" else -shift) for x in TRIED}
    right, shifted, bare = (f"def aux(x): return {code}" for code in (product, f"x{added}", "x"))
    no_colon, no_function = f"def aux(x) return {product}", f"aux = {product}"
    aux = {
        ("+", True): [right] * 4 + [bare, no_colon],
        ("-", True): [right] * 2 + [shifted] * 4,
        ("+", False): [right] * 2 + [no_colon] * 3 + [shifted],
        ("-", False): [right] * 2 + [no_function] * 3 + [bare],
    }[sign, factor <= SMALL]
    fits, alone, hands_on, twice = (
        f"def main(x): return {code}" for code in (f"aux(x){added}", f"{product}{added}", "aux(x)", f"aux(x)*{factor}")
    )
    no_colon, no_function = f"def main(x) return {product}{added}", f"{product}{added}"
    main = {
        ("+", True): [fits] * 3 + [alone] * 2 + [hands_on],
        ("-", True): [fits] * 2 + [alone] + [hands_on] * 3,
        ("+", False): [fits] + [alone] * 3 + [no_colon] * 2,
        ("-", False): [fits] + [alone, twice, twice] + [no_function] * 2,
    }[sign, shift <= SMALL]
    tests = [f"assert main({x}) == {value}" for x, value in values.items()]
    return {"question": f"{product}{added}", "tests": tests, "says": {"aux": aux, "main": main}}


def main() -> None:
    """Write the tasks beside this file."""
    rows = [row(factor, sign, shift) for factor in range(2, 6) for sign in "+-" for shift in range(1, 6)]
    place = Path(__file__).with_name("tasks.jsonl")
    place.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
