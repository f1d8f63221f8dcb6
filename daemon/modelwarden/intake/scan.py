"""What is in the watched folders: our own walk, the truth that the kernel only hints at.

The rule: a walk that could not see everything says so, and nothing may be concluded from what it did not find. Links
are never followed, names are never decoded.
"""

import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from modelwarden.fingerprint import Fingerprint

TEMPORARY_ENDINGS: Final = (".tmp", ".part", "~")
"""Names that a writer uses before the final one; names that begin with a dot likewise."""

_ASIDE: Final = re.compile(r"\..*\.[0-9a-f]{8}\.taken", re.DOTALL)
"""The name that a removal gives a file while it looks at it (see removal)."""


@dataclass(frozen=True)
class Root:
    """One watched folder.

    Attributes:
        path: as configured; resolved at each look, since a link may come to point elsewhere.
        patterns: shell patterns of the file names that are summaries.
        recursive: whether the folders below count too.
    """

    path: str
    patterns: tuple[str, ...] = ("*.json",)
    recursive: bool = True

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        """The patterns and what makes a name temporary in one, since every name of a scan is asked."""
        wanted = "|".join(f"(?:{fnmatch.translate(pattern)})" for pattern in self.patterns)
        return re.compile(rf"(?s:(?!\.)(?!.*(?:{'|'.join(map(re.escape, TEMPORARY_ENDINGS))})\Z))(?:{wanted})")

    def holds(self, path: str, top: str, excluded: Sequence[str]) -> bool:
        """Whether a walk over this root would come by the path: below it, not hidden, not in an excluded folder.

        Args:
            path: a real path.
            top: the root's own real path.
            excluded: real paths that a walk never enters, unless the root itself lies there.
        """
        if not path.startswith(top.rstrip("/") + "/"):
            return False
        between = os.path.relpath(os.path.dirname(path), top).split("/")
        if between != ["."] and (not self.recursive or any(map(is_temporary, between))):
            return False
        return not any(is_inside(path, folder) and not is_inside(top, folder) for folder in excluded)

    def takes(self, name: str) -> bool:
        """Whether a file of this name may be a summary."""
        return self._expression.match(name) is not None


def is_temporary(name: str) -> bool:
    """Whether the name is hidden or one that a writer will change."""
    return name.startswith(".") or name.endswith(TEMPORARY_ENDINGS)


def is_aside(name: str) -> bool:
    """Whether a file of this name was being removed when the process that did so died."""
    return _ASIDE.fullmatch(name) is not None


def is_inside(path: str, folder: str) -> bool:
    """Whether the path is the folder or below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def may_be_missed(name: str, root: Root) -> bool:
    """Whether somebody may take a link of this name for a summary, or for a folder of summaries."""
    return root.takes(name) or (root.recursive and not is_temporary(name))


@dataclass
class Scan:
    """One walk over a root, or over a folder below it.

    Args:
        root: whose patterns count.
        excluded: folders (real paths) that are never entered: the archive and the state.
        folder: where to start; the root itself if None.

    Attributes:
        problems: what could not be seen, path and reason. Empty: the walk was complete.
        links: the symbolic links that were passed by: under a name that the root takes, or maybe to a folder.
    """

    root: Root
    excluded: Sequence[str] = ()
    folder: str | None = None
    problems: list[tuple[str, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, Fingerprint]]:
        """Every regular file that the root takes, or that a removal left aside, with its fingerprint, in no order."""
        start = os.path.realpath(self.root.path) if self.folder is None else self.folder
        folders = [start]
        takes = self.root.takes
        while folders:
            folder = folders.pop()
            if folder in self.excluded:
                continue
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        # Written out here: a call a file would cost as much as the system's answer.
                        try:
                            if takes(entry.name) or is_aside(entry.name):
                                status = entry.stat(follow_symlinks=False)
                                if stat.S_ISREG(status.st_mode):
                                    yield entry.path, Fingerprint.of(status)
                                    continue
                            if self._enters(entry):
                                folders.append(entry.path)
                            elif entry.is_symlink() and may_be_missed(entry.name, self.root):
                                self.links.append(entry.path)
                        except OSError as error:
                            self._note(entry.path, error, gone_is_fine=True)
            except OSError as error:
                self._note(folder, error, gone_is_fine=folder != start)

    def _enters(self, entry: os.DirEntry[str]) -> bool:
        return self.root.recursive and not is_temporary(entry.name) and entry.is_dir(follow_symlinks=False)

    def _note(self, path: str, error: OSError, *, gone_is_fine: bool) -> None:
        if not (gone_is_fine and isinstance(error, FileNotFoundError)):
            self.problems.append((path, error.strerror or str(error)))
