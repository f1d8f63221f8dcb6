"""The fingerprint of a file: what spares reading it again.

The rule: it proves nothing about bytes; a run is known by the sha256 of its summary alone.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os


class Fingerprint(NamedTuple):
    """What tells one state of a file from another without reading it.

    Attributes:
        device: that it lies on.
        inode: on that device.
        size: in bytes.
        modified: when its bytes changed, in ns since the epoch; anybody may set it.
        changed: when anything of it changed, likewise; nobody can set it.
    """

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: "os.stat_result") -> "Fingerprint":
        """Of a file that was looked at."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
