"""`doctor`: whether this machine is as the settings need it, each line good or with what to do.

The rule: nothing is written, and nothing is sent unless it is asked for. It answers for the user who runs it, so run it
as the service's.
"""

import ctypes
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer

from modelwarden.cli.answers import print_answer
from modelwarden.cli.lines import counted, wrapped
from modelwarden.cli.moments import iso
from modelwarden.cli.options import Archive, Config, Json
from modelwarden.cli.screen import width
from modelwarden.cli.sending import tested
from modelwarden.cli.status import LEAST_FREE
from modelwarden.config import Settings, WatchTable, destination_of, load_settings
from modelwarden.config.places import state_dir_of
from modelwarden.errors import ModelwardenError, StopService
from modelwarden.filesystems import doubt_of_locks, network_file_system, show_path
from modelwarden.intake.scan import Root, Scan
from modelwarden.questions import asking
from modelwarden.sinks.redactor import Redactor
from modelwarden.wiring.state import insist_on_right_user

if TYPE_CHECKING:
    from modelwarden.sinks.announcing import Target
    from modelwarden.sinks.chat.destinations import Destination

SOMETHING_WRONG: Final = 1

REACH_SECONDS: Final = 5.0
"""How long a destination's host may take to answer."""

MOST_FOLDERS: Final = 100_000
"""Folders are counted up to here: who has more needs another way to watch anyway."""

_INOTIFY: Final = "/proc/sys/fs/inotify/max_user_watches"
_CLOCK_UNSYNCHRONISED: Final = 5
"""What adjtimex(2) returns then (TIME_ERROR)."""

_READ: Final = os.R_OK | os.X_OK
_CHANGE: Final = os.R_OK | os.W_OK | os.X_OK


class Found(NamedTuple):
    """What a look at one thing came to.

    Attributes:
        what: the thing.
        said: how it is.
        hint: what to do; "" if it is as it must be.
    """

    what: str
    said: str
    hint: str = ""


class _Answer(NamedTuple):
    """What the archive answers.

    Attributes:
        runs: how many it has.
        last_at: when the latest was archived, ISO 8601 in UTC; "" if that can't be told.
    """

    runs: int
    last_at: str


Send = Annotated[bool, typer.Option("--send", help="Also send a test message to each destination.")]


def doctor(config: Config = None, archive: Archive = None, send: Send = False, as_json: Json = False) -> None:
    """Say whether this machine is as the settings need it.

    Run it as the service's user: rights are looked at as they are for who asks. Exit code 1 if something is wrong.

    Example: modelwarden doctor
    """
    settings, path = load_settings(config, archive=archive, urls="all")
    source = show_path(path) if path else "defaults and the environment"
    if not as_json:
        typer.echo(f"good  settings: {source}")
    if send and any(each.kind == "file" for each in settings.notify.destination):
        insist_on_right_user(settings)  # the file may be made
    looked: list[Found] = []
    for found in _look(settings, send=send):
        looked.append(found)
        if not as_json:
            _print(found)
    if as_json:
        print_answer(settings=source, checks=[_as_json(each) for each in looked])
    if any(each.hint for each in looked):
        raise typer.Exit(SOMETHING_WRONG)


def _print(found: Found) -> None:
    texts = filter(None, (f"{found.what}: {found.said}", found.hint))
    for at, line in enumerate(line for text in texts for line in wrapped(text, width() - 6)):
        typer.echo(f"{'' if at else 'WRONG' if found.hint else 'good':<6}{line}")


def _as_json(found: Found) -> dict[str, object]:
    """With the keys that a problem has in every answer."""
    return {"where": found.what, "what": found.said, "hint": found.hint, "good": not found.hint}


def _look(settings: Settings, *, send: bool) -> Iterator[Found]:
    state_dir = state_dir_of(settings.archive_dir, settings.state_dir)
    for table in settings.watch:
        yield _watched(table, deletes=settings.intake.after_archive == "delete")
    yield _inotify(settings)
    answer = _ask(settings.archive_dir, state_dir)
    yield _archive(settings, answer)
    yield from _locks(settings.archive_dir)
    yield _state(state_dir)
    yield _clock(answer)
    yield from _metrics(settings)
    yield from _destinations(settings, send=send)


def _watched(table: WatchTable, *, deletes: bool) -> Found:
    what = f"watched folder {show_path(table.path)}"
    if not os.path.isdir(table.path):
        if table.create:
            return Found(what, "not there; it is made at the start")
        return Found(what, "not there", "make it, mount its disk, or set create = true; the daemon waits for it")
    if not _may(table.path, _CHANGE if deletes else _READ):
        right = 'be written, and after_archive = "delete" asks for that' if deletes else "be read"
        return Found(what, f"can't {right}", _ACCESS_HINT)
    # Of a folder with a format a pattern may be the end of a path; its name alone is what a scan looks for.
    names = tuple(each.rpartition("/")[2] for each in table.patterns if not each.startswith("!"))
    scan = Scan(Root(table.path, names, table.recursive))
    count = sum(1 for _ in scan)
    if scan.problems:
        path, reason = scan.problems[0]
        return Found(
            what, f"{counted(len(scan.problems), 'place')} can't be read; {show_path(path)}: {reason}", _ACCESS_HINT
        )
    kind = network_file_system(table.path)
    how = f"on {kind}, so it is scanned: what others write gives no hints" if kind else "gives hints"
    return Found(what, f"{counted(count, 'file')} under a name that fits, {how}")


_ACCESS_HINT: Final = "give the service's user the right, by group or by ACL (`setfacl -m u:modelwarden:rx`)"


def _inotify(settings: Settings) -> Found:
    """Each folder takes one of the kernel's watches."""
    folders = 0
    for table in settings.watch:
        for _, below, _ in os.walk(table.path):
            folders += 1
            if not table.recursive or folders > MOST_FOLDERS:
                below.clear()
    try:
        with open(_INOTIFY, encoding="ascii") as stream:
            limit = int(stream.read())
    except (OSError, ValueError):
        return Found("inotify", "its limits can't be read here")
    said = f"{counted(folders, 'folder')}, and {limit} watches for each user"
    hint = (
        "" if folders * 2 < limit else "raise it: `sysctl fs.inotify.max_user_watches=524288`; else folders are scanned"
    )
    return Found("inotify", said, hint)


def _ask(archive_dir: str, state_dir: str) -> _Answer | ModelwardenError:
    """Ask the archive, once for all that is said of it; what it refused with, if it did."""
    now = time.time()
    try:
        with asking(archive_dir, state_dir) as questions:
            found = questions.runs(1, now)
            last_at = ""
            with suppress(ModelwardenError):  # a run that can't be read is for `verify` to find
                if found.latest is not None:
                    last_at = questions.run(found.latest, now).record.archived_at
    except ModelwardenError as error:
        return error
    return _Answer(len(found.shown) + found.hidden, last_at)


def _archive(settings: Settings, answer: _Answer | ModelwardenError) -> Found:
    what = f"archive {show_path(settings.archive_dir)}"
    if not os.path.isdir(settings.archive_dir):
        if settings.create_archive and _may(_nearest(settings.archive_dir), _CHANGE):
            return Found(what, "not there; it is made at the first start")
        return Found(what, "not there", "mount its disk; for a new archive: `modelwarden adopt`")
    if isinstance(answer, ModelwardenError):
        return Found(what, answer.what, answer.hint or "see what `modelwarden verify` says")
    if not _may(settings.archive_dir, _CHANGE):
        return Found(what, "can't be written", "make the service's user its owner: `chown -R modelwarden`")
    space = os.statvfs(settings.archive_dir)
    share = space.f_bavail / max(1, space.f_blocks)
    said = f"{counted(answer.runs, 'run')}, {share:.0%} of its disk is free"
    return Found(what, said, "" if share >= LEAST_FREE else "make room, or move the archive to a larger disk")


def _locks(archive_dir: str) -> Iterator[Found]:
    if (doubt := doubt_of_locks(archive_dir)) is not None:
        yield Found("lock", f"{doubt}: two hosts may both believe that they have it", "let one host alone write to it")
    elif (kind := network_file_system(archive_dir)) is not None:
        yield Found("lock", f"on {kind}: let one host alone write to this archive")


def _state(state_dir: str) -> Found:
    what = f"state {show_path(state_dir)}"
    kind = network_file_system(state_dir)
    if kind is not None:
        return Found(what, f"on {kind}", "SQLite's log needs a local disk: name a state_dir on one")
    place = state_dir if os.path.isdir(state_dir) else _nearest(state_dir)
    if not _may(place, _CHANGE):
        return Found(what, "can't be written", "run this as the service's user; else make it the folder's owner")
    return Found(what, "on a local disk" if place == state_dir else "not there; it is made at the first start")


def _clock(answer: _Answer | ModelwardenError) -> Found:
    """A run is dated by it, and a message tried by it."""
    now = iso(time.time())
    if isinstance(answer, _Answer) and answer.last_at > now:
        return Found("clock", f"it is {now}, and a run was archived later", "set it, by NTP")
    try:
        unsynchronised = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == _CLOCK_UNSYNCHRONISED
    except (OSError, AttributeError):
        return Found("clock", f"it is {now}; the kernel does not say whether it is synchronised")
    if unsynchronised:
        return Found("clock", f"it is {now}; the kernel does not call it synchronised")
    return Found("clock", f"it is {now}, synchronised")


def _metrics(settings: Settings) -> Iterator[Found]:
    file, listen = settings.metrics.file, settings.metrics.listen
    if file is not None:
        folder = os.path.dirname(file)
        is_there = os.path.isdir(folder)
        said = "can be written" if _may(folder, _CHANGE) else "can't be written" if is_there else "has no folder"
        hint = f"make {show_path(folder)}, and let the service's user write there (the units make /run/modelwarden)"
        yield Found(f"metrics {show_path(file)}", said, "" if said == "can be written" else hint)
    if listen is not None:
        yield Found("metrics", f"the courier answers at {listen}, or says in its log why it can't")


def _destinations(settings: Settings, *, send: bool) -> Iterator[Found]:
    if not settings.notify.destination:
        yield Found("destinations", "none: nobody is told")
        return
    redactor = Redactor()
    for table in settings.notify.destination:
        what = f'destination "{table.name}"'
        try:
            destination = destination_of(table, redactor)  # Apprise is loaded here, after all else was said
        except StopService as error:
            yield Found(what, error.what, error.hint or "`modelwarden config check` says where it is set")
        else:
            yield _reached(what, destination, settings.notify.send_timeout_seconds if send else None)


def _reached(what: str, destination: "Destination | Target", send_timeout: float | None) -> Found:
    """Whether a test message is taken, or, with None for the seconds that it may take, whether the host answers."""
    if send_timeout is not None:
        error = getattr(tested(destination, send_timeout), "error", "")
        return Found(what, error or "a test message was taken", "see its URL and its service" if error else "")
    address = destination.address()
    if address is None:
        return Found(what, "its settings are understood; --send tries it")
    host, port = address
    try:
        socket.create_connection(address, REACH_SECONDS).close()
    except OSError as error:
        hint = "is its name right, and does a firewall let this host out?"
        return Found(what, f"{host}:{port} can't be reached ({error.strerror or error})", hint)
    return Found(what, f"{host}:{port} answers; --send tries it")


def _may(path: str, right: int) -> bool:
    """Whether this process may, by its effective ids."""
    return os.access(path, right, effective_ids=True)


def _nearest(path: str) -> str:
    """The nearest folder above that is there."""
    while not os.path.isdir(path):
        path = os.path.dirname(path) or "/"
    return path
