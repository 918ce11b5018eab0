"""Quotes of a text that not everybody sees: those that stand in it are told from those that do not."""

from __future__ import annotations

from marft.games.text import quotable

QUOTE = ("<quote>", "</quote>")
VERIFIED = ("<verified>", "</verified>")
UNVERIFIED = ("<unverified>", "</unverified>")


def checked(text: str, source: str) -> tuple[str, tuple[str, ...]]:
    """The text with its quotes marked by whether they stand in the source, and those that do.

    Case and line breaks count as they are shown to others (`quotable`), runs of spaces as one. A mark of verification
    that the text brought along is taken for a quote like any other, and checked.
    """
    for own in (VERIFIED, UNVERIFIED):
        for mark, quote in zip(own, QUOTE, strict=True):
            text = text.replace(mark, quote)
    known, found, pieces, at = _plain(source), [], [], 0
    while (stop := text.find(QUOTE[1], at)) >= 0:
        begin = text.rfind(QUOTE[0], at, stop)
        if begin < 0:
            pieces.append(text[at : stop + len(QUOTE[1])])
        else:
            inner = text[begin + len(QUOTE[0]) : stop]
            words = _plain(inner)
            true = bool(words) and words in known
            found += [words] if true else []
            mark = VERIFIED if true else UNVERIFIED
            pieces.append(f"{text[at:begin]}{mark[0]}{inner}{mark[1]}")
        at = stop + len(QUOTE[1])
    return "".join([*pieces, text[at:]]), tuple(found)


def _plain(text: str) -> str:
    return " ".join(quotable(text, len(text)).split())
