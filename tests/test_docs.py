"""Every command of README.md and docs/ is a command that works.

All of them are read: the command, its flags and its recipe exist. Then each page's shell blocks run in order in a
folder of their own, with trainings and evaluations made small (`doc_shim.py`); blocks with a title are the files they
name. A block that needs what not every machine has says so in a comment before it: <!-- needs: vllm -->.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import doc_shim
import pytest
import typer
from doc_pages import NEEDS, NOT_RUN, PAGES, ROOT, blocks, commands, inline, marft_words, runnable

from marft.cli import app
from marft.config import Launch
from marft.errors import MarftError
from marft.recipe import load_recipe
from marft.scaffold import new_game
from marft.serve.command import find_python

HEAVY = {"train", "sft", "dpo", "data", "eval", "compare", "publish", "load", "report", "watch", "exploit", "show"}
RUN = {"marft", "accelerate", "python", "printf", "export", "true"}
"""First words of commands that the tests run."""
READ = {"vllm", *RUN, *NOT_RUN}
COMMANDS = typer.main.get_command(app).commands
MAKEFILE = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def test_the_pages_are_found_and_so_are_their_commands():
    assert {"README.md", "docs/index.md", "docs/tutorial.md", "docs/faq.md"} <= PAGES.keys()
    assert commands("A=1 x/y b && c \\\n  'd e' # f\n# g\nh | i || j") == [
        ["x/y", "b"], ["c", "d e"], ["h"], ["i"], ["j"]
    ]  # fmt: skip
    assert [block.need for block in blocks("docs/howto/machines.md") if block.is_shell] == [
        None, "two processes", "a GPU"
    ]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_needs_in_known_words_and_has_known_commands(page):
    for block in blocks(page):
        assert block.need is None or block.need in NEEDS, f"{page}: needs {block.need}"
        assert block.language != "console", f"{page}: write sh"
        if block.is_shell:
            assert {words[0] for words in commands(block.text)} <= READ, f"{page}: {block.text}"
            left = runnable(block.text)
            assert all(words[0] in NOT_RUN for words in commands(block.text) if words not in commands(left)), page
    assert len(re.findall("<!-- *needs", PAGES[page])) == sum(block.need is not None for block in blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_set_a_machine_up_name_targets_and_extras_that_exist(page):
    for words in [words for block in blocks(page) if block.is_shell for words in commands(block.text)]:
        if words[0] == "make":
            assert set(words[1:]) <= MAKEFILE
        if words[0] == "pip":
            assert set(re.findall(r"marft\[(.*?)\]", " ".join(words))) <= EXTRAS.keys()


@pytest.mark.parametrize("page", PAGES)
def test_every_marft_command_parses(page):
    for words in [words for block in blocks(page) if block.is_shell for words in commands(block.text)]:
        arguments = marft_words(words)
        if arguments is not None:
            parsed(arguments)


@pytest.mark.parametrize("page", PAGES)
def test_every_marft_command_in_a_sentence_exists_and_has_its_flags(page):
    for text in inline(page):
        name, *rest = text.split()[1:]
        flags = {flag for option in COMMANDS[name].params for flag in option.opts}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= flags | {"--help"}, text


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The command's parameters as the command line reads its arguments; nothing is called."""
    return COMMANDS[arguments[0]].make_context(arguments[0], list(arguments[1:])).params


def test_a_flag_that_does_not_exist_does_not_parse():
    with pytest.raises(Exception, match="No such option: --agains"):
        parsed(["eval", "own", "--agains", "TFT"])


@pytest.mark.parametrize("page", PAGES)
def test_every_recipe_of_a_command_reads_with_its_overrides(page, tmp_path, monkeypatch):
    workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        write(block)
        for words in commands(block.text) if block.is_shell else ():
            given = marft_words(words) or [""]
            if words[0] == "accelerate" and "--config_file" in words:
                assert Path(words[words.index("--config_file") + 1]).is_file(), words
            for path in [word for word in words if word.startswith("recipes/") and "=" not in word]:
                assert Path(path).exists(), words
            if given[0] == "new-game":
                new_game(given[1], Path())
            if given[0] in ("train", "sft", "dpo", "serve"):
                params = parsed(given)
                load_recipe(params["recipe"], params["overrides"] or ())


def workspace(folder: Path) -> None:
    """A working directory that sees the repository as a reader of the pages does."""
    for name in ("recipes", "tests", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)


def write(block) -> None:
    if block.title is not None:
        Path(block.title).write_text(block.text, encoding="utf-8")


def is_heavy(page: str) -> bool:
    """Whether a page trains, or does what needs a trained run."""
    called = [
        marft_words(words) for block in blocks(page) if block.is_shell for words in commands(runnable(block.text))
    ]
    return any(words and words[0] in HEAVY and not doc_shim.ALONE & set(words) for words in called)


def with_commands(*needs: str | None) -> list:
    """(page, need) of every page that has blocks with such a need, each under the marker it asks for."""
    marks = {"vllm": [pytest.mark.server], "two processes": [pytest.mark.distributed], None: []}
    return [
        pytest.param(page, need, marks=marks[need] or [pytest.mark.learning] * is_heavy(page), id=f"{page}-{need}")
        for need in needs
        for page in PAGES
        if any(block.is_shell and block.need == need and runnable(block.text).strip() for block in blocks(page))
    ]


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("docs_cache")


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """A folder for PATH in which marft and accelerate are small, and python is this one."""
    folder = tmp_path_factory.mktemp("bin")
    shim = f"{sys.executable} {Path(doc_shim.__file__)}"
    for name, call in {"marft": f"{shim} marft", "accelerate": f"{shim} accelerate", "python": sys.executable}.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def shell(programs, cache):
    """shell(text, folder): run it there; AssertionError with what was said where a command of it fails."""
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "MARFT_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    env |= {"PYTHONPATH": ".", "COLUMNS": "120"}

    def run(text: str, folder: Path) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=env, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\nended with {done.returncode}:\n{done.stdout[-4000:]}"
        return done.stdout

    return run


MADE = """
marft train recipes/prisoners_dilemma/naive.yaml --out runs/naive
marft train recipes/prisoners_dilemma/ad_align.yaml --out runs/ad_align
marft eval own --team runs/ad_align --against TFT,AllD --out runs/eval
marft eval own --team runs/naive --team runs/ad_align --against TFT --out runs/both
"""
COPIES = {
    **{f"runs/{name}": "naive" for name in ("naive", "a0", "a1", "a2")},
    **{f"runs/{name}": "ad_align" for name in ("ad_align", "mine", "b0", "b1", "b2", "demo/ad_align")},
    **{f"runs/eval{end}": "eval" for end in ("", "_a", "_b", "_a0", "_a1", "_a2", "_b0", "_b1", "_b2")},
    "runs/both": "both",
}
"""What a page may take as given, and which run it is a copy of: pages do not all repeat how to train one."""


@pytest.fixture(scope="session")
def given(shell, tmp_path_factory):
    """The runs that pages take as given, made once."""
    folder = tmp_path_factory.mktemp("given")
    workspace(folder)
    shell(MADE, folder)
    return folder / "runs"


@pytest.mark.parametrize(("page", "need"), with_commands(None, "two processes", "vllm"))
def test_every_command_of_the_page_runs(page, need, request, shell, tmp_path, monkeypatch):
    if need == "vllm":
        try:
            find_python(Launch())
        except MarftError as error:
            pytest.skip(str(error))
    workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    mine = [block for block in blocks(page) if block.title or (block.is_shell and block.need == need)]
    for name in taken("\n".join(runnable(block.text) for block in mine)):
        shutil.copytree(request.getfixturevalue("given") / COPIES[name], tmp_path / name, dirs_exist_ok=True)
    try:
        for block in blocks(page):
            write(block)
            if block.is_shell and block.need == need and runnable(block.text).strip():
                shell(runnable(block.text), tmp_path)
    finally:
        if Path("servers.pid").is_file():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(Path("servers.pid").read_text()), signal.SIGINT)


def taken(text: str) -> list[str]:
    """The runs that a text names and does not make itself."""
    made = set(re.findall(r"--out (\S+)", text))
    names = set(re.findall(r"\bruns/[a-z0-9_]+(?:/ad_align)?", text))
    return sorted(name for name in names & COPIES.keys() if name not in made)
