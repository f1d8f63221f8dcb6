"""Which policy judges a summary: the settings say so by the folder that it came from.

The rule: a summary never chooses what judges it. It is data from a stranger.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import NamedTuple

from modelwarden.gate.policy import Policy
from modelwarden.intake.scan import is_inside


class JudgedFolder(NamedTuple):
    """A watched folder and what judges what comes from it.

    Attributes:
        path: of the folder.
        patterns: shell patterns of the files.
        policy: the policy's name.
    """

    path: str
    patterns: Sequence[str]
    policy: str


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

    def of_path(self, path: str) -> Policy:
        """The policy of the innermost folder that the file was taken from; of two tables of a folder the first."""
        name = os.path.basename(path)
        for folder in self._innermost_first:
            if is_inside(path, folder.path) and any(fnmatchcase(name, pattern) for pattern in folder.patterns):
                return self.by_name[folder.policy]
        return self.default

    @cached_property
    def _innermost_first(self) -> Sequence[JudgedFolder]:
        """With the real path of each beside its own: a watched folder may be a link."""
        both = [each._replace(path=path) for each in self.folders for path in {each.path, os.path.realpath(each.path)}]
        return sorted(both, key=lambda each: -len(each.path))
