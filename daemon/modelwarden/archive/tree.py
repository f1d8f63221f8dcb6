"""The archive's folders: staging, publishing and reading runs, and keeping what was rejected.

The rule: a run exists when its folder has been renamed into the archive and the archive synced. A folder is complete
before it gets its name, and nothing here ever writes into one that has. What is made in the archive's own folder is
made through `entered`, so that it lands in the archive that is meant, whatever is mounted or moved meanwhile; what is
staged can't be renamed to anywhere else.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from filelock import FileLock, Timeout

from modelwarden import durable
from modelwarden.archive.folders import REJECTED, STAGING
from modelwarden.archive.identity import difference, identity_in, stranger
from modelwarden.archive.record import ASSESSMENTS_FILE, RUN_FILES
from modelwarden.errors import RetryLater, UnknownRun
from modelwarden.filesystems import is_held, path_into, show_path
from modelwarden.fingerprint import Fingerprint
from modelwarden.gate.timestamp import is_run_name

_MAX_REMEMBERED: Final = 10_000


class Abandoned(NamedTuple):
    """What a dead process left in the staging area.

    Attributes:
        where: its folder, below the archive.
        runs: how many runs it had staged, whole or not.
        size: of its files, bytes.
    """

    where: str
    runs: int
    size: int


class Tree:
    """The archive directory, as one process of one owner uses it.

    Args:
        root: the archive directory.
        owner: a short text of letters and digits that several processes may share. Each stages in a folder of its
            own, `.staging/{owner}-{random}`, and holds a lock in it for as long as it lives.
        staging: for a process that works for another: that one's folder.
        make: whether to make the archive directory if it is missing; not if a disk may only be away.

    Attributes:
        identity: the id that the archive must have; None: any.
    """

    def __init__(self, root: str, owner: str, *, staging: str | None = None, make: bool = True) -> None:
        self.root = os.path.abspath(root)
        self._owner = owner
        self._staging = staging or os.path.join(self.root, STAGING, f"{owner}-{os.urandom(4).hex()}")
        self._staging_lock: FileLock | None = None
        self._taken_below: dict[str, int] = {}  # timestamp -> the suffix below which all were seen taken
        self._reserved: dict[str, int] = {}  # timestamp -> the first suffix that nobody in this batch has
        self.identity: str | None = None
        if make:
            durable.make_folder(self.root)

    def close(self) -> None:
        """Remove this process's staging folder."""
        if self.let_go():
            shutil.rmtree(self._staging, ignore_errors=True)

    def let_go(self) -> bool:
        """Keep nothing open in the archive, so that its disk can go; whether something was."""
        lock, self._staging_lock = self._staging_lock, None
        if lock is not None:
            lock.release()
        return lock is not None

    @contextmanager
    def entered(self) -> Iterator[int]:
        """While entered, the archive's folder, open: it stays that folder, whatever is mounted or moved.

        Raises:
            NotTheArchive: there is no such folder, or it holds another archive than `identity`.
            RetryLater: the disk refused.
        """
        try:
            folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise stranger(self.root, "there is no such folder") from None
        except OSError as error:
            raise durable.refusal("open", self.root, error) from error
        try:
            if self.identity is not None and (found := identity_in(folder, self.root)) != self.identity:
                raise stranger(self.root, difference(found, self.identity))
            yield folder
        except RetryLater as error:  # a person knows the archive by its path
            error.where = error.where.replace(path_into(folder, self.root), show_path(self.root), 1)
            raise
        finally:
            durable.close_unwritten(folder)

    def insist(self) -> None:
        """Raise NotTheArchive if the folder holds another archive or none; RetryLater if the disk refuses."""
        with self.entered():
            return

    def holds(self, name: str) -> bool:
        """Whether the archive that is meant has a run of that name; False also if it can't be told."""
        try:
            with self.entered() as folder:
                return os.path.isdir(os.path.join(path_into(folder, self.root), name))
        except RetryLater:
            return False

    def abandoned(self) -> list[Abandoned]:
        """What dead processes of any owner staged and never published; nothing is changed.

        Raises:
            RetryLater: the disk refused to say what is there.
        """
        found = []
        with self.entered() as archive:
            shelf = os.path.join(path_into(archive, self.root), STAGING)
            for name in sorted(_listed(shelf)):
                folder = os.path.join(shelf, name)
                if os.path.isdir(folder) and name != os.path.basename(self._staging) and not _is_locked(folder):
                    files = [os.path.join(top, file) for top, _, files in os.walk(folder) for file in files]
                    runs = sum(os.path.isdir(os.path.join(folder, each)) for each in _listed(folder))
                    found.append(Abandoned(f"{STAGING}/{name}", runs, sum(_size(file) for file in files)))
        return found

    def sweep(self, *, everybody: bool = False) -> int:
        """Remove what dead processes of this owner staged and never published; return how many runs that were.

        A process is dead when its lock can be had; age is never asked.

        Args:
            everybody: of any owner; only if a lock tells of other hosts too (see filesystems.doubt_of_locks).

        Raises:
            RetryLater: the disk refused to say what is there.
        """
        swept = 0
        with self.entered() as archive:
            shelf = os.path.join(path_into(archive, self.root), STAGING)
            for name in _listed(shelf):
                is_ours = everybody or name.startswith(f"{self._owner}-")
                if not is_ours or name == os.path.basename(self._staging):
                    continue
                folder = os.path.join(shelf, name)
                lock = _lock_of(folder)
                try:
                    with lock.acquire(blocking=False):
                        swept += sum(entry.is_dir() for entry in os.scandir(folder))
                        shutil.rmtree(folder, ignore_errors=True)
                except (Timeout, OSError):
                    continue  # alive, or going away by itself
        return swept

    @property
    def staging(self) -> str:
        """This process's staging folder, which is there after `enter_staging`."""
        return self._staging

    def private(self, name: str) -> str:
        """A path in this process's staging folder, which is there after `enter_staging`."""
        return os.path.join(self._staging, name)

    def enter_staging(self) -> None:
        """Make this process's staging folder and lock it, once (and again if somebody removed it)."""
        if self._staging_lock is None or not os.path.isdir(self._staging):
            with self.entered() as archive:
                staging = os.path.join(path_into(archive, self.root), STAGING, os.path.basename(self._staging))
                durable.make_folder(staging)
                lock = _lock_of(staging)
                try:
                    lock.acquire(blocking=False)
                except Timeout as error:
                    raise RetryLater("is locked by another process", where=show_path(self._staging)) from error
                except OSError as error:
                    raise durable.refusal("lock", self._staging, error) from error
            self._staging_lock = lock

    def clear_staging(self) -> None:
        """Remove what this process staged and nobody published. Best effort, as `discard`."""
        with suppress(OSError), os.scandir(self._staging) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    self.discard(entry.path)

    def draft(self) -> "Draft":
        """A new folder under a name of no meaning, to be filled and synced; after one call of `enter_staging`.

        Raises:
            RetryLater: the disk refused.
        """
        return Draft(self.private(os.urandom(8).hex()))

    def stage(self, files: Mapping[str, bytes]) -> str:
        """A new folder with these files, all on disk, under a name of no meaning.

        Raises:
            RetryLater: the disk refused, or a sync failed; the folder is gone again.
        """
        draft = self.draft()
        try:
            for name, data in files.items():
                draft.write(name, data)
        except BaseException:
            draft.discard()
            raise
        draft.sync()
        return draft.folder

    def discard(self, folder: str) -> None:
        """Remove a staged folder. Best effort: what stays is swept at the next start."""
        discard(folder)

    def publish(self, folder: str, name: str) -> None:
        """Give a staged run its name. Not yet on disk: `sync` is the commit point.

        Raises:
            FileExistsError: the name is taken.
            RetryLater: the disk refused.
        """
        durable.rename_new(folder, self.path_of(name))

    def sync(self) -> None:
        """Put the names on disk. Raises StorageSuspect if that fails."""
        durable.sync_folder(self.root)

    def reserve_name(self, timestamp: str) -> str:
        """The first of `T`, `T_2`, `T_3`... that the archive does not have and that is not reserved."""
        if len(self._taken_below) >= _MAX_REMEMBERED:
            self._taken_below.clear()
        suffix = self._taken_below.get(timestamp, 1)
        if suffix > 1 and not os.path.lexists(self.path_of(_name(timestamp, suffix - 1))):
            suffix = 1  # somebody made room
        while os.path.lexists(self.path_of(_name(timestamp, suffix))):
            suffix += 1
        self._taken_below[timestamp] = suffix
        if (reserved := self._reserved.get(timestamp, 1)) > suffix:
            suffix = reserved
            while os.path.lexists(self.path_of(_name(timestamp, suffix))):
                suffix += 1
        self._reserved[timestamp] = suffix + 1
        return _name(timestamp, suffix)

    def release_names(self) -> None:
        """End all reservations: the batch is published, and what was reserved and not used can be given again."""
        self._reserved.clear()

    def run_names(self) -> Iterator[str]:
        """The names of all folders that may be runs, in no order. Raises RetryLater if the disk refuses."""
        try:
            with os.scandir(self.root) as entries:
                for entry in entries:
                    if is_run_name(entry.name) and entry.is_dir(follow_symlinks=False):
                        yield entry.name
        except OSError as error:
            raise durable.refusal("list", self.root, error) from error

    def is_complete(self, name: str) -> bool:
        """Whether the run's three files are there."""
        return all(os.path.isfile(os.path.join(self.path_of(name), file)) for file in RUN_FILES)

    def fingerprint(self, name: str) -> Fingerprint | None:
        """Of the run's model_assessments.json; None if there is none to be seen."""
        try:
            return Fingerprint.of(os.lstat(os.path.join(self.path_of(name), ASSESSMENTS_FILE)))
        except OSError:
            return None

    def read(self, name: str, file: str = ASSESSMENTS_FILE) -> bytes:
        """The bytes of one of a run's files.

        Raises:
            UnknownRun: no such run; a name that is no run name included.
            RetryLater: the disk refused.
        """
        if not is_run_name(name):
            raise UnknownRun(f"{name!r} is not a run's name", hint="see `modelwarden runs`")
        try:
            with open(os.path.join(self.path_of(name), file), "rb") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            raise UnknownRun(f"no run {name}", where=self.root, hint="see `modelwarden runs`") from None
        except OSError as error:
            where = os.path.join(self.path_of(name), file)
            raise durable.refusal("read", where, error) from error

    def keep_rejected(self, identity: str, files: Mapping[str, bytes]) -> str:
        """Keep a rejected file's bytes and reason under `rejected/`; return the folder.

        The same identity again keeps what is there: see `read_rejected` for whose it is.

        Raises:
            RetryLater: the disk refused, or a sync failed; then nothing is kept.
        """
        shelf = os.path.join(self.root, REJECTED)
        target = os.path.join(shelf, identity)
        if os.path.isdir(target):
            durable.sync_folder(shelf)  # whoever made it may have failed, or died, before its own
            return target
        self.enter_staging()
        with self.entered() as archive:
            durable.make_folder(os.path.join(path_into(archive, self.root), REJECTED))
        folder = self.stage(files)
        try:
            durable.rename_new(folder, target)
        except FileExistsError:
            self.discard(folder)
        try:
            durable.sync_folder(shelf)
        except BaseException:  # the next try makes a new entry: one whose sync failed is never believed
            self.discard(target)
            raise
        return target

    def read_rejected(self, identity: str, file: str) -> bytes:
        """The bytes of a rejected file's file; b"" if there is none or it can't be read."""
        try:
            with open(os.path.join(self.root, REJECTED, identity, file), "rb") as stream:
                return stream.read()
        except OSError:
            return b""

    def take_off_shelf(self, identity: str) -> None:
        """Remove a rejected file's folder, in one step for who looks. Raises RetryLater if the disk refuses."""
        self.enter_staging()
        with self.entered() as archive:
            shelf = os.path.join(path_into(archive, self.root), REJECTED)
            aside = self.private(f"{identity}-{os.urandom(4).hex()}")
            durable.rename_over(os.path.join(shelf, identity), aside)
            durable.sync_folder(shelf)
        self.discard(aside)

    def path_of(self, name: str) -> str:
        """Where the run of this name is, or would be."""
        return os.path.join(self.root, name)


class Draft:
    """A folder that is being filled. What is in it is on disk once `sync` returned, and not before.

    Args:
        folder: its path; made here.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._open: dict[str, int] = {}  # path -> descriptor
        durable.make_unsynced_folder(folder)

    def write(self, name: str, data: bytes) -> None:
        """Add a file; the disk begins to write it. Raises RetryLater if the disk refuses."""
        path = os.path.join(self.folder, name)
        self._open[path] = durable.write_unsynced_file(path, data)

    def sync(self) -> None:
        """Put the files and the folder on disk.

        Raises:
            RetryLater: the disk refused, or a sync failed; the folder is gone again.
        """
        try:
            for path in list(self._open):
                durable.finish(self._open.pop(path), path)
            durable.sync_folder(self.folder)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Close what is open and remove the folder."""
        while self._open:
            os.close(self._open.popitem()[1])
        discard(self.folder)


def discard(folder: str) -> None:
    """Remove a staged folder. Best effort: what stays is swept at the next start."""
    shutil.rmtree(folder, ignore_errors=True)


def _is_locked(staging: str) -> bool:
    """Whether a living process holds the staging folder. No lock's file is made: whoever never had one is dead."""
    try:
        return is_held(os.path.join(staging, "lock"))
    except OSError:
        return True  # not ours to say


def _size(file: str) -> int:
    with suppress(OSError):
        return os.lstat(file).st_size
    return 0


def _listed(folder: str) -> list[str]:
    """The names in a folder; none if it is not there."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise durable.refusal("list", folder, error) from error


def _name(timestamp: str, suffix: int) -> str:
    return timestamp if suffix == 1 else f"{timestamp}_{suffix}"


def _lock_of(staging: str) -> FileLock:
    return FileLock(os.path.join(staging, "lock"), fallback_to_soft=False, preserve_lock_file=True, thread_local=False)
