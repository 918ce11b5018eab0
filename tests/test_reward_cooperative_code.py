"""MAGRPO's rewards for a helper and a main function: each level by hand, from the rules of the authors' code."""

import pytest
from dialogues import dialogue, paid

from marft.rewards import load_reward, sandbox
from marft.rewards.cooperative_code import function_in
from marft.rewards.grading import Paid
from marft.rewards.sandbox import SandboxError

TESTS = ["assert main(0) == 3", "assert main(1) == 5", "assert main(2) == 7", "assert main(3) == 9"]
AUX = "def aux(x): return x*2"
ADDS = "def main(x): return aux(x)+3"


def program(aux, main, tests=TESTS, **columns):
    return dialogue(("aux", aux), ("main", main), columns={"tests": tests, **columns})


def worth(aux, main, tests=TESTS):
    """Level by level."""
    levels = ("format", "syntax", "tests", "cooperation")
    return [paid(load_reward("cooperative_code", {"level": one}), program(aux, main, tests))["aux"] for one in levels]


@pytest.mark.parametrize(
    ("aux", "main", "levels"),
    [
        (AUX, ADDS, [1.0, 0.5, 1.0, 1.5]),
        (AUX, "def main(x): return x*2+3", [1.0, 0.5, 1.0, 0]),
        (AUX, "def main(x):\n    aux(x)\n    return x*2+3", [1.0, 0.5, 1.0, 1.0]),
        ("def aux(x): return x*2+3", "def main(x): return aux(x)", [1.0, 0.5, 1.0, 0.5]),
        ("def aux(x): return x*2+3", "def main(x):\n    y = aux(x)\n    return y", [1.0, 0.5, 1.0, 0.5]),
        ("def aux(x): return x*2+3", 'def main(x):\n    "It."\n    return aux(x)', [1.0, 0.5, 1.0, 0.5]),
        ("def aux(x): return 5", "def main(x): return aux(x)+0", [1.0, 0.5, 0.25, 1.5]),
        ("def aux(x): return 4", "def main(x): return aux(x)+0", [1.0, 0.5, 0, 0]),
        ("nothing", ADDS, [0.6, 0.5, 0, 0]),
        ("nothing", "def main(x): return x*2+3", [0.6, 0.5, 1.0, 0]),
        (AUX, "nothing", [0.4, 0, 0, 0]),
        (AUX, "def main(x): x*2+3", [0.4, 0, 0, 0]),
        ("def aux(x) return x*2", ADDS, [1.0, 0, 0, 0]),
        (AUX, "def main(x): return aux(x", [1.0, 0, 0, 0]),
        (f"Sure!\n```python\n{AUX}\n```", f"Here it is:\n{ADDS}\nIt adds three.", [1.0, 0.5, 1.0, 1.5]),
        (f"import math\n{AUX}", "def main(x): return math.floor(aux(x))+3", [1.0, 0.5, 1.0, 1.5]),
    ],
)
def test_each_level_counts_where_the_one_before_it_is_reached(aux, main, levels):
    assert worth(aux, main) == pytest.approx(levels)


def test_both_seats_are_paid_the_sum():
    assert paid(load_reward("cooperative_code"), program(AUX, ADDS)) == {"aux": 4.0, "main": 4.0}


def test_the_main_function_may_have_the_name_that_a_column_holds():
    episode = program(
        AUX, "def double_and_add(x): return aux(x)+3", ["assert double_and_add(1) == 5"], point="double_and_add"
    )
    assert paid(load_reward("cooperative_code", {"entry": "point"}), episode)["main"] == 4.0


def test_a_program_that_hangs_fails_its_tests_and_is_counted():
    episode = program(AUX, "def main(x):\n    while True: aux(x)\n    return x")
    found = paid(load_reward("cooperative_code", {"deadline": 1.0}), episode)
    assert found == {"aux": 1.5, "main": 1.5}
    assert isinstance(found, Paid)
    assert found.failures == ("timeout",)


def test_a_program_is_run_once_however_often_it_is_written(monkeypatch):
    ran = []

    def count(code, tests, limits, *, how):
        ran.append(code)
        return sandbox_judge(code, tests, limits, how=how)

    sandbox_judge = load_reward("cooperative_code").__globals__["by_tests"]
    monkeypatch.setitem(load_reward("cooperative_code").__globals__, "by_tests", count)
    episodes = [program(AUX, f"def main(x): return {n}+aux(x)", group) for n in (3, 4) for group in (TESTS, TESTS)]
    first = paid(load_reward("cooperative_code"), *episodes)
    assert paid(load_reward("cooperative_code"), *episodes) == first
    assert len(ran) == 2


def test_without_a_sandbox_it_refuses_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(sandbox, "_best", lambda: (None, "bwrap: not installed"))
    with pytest.raises(SandboxError, match=r"in a sandbox only.*unsandboxed: true.*bwrap: not installed"):
        paid(load_reward("cooperative_code"), program(AUX, ADDS))


@pytest.mark.parametrize(
    ("columns", "options", "complaint"),
    [
        ({"tests": []}, {}, r"the column tests must hold a program or a list of them, not \[\]"),
        ({}, {}, "neither the episode's facts nor its task's columns hold 'tests'"),
        (
            {"tests": TESTS},
            {"seats": ["aux", "boss"]},
            r"options\.seats must be two of aux, main, got \['aux', 'boss'\]",
        ),
    ],
)
def test_what_it_cannot_work_with_is_an_error(columns, options, complaint):
    episode = dialogue(("aux", AUX), ("main", ADDS), columns=columns)
    with pytest.raises(ValueError, match=complaint):
        paid(load_reward("cooperative_code", options), episode)


def test_the_last_function_of_a_name_counts_with_all_its_lines():
    text = "def main(x): return 1\n\ndef main(x):\n\n    if x:\n        return 2\n    return 3\nprint(main(1))"
    assert function_in(text, "main") == "def main(x):\n\n    if x:\n        return 2\n    return 3"
    assert function_in("x = 1", "main") is None
