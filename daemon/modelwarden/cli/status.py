"""`status`: what the daemon is doing, and whether anything needs a person.

The rule: it asks the state directory and the archive, and nobody else: no socket, no signal, nothing is written. It
answers for a daemon that is not running, too.
"""

import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import typer

from modelwarden.cli.answers import print_answer
from modelwarden.cli.lines import counted
from modelwarden.cli.moments import duration
from modelwarden.cli.options import Archive, Config, Json
from modelwarden.cli.tables import print_facts, print_sentence
from modelwarden.config import Settings, load_settings
from modelwarden.config.places import state_dir_of
from modelwarden.errors import ModelwardenError, StopService
from modelwarden.filesystems import is_held, show_path
from modelwarden.gate.run import RunRecord
from modelwarden.questions import asking
from modelwarden.service.standing import COURIER_LOCK, DAEMON_LOCK, Standing, read_standing
from modelwarden.state.reading import Messages, reading

TROUBLE: Final = 1
NOT_RUNNING: Final = 3
"""Exit codes; 3 is what an init script answers for a service that is not running (LSB)."""

OVERDUE_SECONDS: Final = 3600.0
"""A message that is owed for longer is trouble: a destination can't be reached, or nobody delivers."""

LEAST_FREE: Final = 0.02
"""Share of a disk: with less left it will be full soon."""


class _Disk(NamedTuple):
    """What is left of the disk under a folder."""

    what: str
    free: int
    share: float


class _Seen(NamedTuple):
    """All that was found out."""

    settings: Settings
    state_dir: str
    standing: Standing | None  # None: no daemon is running
    courier: bool
    runs: int | None  # None: the archive can't be asked
    latest: RunRecord | None
    unasked: str  # why the archive can't be
    rejected_today: int
    messages: Messages
    disks: Sequence[_Disk]


def status(config: Config = None, archive: Archive = None, as_json: Json = False) -> None:
    """Say what the daemon is doing.

    Exit code 0: all is well; 1: something needs a person; 3: the daemon is not running.

    Example: modelwarden status
    """
    now = time.time()
    seen = _look(load_settings(config, archive=archive)[0], now)
    troubles = list(_troubles(seen, now))
    if as_json:
        print_answer(**_as_json(seen, troubles))
    else:
        _print(seen, troubles, now)
    if seen.standing is None:
        raise typer.Exit(NOT_RUNNING)
    if troubles:
        raise typer.Exit(TROUBLE)


def _look(settings: Settings, now: float) -> _Seen:
    state_dir = state_dir_of(settings.archive_dir, settings.state_dir)
    try:
        runs_daemon, runs_courier = (is_held(os.path.join(state_dir, name)) for name in (DAEMON_LOCK, COURIER_LOCK))
    except OSError as error:
        hint = "run this as the service's user, or as root"
        raise StopService(f"can't be asked ({error.strerror})", where=show_path(state_dir), hint=hint) from None
    midnight = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
    with reading(state_dir) as snapshot:
        rejected = 0 if snapshot is None else snapshot.rejected_since(midnight)
        messages = Messages(0, 0, None) if snapshot is None else snapshot.messages()
    runs, latest, unasked = None, None, ""
    try:
        with asking(settings.archive_dir, state_dir) as questions:
            found = questions.runs(1, now)
            runs = len(found.shown) + found.hidden
            latest = None if found.latest is None else questions.run(found.latest, now).record
    except ModelwardenError as error:
        unasked = str(error)
    return _Seen(
        settings=settings,
        state_dir=state_dir,
        standing=read_standing(state_dir) if runs_daemon else None,
        courier=runs_courier,
        runs=runs,
        latest=latest,
        unasked=unasked,
        rejected_today=rejected,
        messages=messages,
        disks=[*_disks(("archive", settings.archive_dir), ("state", state_dir))],
    )


def _disks(*folders: tuple[str, str]) -> Iterator[_Disk]:
    """Each disk once, by the first folder on it."""
    devices = set()
    for what, folder in folders:
        try:
            device, space = os.stat(folder).st_dev, os.statvfs(folder)
        except OSError:
            continue
        if device not in devices:
            devices.add(device)
            yield _Disk(what, space.f_bavail * space.f_frsize, space.f_bavail / max(1, space.f_blocks))


def _troubles(seen: _Seen, now: float) -> Iterator[str]:
    """What needs a person, each with what to do."""
    if seen.standing is None:
        away = (
            "" if os.path.isdir(seen.state_dir) else f", or its disk is away: there is no {show_path(seen.state_dir)}"
        )
        yield f"the daemon is not running{away}: `systemctl start modelwarden`, or `modelwarden run`"
    else:
        yield from _troubles_of_daemon(seen.standing)
        if seen.settings.notify.destination and not seen.courier:
            yield "no courier is running, so nobody is told: `systemctl start modelwarden-courier`"
    if seen.unasked and not (seen.standing and seen.standing.trouble):
        yield seen.unasked
    owed = seen.messages
    if owed.oldest is not None and now - owed.oldest > OVERDUE_SECONDS:
        yield f"a message is owed for {duration(now - owed.oldest)}: see `modelwarden outbox`"
    if owed.dead:
        given_up = counted(owed.dead, "message was", "messages were")
        yield f"{given_up} given up: `modelwarden outbox` lists what is dead, `... outbox retry` revives it"
    for disk in seen.disks:
        if disk.share < LEAST_FREE:
            yield f"the disk of the {disk.what} is nearly full: {_size(disk.free)} left"


def _troubles_of_daemon(standing: Standing) -> Iterator[str]:
    if standing.trouble:
        yield standing.trouble
    elif not standing.is_watching:
        yield "a folder gives no hints: it is looked through every few seconds instead, see the log"
    if standing.unmeasured:
        yield standing.unmeasured
    if standing.unseen:
        unseen = counted(standing.unseen, "folder or file", "folders or files")
        yield f"{unseen} can't be read: see `unreadable` in the log"


def _print(seen: _Seen, troubles: Sequence[str], now: float) -> None:
    standing, latest = seen.standing, seen.latest
    if standing is None:
        typer.echo("not running")
    else:
        since = datetime.fromisoformat(standing.since)
        age = duration(now - since.timestamp())
        print_sentence(f"running since {since:%Y-%m-%d %H:%M} UTC, for {age}, process {standing.pid}")
    lines = [
        (
            "archive",
            f"{show_path(seen.settings.archive_dir)}: {'? runs' if seen.runs is None else counted(seen.runs, 'run')}",
        )
    ]
    if latest is not None:
        counts = ", ".join(f"{each} {count}" for each, count in latest.counts.items())
        ago = now - datetime.fromisoformat(latest.archived_at).timestamp()
        lines.append(("last run", f"{latest.timestamp}, archived {duration(ago)} ago"))
        lines.append(("", counts))
    if standing is not None:
        how = "watching" if standing.is_watching else "scanning"
        lines += [(how if not at else "", show_path(each)) for at, each in enumerate(standing.folders)]
        lines.append(("waiting", counted(standing.waiting, "file")))
    lines.append(("rejected", f"{seen.rejected_today} today"))
    said = "a courier is running" if seen.courier else "no courier is running"
    lines.append(("messages", f"{seen.messages.owed} owed, {seen.messages.dead} dead; {said}"))
    lines += [("free", f"{_size(disk.free)} ({disk.share:.0%}) for the {disk.what}") for disk in seen.disks]
    lines += [("TROUBLE", each) for each in troubles]
    print_facts(lines)


def _as_json(seen: _Seen, troubles: Sequence[str]) -> dict[str, Any]:
    standing, latest, oldest = seen.standing, seen.latest, seen.messages.oldest
    return {
        "running": standing is not None,
        "pid": standing and standing.pid,
        "since": standing and standing.since,
        "archive": show_path(seen.settings.archive_dir),
        "runs": seen.runs,
        "latest": None
        if latest is None
        else {
            "run": latest.timestamp,
            "timestamp": latest.timestamp,
            "archived_at": latest.archived_at,
            "approved_count": latest.approved_count,
            "review_count": latest.review_count,
            "dropped_count": latest.dropped_count,
        },
        "folders": [] if standing is None else standing.folders,
        "watching": standing is not None and standing.is_watching,
        "waiting": standing and standing.waiting,
        "rejected_today": seen.rejected_today,
        "courier_running": seen.courier,
        "messages": {
            "owed": seen.messages.owed,
            "oldest_owed": None if oldest is None else f"{datetime.fromtimestamp(oldest, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "dead": seen.messages.dead,
        },
        "free_bytes": {disk.what: disk.free for disk in seen.disks},
        "troubles": troubles,
    }


def _size(count: int) -> str:
    """Bytes in the largest unit that leaves at least one."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:  # noqa: PLR2004 - SI
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"  # noqa: PLR2004
