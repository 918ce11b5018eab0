"""The pages of README.md and docs/ as blocks, and their commands as words. Pure, but for reading the files."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
SHELL = ("sh", "bash")
ELSEWHERE = {"a GPU", "the hub", "several nodes", "an hour"}
"""What no test has: such blocks are read and checked, not run."""
NEEDS = {"vllm", "two processes"} | ELSEWHERE
"""What may stand in the comment before a block: <!-- needs: vllm -->."""
NOT_RUN = ("make", "git", "cd", "source", "pip")
"""First words that set a machine up, which continuous integration does by itself."""

_FENCE = re.compile(
    r"(?:^<!-- needs: (?P<need>.*?) -->\n)?^```(?P<language>\w+)(?P<rest>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S
)
_TITLE = re.compile(r'title="([^"]+)"')
_INLINE = re.compile(r"`((?:marft|\.venv/bin/marft) [^`\n]*(?:\n[^`\n]+)?)`")


@dataclass(frozen=True)
class Block:
    """A fenced block. need: what its page says it needs; title: the file that it is."""

    language: str
    text: str
    need: str | None
    title: str | None

    @property
    def is_shell(self) -> bool:
        return self.language in SHELL


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(PAGES[page]):
        title = _TITLE.search(match["rest"])
        found.append(Block(match["language"], match["text"], match["need"], title and title[1]))
    return found


def inline(page: str) -> list[str]:
    """The marft commands that stand in a page's sentences."""
    found = [
        " ".join(text.split()) for text in _INLINE.findall(re.sub(r"^```.*?^```$", "", PAGES[page], flags=re.M | re.S))
    ]
    return [text for text in found if re.match(r"\S+ [a-z]", text)]


def commands(text: str) -> list[list[str]]:
    """Every command of a shell text as words, without comments, variables set before it, and redirections."""
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        reader = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        reader.whitespace_split = True
        words: list[str] = []
        for word in [*reader, ";"]:
            if word and set(word) <= set("|&;"):
                found += [words] if words else []
                words = []
            elif words or not re.match(r"[A-Z_]+=", word):
                words.append(word)
    return [[words[0].removeprefix(".venv/bin/"), *words[1:]] for words in found]


def marft_words(words: list[str]) -> list[str] | None:
    """The arguments of marft, called by itself or under accelerate; None for any other command."""
    if words[0] == "marft":
        return words[1:]
    if words[0] == "accelerate":
        return words[words.index("marft") + 1 :]
    return None


def runnable(text: str) -> str:
    """The text as this environment can run it: commands by name, without the lines that set a machine up."""
    lines = text.replace("\\\n", " ").replace(".venv/bin/", "").splitlines()
    return "\n".join(line for line in lines if line.split(" ")[0] not in NOT_RUN)
