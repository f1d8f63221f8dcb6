"""Numbered files: `{number}.json` in a folder of the archive, each added once, whole, and never changed.

The rule: a file counts from the moment it has its name and its folder is synced; it was whole before. None takes the
place of another, and one that could not be synced is taken back.
"""

import os
import re
from typing import TYPE_CHECKING, Final

from modelwarden import durable

if TYPE_CHECKING:
    from modelwarden.archive.tree import Tree

_FILE: Final = re.compile(r"([0-9]{6,12})\.json")


def file_name(number: int) -> str:
    """What the file of that number is called."""
    return f"{number:06d}.json"


def number_of(name: str) -> int | None:
    """The number of the file that is called so; None if it is no numbered file."""
    match = _FILE.fullmatch(name)
    return None if match is None else int(match[1])


def add_numbered(tree: "Tree", root: str, where: str, number: int, data: bytes) -> None:
    """Add a file, on disk before this returns; under the archive's lock.

    Args:
        tree: with a staging folder that was entered.
        root: the archive's folder, as a path that stays it.
        where: the files' folder, below the root; made if it is missing.
        number: the file's.
        data: its bytes.

    Raises:
        FileExistsError: there is a file of that number; nothing was added.
        RetryLater: the disk refused; nothing was added.
    """
    parts = where.split("/")
    folders = [os.path.join(root, *parts[:depth]) for depth in range(len(parts), -1, -1)]  # the files' own first
    durable.make_folder(folders[0])
    draft, target = tree.private("numbered.json"), os.path.join(folders[0], file_name(number))
    durable.remove_if_there(draft)
    durable.write_new_file(draft, data)
    durable.rename_new(draft, target)
    try:
        for each in folders:  # whoever made a folder may have died before its own
            durable.sync_folder(each)
    except BaseException:  # what could not be synced is not believed
        durable.remove_if_there(target)
        raise
