"""Where the state of an archive lies, as the settings have it.

The rule: SQLite's log needs a local disk; an archive on a network holds no state.
"""

import os
from typing import TYPE_CHECKING, Final

from modelwarden.errors import StopService
from modelwarden.filesystems import network_file_system

if TYPE_CHECKING:
    from modelwarden.config.model import Settings
    from modelwarden.config.whereabouts import Whereabouts

DEFAULT_STATE: Final = ".state"
"""In the archive, if the settings name no other place."""


def state_dir_of(archive_dir: str, state_dir: str | None) -> str:
    """The state directory: the one named, else `.state` in the archive if that is a local file system.

    Raises:
        StopService: none is named and the archive is on a network, where SQLite's log can't be.
    """
    if state_dir is not None:
        return state_dir
    kind = network_file_system(archive_dir)
    if kind is not None:
        raise StopService(
            f"the archive is on {kind}, and the state file needs a local disk",
            where="state_dir",
            hint='name a local folder, such as state_dir = "/var/lib/modelwarden"',
        )
    return os.path.join(archive_dir, DEFAULT_STATE)


def known_state_dir(settings: "Settings | Whereabouts") -> str | None:
    """The state directory if it can be told; None for an archive on a network whose settings name none."""
    try:
        return state_dir_of(settings.archive_dir, settings.state_dir)
    except StopService:
        return None
