"""The state file of the settings: opened for who may write to it, and made by the daemon alone.

The rule: a misspelt folder, an empty mount point or root's hands never make one.
"""

import os
from datetime import UTC, datetime

from modelwarden.config import Settings
from modelwarden.config.places import state_dir_of
from modelwarden.errors import StopService
from modelwarden.filesystems import insist_on_owner, show_path
from modelwarden.state.database import STATE_FILE, Database


def insist_on_right_user(settings: Settings) -> None:
    """Raise StopService if root would write to an archive or a state that belongs to somebody else."""
    insist_on_owner(settings.archive_dir, state_dir_of(settings.archive_dir, settings.state_dir))


def has_state(settings: Settings) -> bool:
    """Whether there is a state file of these settings. Raises StopService if its folder is closed to who asks."""
    folder = state_dir_of(settings.archive_dir, settings.state_dir)
    try:
        os.stat(os.path.join(folder, STATE_FILE))
    except PermissionError:
        raise StopService(
            "no right to look there", where=show_path(folder), hint="run this as the service's user"
        ) from None
    except OSError:
        return False
    return True


def insist_on_state(settings: Settings) -> None:
    """Raise StopService if there is no state file: what is not the daemon makes none, above all on no empty disk.

    Also if root would write to what is another's.
    """
    insist_on_right_user(settings)
    insist_on_state_file(settings)


def insist_on_state_file(settings: Settings) -> None:
    """Raise StopService if there is no state file, or if nobody can say, for its folder is closed to who asks."""
    if not has_state(settings):
        raise StopService(
            "no state file there; `modelwarden run` makes it at its first start",
            where=show_path(state_dir_of(settings.archive_dir, settings.state_dir)),
            hint="name the daemon's settings with --config",
        )


def open_database(settings: Settings) -> Database:
    """The state file of these settings; made if missing. Raises StopService if it can't be used."""
    born_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Database(state_dir_of(settings.archive_dir, settings.state_dir), born_at)


def open_old_database(settings: Settings) -> Database:
    """The state file of a daemon that was started before: a misspelt folder, or root's hands, must not make one.

    Raises:
        StopService: there is none, or it can't be used.
    """
    insist_on_state(settings)
    return open_database(settings)
