"""In the first of two sandboxes: the code that is judged. It defines functions, and answers calls of them.

It is told names and arguments, never what should come out.
"""

import contextlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import wire  # noqa: E402


def main():
    asked, answered = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    space = {"__name__": "solution"}
    with open(os.path.join(HERE, "code.py"), encoding="utf-8") as file:
        exec(compile(file.read(), "code.py", "exec"), space)
    wire.send(answered, [name for name, value in space.items() if callable(value) and not name.startswith("__")])
    while True:
        name, arguments, named = wire.receive(asked)
        arguments, named = wire.take(arguments), wire.take(named)
        try:
            wire.send(answered, ["value", wire.put(space[name](*arguments, **named)), wire.put(arguments)])
        except Exception as error:
            wire.send(answered, ["raised", type(error).__name__, f"{error}"[:200]])


if __name__ == "__main__":
    with contextlib.suppress(EOFError):
        main()
