"""The error tree: what went wrong, where, and what the operator can do about it.

The rule: an error has one of three kinds, named after what the caller does next (reject the file, try again
later, stop the service), and every message says what, where and what to do. The module imports nothing of
modelwarden's: its sentence about Linux is read where nothing else can be imported, and by the build.
"""

from typing import Final

NEEDS_LINUX: Final = (
    "modelwarden needs Linux: what it promises rests on inotify, renameat2, leases and an fsync that reaches the disk; "
    "elsewhere, run it in a Linux virtual machine"
)
"""What is said on every other system: at install, at start and at import."""


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
        return ": ".join(part for part in (self.where, self.what, self.hint) if part)


class RejectSummary(ModelwardenError):
    """These bytes are not a summary and never will be: keep them with the reason, go on with the others."""


class RetryLater(ModelwardenError):
    """Nothing is wrong with the summary: the disk, the lock or a permission is in the way just now."""


class StorageSuspect(RetryLater):
    """An fsync failed, so what was written may not be on disk although later calls succeed.

    The same file is never synced again: after a failed fsync the kernel marks the pages clean and the next
    fsync reports success over lost data. Staging starts again from the source with new files.
    """


class StopService(ModelwardenError):
    """The service can't run like this (settings, a second daemon, an unusable state file): say so and exit."""


class UnknownRun(ModelwardenError, LookupError):
    """No run of that name is in the archive."""

    exit_code = 2
