"""The error tree: what went wrong, where, and what the operator can do about it.

The rule: an error has one of three kinds, named after what the caller does next (reject the file, try again
later, stop the service), and every message says what, where and what to do. The module imports nothing of
modelwarden's: its sentence about Linux is read where nothing else can be imported, and by the build.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

NEEDS_LINUX: Final = (
    "modelwarden needs Linux: what it promises rests on inotify, renameat2, leases and an fsync that reaches the disk; "
    "elsewhere, run it in a Linux virtual machine"
)
"""What is said on every other system: at install, at start and at import."""


class Problem(NamedTuple):
    """One thing that is wrong: the fields of the error tree's root, as text alone."""

    what: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        """`where: what: hint`, without the parts that are empty."""
        return ": ".join(part for part in (self.where, self.what, self.hint) if part)


class ModelwardenError(Exception):
    """Anything modelwarden itself raises.

    Attributes:
        what: what went wrong, one clause.
        where: the place (`models[3].final_pf`, a path, a setting), or "" where there is no narrower place.
        hint: what the operator can do, or "".
        exit_code: what a command that fails with this error exits with.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        """`where: what: hint`, without the parts that are empty."""
        return str(Problem(self.what, self.where, self.hint))


class RejectSummary(ModelwardenError):
    """These bytes are not a summary and never will be: keep them with the reason, go on with the others.

    Attributes:
        problems: what is wrong, in the file's order; `what`, `where` and `hint` are those of the first.
        more: how many more there are than `problems` names.
        is_all: whether `more` is their number, or there were too many to count on.
    """

    # Only one argument without a default: a worker's errors are pickled, and made again from that one.
    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        hint: str = "",
        others: Sequence[Problem] = (),
        more: int = 0,
        is_all: bool = True,
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.problems = (Problem(what, where, hint), *others)
        self.more = more
        self.is_all = is_all

    def __str__(self) -> str:
        """A line a problem; the last says how many more there are."""
        lines = [*map(str, self.problems)]
        if self.more:
            lines.append(f"and {'' if self.is_all else 'more than '}{self.more} more")
        return "\n".join(lines)


class RetryLater(ModelwardenError):
    """Nothing is wrong with the summary: the disk, the lock or a permission is in the way just now."""


class StorageSuspect(RetryLater):
    """An fsync failed, so what was written may not be on disk although later calls succeed.

    The same file is never synced again: after a failed fsync the kernel marks the pages clean and the next
    fsync reports success over lost data. Staging starts again from the source with new files.
    """


class NotTheArchive(RetryLater):
    """The folder does not hold the archive that the state knows: its disk is not mounted, or it is another one.

    Nothing is concluded from what is there, and nothing is written to it. It may come back.
    """


class StopService(ModelwardenError):
    """The service can't run like this (settings, a second daemon, an unusable state file): say so and exit."""


class UnknownRun(ModelwardenError, LookupError):
    """No run of that name is in the archive."""

    exit_code = 2
