"""How two sandboxes talk: a line of JSON for plain values, and for nothing else. Standard library only.

Values are taken apart by the methods of the plain types themselves, so an object that passes itself off as one of them
(equal to everything, say) is sent as what it holds, or not at all.
"""

import json

MOST = 2**20
"""Characters of one line."""


def put(value):
    """A value as JSON-able data that `take` turns back into an equal one. Raises TypeError for any other object."""
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        return {"int": int.__repr__(value)}
    if isinstance(value, float):
        return {"float": float.__repr__(value)}
    if isinstance(value, str):
        return str.__str__(value) if type(value) is str else str.__getitem__(value, slice(None))
    if isinstance(value, complex):
        return {"complex": [complex.real.__get__(value), complex.imag.__get__(value)]}
    if isinstance(value, bytes):
        return {"bytes": bytes.hex(value)}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [put(item) for item in kind.__iter__(value)]}
    if isinstance(value, dict):
        return {"dict": [[put(key), put(dict.__getitem__(value, key))] for key in dict.__iter__(value)]}
    raise TypeError(f"a {type(value).__name__} cannot be handed from one sandbox to another")


def take(data):
    if not isinstance(data, dict):
        return data
    ((kind, held),) = data.items()
    if kind in ("int", "float"):
        return {"int": int, "float": float}[kind](held)
    if kind == "complex":
        return complex(*held)
    if kind == "bytes":
        return bytes.fromhex(held)
    if kind == "dict":
        return {take(key): take(value) for key, value in held}
    return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](map(take, held))


def send(file, message):
    file.write(json.dumps(message) + "\n")
    file.flush()


def receive(file):
    """The next message. Raises EOFError where there is none, or one that is too long."""
    line = file.readline(MOST)
    if not line.endswith("\n"):
        raise EOFError("no answer, or one that is too long")
    return json.loads(line)
