"""Numbered files: added whole or not at all, never one in the place of another."""

import errno
import os
from pathlib import Path

import pytest

from failing import fail_fsync
from modelwarden.archive.numbered import add_numbered, file_name, number_of
from modelwarden.archive.tree import Tree
from modelwarden.errors import RetryLater, StorageSuspect

WHERE = "shelf/one"


def files(tree: Tree) -> dict[str, bytes]:
    """What is in the folder of the files."""
    return {path.name: path.read_bytes() for path in Path(tree.root, WHERE).iterdir()}


def test_added_file_is_there_under_its_number(tree: Tree) -> None:
    """Folders that are missing are made, and no draft is left."""
    add_numbered(tree, tree.root, WHERE, 1, b"first")
    add_numbered(tree, tree.root, WHERE, 2, b"second")
    assert files(tree) == {"000001.json": b"first", "000002.json": b"second"}
    assert os.listdir(tree.staging) == ["lock"]


def test_number_that_is_taken_stays_what_it_was(tree: Tree) -> None:
    """None takes the place of another, and the next one is not in its way."""
    add_numbered(tree, tree.root, WHERE, 1, b"first")
    with pytest.raises(FileExistsError):
        add_numbered(tree, tree.root, WHERE, 1, b"other")
    add_numbered(tree, tree.root, WHERE, 2, b"second")
    assert files(tree) == {"000001.json": b"first", "000002.json": b"second"}


@pytest.mark.parametrize("folder", ["shelf/one", "shelf", ""])
def test_file_whose_folders_can_not_be_synced_is_taken_back(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """Up to the archive's own: whoever made one may have died before it was on disk. The number is free again."""
    add_numbered(tree, tree.root, WHERE, 1, b"first")
    failing = os.path.normpath(os.path.join(tree.root, folder))
    with monkeypatch.context() as context:
        fail_fsync(context, lambda path: path == failing, errno.EIO)
        with pytest.raises(StorageSuspect):
            add_numbered(tree, tree.root, WHERE, 2, b"lost")
    assert files(tree) == {"000001.json": b"first"}
    add_numbered(tree, tree.root, WHERE, 2, b"second")
    assert files(tree) == {"000001.json": b"first", "000002.json": b"second"}


def test_file_that_can_not_be_written_is_none(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full: nothing has its name, and what was begun is in nobody's way."""
    with monkeypatch.context() as context:
        fail_fsync(context, lambda path: path.startswith(f"{tree.staging}/"), errno.ENOSPC)
        with pytest.raises(RetryLater):
            add_numbered(tree, tree.root, WHERE, 1, b"lost")
    assert files(tree) == {}
    add_numbered(tree, tree.root, WHERE, 1, b"first")
    assert files(tree) == {"000001.json": b"first"}


def test_name_has_the_number_and_the_number_has_the_name() -> None:
    """Six digits at least; what is called otherwise is no such file."""
    assert [number_of(file_name(number)) for number in (1, 999_999, 1_000_000)] == [1, 999_999, 1_000_000]
    assert [number_of(name) for name in ("1.json", "000001.json.bak", "000001", "README", "head.json")] == [None] * 5
