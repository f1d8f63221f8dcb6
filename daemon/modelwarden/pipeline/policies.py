"""What a watched folder does with what comes from it: which format reads it, and which policy judges it.

The rule: a summary never chooses what judges it. It is data from a stranger: the settings say so by the folder.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import NamedTuple

from modelwarden.formats.description import Format
from modelwarden.formats.finality import Condition
from modelwarden.formats.fitting import fitted
from modelwarden.gate.policy import Policy
from modelwarden.intake.scan import is_inside


class JudgedFolder(NamedTuple):
    """A watched folder and what judges what comes from it.

    Attributes:
        path: of the folder.
        patterns: shell patterns of the files.
        policy: the policy's name.
        format: how its files are read; None: they are summaries.
        final: when one of them is final; any of these.
        only_best: whether of several models in a file the best alone is judged.
        group: how far above a file the folder is whose files are one run: `.`, `..` and so on; "": each is its own.
        excluded: real paths of folders that no group has files of.
        recursive: whether the files of the folders below are taken too.
    """

    path: str
    patterns: Sequence[str]
    policy: str
    format: Format | None = None
    final: Sequence[Condition] = ()
    only_best: bool = False
    group: str = ""
    excluded: Sequence[str] = ()
    recursive: bool = True

    def takes(self, path: str) -> bool:
        """Whether it takes a file of this path."""
        is_there = is_inside(path, self.path) if self.recursive else os.path.dirname(path) == self.path
        name = os.path.basename(path)
        is_taken = is_there and any(fnmatchcase(name, pattern) for pattern in self.patterns)
        return is_taken and (self.format is None or self.format.takes(path))

    @property
    def key(self) -> str:
        """What its policy, fitted to its format, is called among all: no name has a line break."""
        return self.policy if self.format is None else f"{self.policy}\n{self.format.name}"


@dataclass(frozen=True)
class Policies:
    """All policies of a daemon.

    Attributes:
        default: judges what no folder has a policy for, and summaries in memory.
        others: the rest.
        folders: which of them judges where.
    """

    default: Policy
    others: Sequence[Policy] = ()
    folders: Sequence[JudgedFolder] = field(default=())

    @cached_property
    def by_name(self) -> Mapping[str, Policy]:
        """Every policy under its name."""
        return {policy.name: policy for policy in (self.default, *self.others)}

    @cached_property
    def by_key(self) -> Mapping[str, Policy]:
        """Every policy under its name, and each that is fitted to a format under its folder's key."""
        return {**self.by_name, **dict(self._fitted())}

    def _fitted(self) -> Iterator[tuple[str, Policy]]:
        for folder in self.folders:
            if folder.format is not None:
                yield folder.key, fitted(self.by_name[folder.policy], folder.format)

    @cached_property
    def has_formats(self) -> bool:
        """Whether any folder has one."""
        return any(folder.format is not None for folder in self.folders)

    def folder_of(self, path: str) -> JudgedFolder | None:
        """The folder that the file counts for; None if none takes it.

        Of several that take it the innermost; of two tables of a folder the one with a format, then the first.
        """
        return next((folder for folder in self._innermost_first if folder.takes(path)), None)

    def key_of(self, path: str) -> str:
        """Under which key the policy stands that judges a file."""
        folder = self.folder_of(path)
        return self.default.name if folder is None else folder.key

    def of_path(self, path: str) -> Policy:
        """The policy that judges a file."""
        return self.by_key[self.key_of(path)]

    @cached_property
    def _innermost_first(self) -> Sequence[JudgedFolder]:
        """With the real path of each beside its own: a watched folder may be a link."""
        both = [each._replace(path=path) for each in self.folders for path in {each.path, os.path.realpath(each.path)}]
        return sorted(both, key=lambda each: (-len(each.path), each.format is None))  # a format says more than a name
