"""`marft new-game`: what it writes works at once, and nothing that is there is touched."""

import subprocess
import sys
from pathlib import Path

import pytest

from marft.errors import RecipeError
from marft.games import make_game
from marft.scaffold import class_name, new_game


def call(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_game_and_its_test_work_at_once_as_the_command_says(tmp_path):
    done = call(tmp_path, "marft", "new-game", "coin_flip")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coin_flip.py", "test_coin_flip.py"]
    commands = [line.split() for line in done.stdout.splitlines() if line.startswith(("pytest", "marft"))]
    assert len(commands) == 3
    tested = call(tmp_path, *commands[0], "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout
    assert "failed" not in tested.stdout
    shown = call(tmp_path, *commands[1])
    assert shown.returncode == 0, shown.stderr
    assert "undercut: Claims one less than the other did last" in shown.stdout
    assert "rounds=3" in shown.stdout
    played = subprocess.run(
        [sys.executable, "-m", *commands[2], "--against", "lowest"],
        input="<answer>100</answer>\n" * 3,
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "return  alice 0, bob 12" in played.stdout  # three rounds of claims 100 and 2: 2 - 2 and 2 + 2


@pytest.mark.parametrize("change", ["min(mine, theirs) + bonus", "claim is None:"])
def test_a_game_that_is_broken_fails_its_test(tmp_path, change):
    game, test, _ = new_game("broken_one", tmp_path)
    text = game.read_text()
    assert text.count(change) == 1
    game.write_text(text.replace(change, {"m": "max(mine, theirs)", "c": "False:"}[change[0]]))
    assert call(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", test.name).returncode == 1


def test_the_test_finds_its_game_beside_a_package_too(tmp_path):
    (tmp_path / "__init__.py").write_text("")
    _, test, _ = new_game("inner_game", tmp_path)
    assert call(tmp_path.parent, "pytest", "-q", "-p", "no:cacheprovider", str(test)).returncode == 0


def test_what_is_written_keeps_the_house_style(tmp_path):
    new_game("a", tmp_path)
    new_game("a_game_of_forty_letters_in_the_whole_nam", tmp_path)
    config = Path(__file__).parents[1] / "pyproject.toml"
    for check in (["format", "--check"], ["check"]):
        done = call(tmp_path, "ruff", *check, "--no-cache", "--config", str(config), ".")
        if "No module named ruff" in done.stderr:
            pytest.skip("ruff is not installed")
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("there", ["coin_flip.py", "test_coin_flip.py"])
def test_nothing_is_overwritten(tmp_path, there):
    (tmp_path / there).write_text("mine")
    with pytest.raises(RecipeError, match=f"{there} is there already"):
        new_game("coin_flip", tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "mine")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("CoinFlip", "lower-case words"),
        ("coin-flip", "lower-case words"),
        ("2coins", "lower-case words"),
        ("_coin", "lower-case words"),
        ("coin__flip", "lower-case words"),
        ("", "lower-case words"),
        ("../coin", "lower-case words"),
        ("münze", "lower-case words"),
        ("c" * 41, "lower-case words"),
        ("class", "word of Python"),
        ("match", "word of Python"),
        ("test_coin", "pytest"),
        ("conftest", "pytest"),
        ("ultimatum", "game of marft"),
        ("random", "hide the module"),
        ("torch", "hide the module"),
        ("marft", "hide the module"),
    ],
)
def test_a_name_that_would_do_harm_is_refused(tmp_path, name, reason):
    with pytest.raises(RecipeError, match=reason):
        new_game(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_made_and_one_that_cannot_be_is_named(tmp_path):
    game, test, cls = new_game("coin_flip", tmp_path / "mine" / "new")
    assert make_game(f"{game}:{cls}", {"rounds": 1}).name == "coin_flip"
    assert test.is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match=r"cannot be written.*choose --out"):
        new_game("coin_flip", tmp_path / "file" / "below")


def test_classes_are_named_after_their_game():
    assert class_name("coin_flip") == "CoinFlip"
    assert class_name("x2_y") == "X2Y"
