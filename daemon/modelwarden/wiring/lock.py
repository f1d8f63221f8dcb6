"""One daemon and one courier for each state directory.

The rule: the lock's own file is locked and never removed: who holds a removed one would hold nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from modelwarden.durable import make_folder
from modelwarden.errors import StopService


@contextmanager
def only_one(state_dir: str, lock_file: str, what: str) -> Iterator[None]:
    """Hold the state directory for one daemon, or one courier.

    Raises:
        StopService: another has it; the message names the directory.
    """
    make_folder(state_dir, 0o700)
    lock = FileLock(os.path.join(state_dir, lock_file), fallback_to_soft=False, preserve_lock_file=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StopService(
            f"another modelwarden {what} uses this state directory",
            where=state_dir,
            hint="stop it, or give this one its own state_dir",
        ) from None
    except OSError as error:
        raise StopService(f"can't be locked ({error.strerror})", where=lock.lock_file) from None
    try:
        yield
    finally:
        lock.release()
