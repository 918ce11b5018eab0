"""In the second of two sandboxes: the tests. The names of the code that is judged stand for calls into the first one.

What the code does to its own interpreter (builtins, `==`, the way out) does not reach the tests; it can only answer
their calls. The result of each test is a line of JSON on standard error.
"""

import builtins
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import wire  # noqa: E402


class Gone(Exception):
    """The other sandbox does not answer any more."""


def far(name, asked, answered):
    """A function of the other sandbox. What it does to lists, dicts and sets that it is given is done here too."""

    def call(*arguments, **named):
        wire.send(asked, [name, wire.put(list(arguments)), wire.put(named)])
        try:
            kind, *held = wire.receive(answered)
        except (EOFError, ValueError) as error:
            raise Gone(f"{name}: {error}") from None
        if kind == "raised":
            found = getattr(builtins, str(held[0]), None)
            known = isinstance(found, type) and issubclass(found, Exception)
            raise (found if known else Exception)(str(held[1]))
        value, after = map(wire.take, held)
        for one, changed in zip(arguments, after, strict=True):
            if isinstance(one, list):
                one[:] = changed
            elif isinstance(one, (dict, set)):
                one.clear()
                one.update(changed)
        return value

    return call


def main():
    with open(os.path.join(HERE, "tests.json"), encoding="utf-8") as file:
        tests = json.load(file)
    asked, answered = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(0), "r")
    told = os.fdopen(os.dup(2), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    names = [name for name in wire.receive(answered) if isinstance(name, str) and name.isidentifier()]
    for number, test in enumerate(tests):
        space = {"__name__": "tests"} | {name: far(name, asked, answered) for name in names}
        try:
            exec(compile(test, f"test {number}", "exec"), space)
            why = None
        except Exception as error:
            why = f"{type(error).__name__}: {error}"[:200]
        wire.send(told, [number, why])


if __name__ == "__main__":
    main()
