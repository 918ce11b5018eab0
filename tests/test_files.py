"""Files and folders are written whole or not at all."""

import os

import pytest

from marft.files import replace_file, replace_folder, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_old_ones_place_when_the_block_ends(tmp_path):
    path = tmp_path / "deep" / "down" / "file.txt"
    write_text(path, "old ü")
    with replace_file(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent  # a rename across file systems would not be atomic
        assert path.read_text(encoding="utf-8") == "old ü"
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.txt"]


def break_off(replace, path, name, error):
    """Write half of it, then raise."""
    with replace(path) as temporary:
        (temporary / name if name else temporary).write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(error):
        break_off(replace_file, path, "", error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_a_folder_takes_the_old_ones_place_with_all_it_holds(tmp_path):
    path = tmp_path / "deep" / "folder"
    for content in ("old", "new"):
        with replace_folder(path) as temporary:
            (temporary / "sub").mkdir()
            (temporary / "sub" / content).write_text(content)
            assert not (path / "sub" / content).exists()
        assert names(path / "sub") == [content]
        assert names(path.parent) == ["folder"]


def test_an_exception_leaves_the_old_folder(tmp_path):
    path = tmp_path / "folder"
    with replace_folder(path) as temporary:
        (temporary / "old").touch()
    with pytest.raises(ValueError, match="stop"):
        break_off(replace_folder, path, "new", ValueError("stop"))
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    path, move = tmp_path / "folder", os.replace
    with replace_folder(path) as temporary:
        (temporary / "old").touch()

    def refuse(source, target):
        if ".tmp-" in str(source):
            raise OSError("no")
        move(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"), replace_folder(path) as temporary:
        (temporary / "new").touch()
    assert names(path) == ["old"]
    assert names(tmp_path) == ["folder"]


def test_what_a_killed_write_left_behind_is_no_hindrance(tmp_path):
    path = tmp_path / "folder"
    left = tmp_path / f".folder.tmp-{os.getpid()}"
    left.mkdir()
    (left / "half").touch()
    with replace_folder(path) as temporary:
        (temporary / "whole").touch()
    assert names(path) == ["whole"]
    assert names(tmp_path) == ["folder"]
