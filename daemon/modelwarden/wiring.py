"""From settings to parts: who is built from what, and in which order it is given back.

The rule: this is the one place below the command line that reads settings; every part takes plain values.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from modelwarden.archive.histories import read_histories
from modelwarden.archive.identity import has_identity
from modelwarden.archive.publishing import Archive
from modelwarden.archive.record import REPORT_FILE
from modelwarden.config import Settings, WatchTable, destination_of, known_formats
from modelwarden.config.addresses import address_of
from modelwarden.config.places import state_dir_of
from modelwarden.durable import make_folder
from modelwarden.errors import StopService
from modelwarden.filesystems import doubt_of_locks, insist_on_owner, network_file_system, show_path
from modelwarden.formats.description import Format
from modelwarden.formats.finality import parse_condition
from modelwarden.intake.scan import Root
from modelwarden.intake.settling import Settling
from modelwarden.intake.watch import Watch
from modelwarden.log import log
from modelwarden.pipeline.policies import JudgedFolder, Policies
from modelwarden.pipeline.staging import Judging
from modelwarden.pipeline.walk import Pipeline
from modelwarden.pipeline.workers import Workers
from modelwarden.service.attempts import Attempts
from modelwarden.service.bell import ring_bell
from modelwarden.service.courier_process import CourierProcess, NoCourier
from modelwarden.service.discovery import Discovery
from modelwarden.service.endings import Endings
from modelwarden.service.lifecycle import Service
from modelwarden.service.metrics import CourierMetrics, DaemonMetrics, NoCourierMetrics, NoMetrics, Room
from modelwarden.service.problems import Expected, Problems
from modelwarden.service.processing import Processing
from modelwarden.service.standing import COURIER_LOCK, DAEMON_LOCK, StandingFile
from modelwarden.service.systemd import Notifier
from modelwarden.service.wake import Wake
from modelwarden.state.catalog import Catalog
from modelwarden.state.database import STATE_FILE, Database
from modelwarden.state.messages import Route
from modelwarden.state.outbox import Outbox

if TYPE_CHECKING:
    from modelwarden.courier.delivery import Courier
    from modelwarden.sinks.announcing import Target
    from modelwarden.sinks.chat.destinations import Destination
    from modelwarden.sinks.protocol import Sink


UNENCRYPTED_HINT: Final = "its mail and its password cross the network as plain text: write mailtos:// for mailto://"

_ONE_HOST: Final = "let one host alone write to this archive; any number may read"

WORKERS: Final = 2
"""Processes that stage a backlog, if the host has as many cores. This process publishes what they made."""


def policies_of(settings: Settings) -> Policies:
    """The policies that the settings resolve to, and which of them judges where."""
    has_formats = any(each.format is not None for each in settings.watch)
    formats = known_formats(settings).formats if has_formats else {}
    default, *others = settings.policies().values()
    return Policies(
        default,
        tuple(others),
        tuple(_judged_folder(each, formats, os.path.realpath(settings.archive_dir)) for each in settings.watch),
    )


def _judged_folder(watch: WatchTable, formats: Mapping[str, Format], archive: str) -> JudgedFolder:
    """A watched folder as its table says; what it leaves out is its format's."""
    if watch.format is None:
        return JudgedFolder(watch.path, watch.patterns, watch.policy)
    format_ = replace(formats[watch.format], files=watch.patterns)
    return JudgedFolder(
        watch.path,
        format_.names,
        watch.policy,
        format_,
        tuple(map(parse_condition, watch.final or format_.final)),
        only_best=watch.models == "best",
        group=watch.group or "",
        excluded=(archive,),
    )


def open_old_database(settings: Settings) -> Database:
    """The state file of a daemon that was started before: a misspelt folder, or root's hands, must not make one.

    Raises:
        StopService: there is none, or it can't be used.
    """
    insist_on_state(settings)
    return open_database(settings)


def insist_on_state(settings: Settings) -> None:
    """Raise StopService where there is no state file: what is not the daemon makes none, above all on no empty disk.

    Also where root would write to what is another's.
    """
    insist_on_right_user(settings)
    if not has_state(settings):
        raise StopService(
            "no state file there; `modelwarden run` makes it at its first start",
            where=show_path(state_dir_of(settings.archive_dir, settings.state_dir)),
            hint="name the daemon's settings with --config",
        )


def insist_on_right_user(settings: Settings) -> None:
    """Raise StopService where root would write to an archive or a state that belongs to somebody else."""
    insist_on_owner(settings.archive_dir, state_dir_of(settings.archive_dir, settings.state_dir))


def has_state(settings: Settings) -> bool:
    """Whether there is a state file of these settings."""
    return os.path.exists(os.path.join(state_dir_of(settings.archive_dir, settings.state_dir), STATE_FILE))


def open_database(settings: Settings) -> Database:
    """The state file of these settings; made where missing. Raises StopService where it can't be used."""
    born_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Database(state_dir_of(settings.archive_dir, settings.state_dir), born_at)


@contextmanager
def open_pipeline(
    settings: Settings,
    *,
    announces: bool,
    owner: str | None = None,
    adopts: bool = False,
    policies: Policies | None = None,
    workers: Workers | None = None,
    judging: Judging = nullcontext,
    progress: Callable[[], object] = lambda: None,
) -> Iterator[Pipeline]:
    """The archive, the state and the walk over them, given back at the end.

    Args:
        settings: all of them.
        announces: whether the caller is the daemon, which alone decides on what is sent.
        owner: what runs record as `daemon_id`, where nobody is to announce them; None: the state's.
        adopts: whether whatever is in archive_dir is to be the archive.
        policies: what judges, in place of what the settings say.
        workers: see Pipeline.
        judging: see Stager.
        progress: see Pipeline.

    Raises:
        StopService: the state file can't be used, or would be made where there is no archive, or root would write to
            what is another's.
    """
    insist_on_right_user(settings)
    _insist_on_archive(settings, adopts=adopts)
    with ExitStack() as stack:
        database = open_database(settings)
        stack.callback(database.close)
        archive = Archive(settings.archive_dir, database.daemon_id, make=False, progress=progress)
        stack.callback(archive.close)
        pipeline = Pipeline(
            archive,
            database,
            policies or policies_of(settings),
            [Route(each.name, frozenset(each.on), each.symbols) for each in settings.notify.destination]
            if announces
            else None,
            owner=owner or database.daemon_id,
            host=socket.gethostname(),
            clock=time.time,
            deadline_seconds=settings.notify.deadline_hours * 3600,
            workers=workers,
            may_make=settings.create_archive,
            judging=judging,
            progress=progress,
            ring=partial(ring_bell, state_dir_of(settings.archive_dir, settings.state_dir)),
        )
        stack.callback(pipeline.close)
        yield pipeline


def _insist_on_archive(settings: Settings, *, adopts: bool = False) -> None:
    """Raise StopService where a start would make the state in an archive that is not there and may not be made."""
    if settings.state_dir is None and not (settings.create_archive or adopts or has_identity(settings.archive_dir)):
        raise StopService(
            "there is no archive, and create_archive = false",
            where=show_path(settings.archive_dir),
            hint="mount its disk; for a new archive: `modelwarden adopt`",
        )


@contextmanager
def open_service(
    settings: Settings,
    courier_arguments: Sequence[str],
    *,
    courier: bool,
    read_settings: Callable[[], None] | None = None,
    measures: bool = False,
) -> Iterator[Service]:
    """The daemon of these settings.

    Args:
        settings: all of them.
        courier_arguments: so that a courier started as a child reads the same settings.
        courier: whether to start one (where there is a destination).
        read_settings: see Service.
        measures: whether it tells its metrics, if the settings ask for them.

    Raises:
        StopService: another daemon has the state directory, or the state file can't be used, or root would write to
            what is another's.
    """
    insist_on_right_user(settings)
    _insist_on_archive(settings)
    state_dir = state_dir_of(settings.archive_dir, settings.state_dir)
    notifier = Notifier()
    with (
        closing(Workers(min(WORKERS, len(os.sched_getaffinity(0))))) as workers,  # first: a fork has what is open
        only_one(state_dir, DAEMON_LOCK, "daemon"),
        closing(Attempts(state_dir)) as attempts,
        open_pipeline(
            settings, announces=True, workers=workers, judging=attempts.judging, progress=notifier.alive
        ) as pipeline,
    ):
        policies = policies_of(settings)
        roots = [
            Root(each.path, tuple(folder.patterns), each.recursive)
            for each, folder in zip(settings.watch, policies.folders, strict=True)
        ]
        for table in settings.watch:
            if table.create:
                make_folder(table.path)
        wake = Wake()
        excluded = [os.path.realpath(pipeline.archive.root), os.path.realpath(state_dir)]
        watch = Watch(roots, wake.ring, excluded)
        settling = Settling(settings.intake.settle_seconds, settings.intake.reject_after_seconds)
        problems = Problems(
            pipeline.recorder,
            socket.gethostname(),
            [Expected(each.path, each.expect_every) for each in settings.watch if each.expect_every is not None],
        )
        metrics = _daemon_metrics(settings) if measures else NoMetrics()
        processing = Processing(
            settling,
            pipeline,
            attempts,
            problems,
            metrics,
            max_bytes=settings.intake.max_bytes,
            delete_archived=settings.intake.after_archive == "delete",
            policies=policies,
            endings=Endings(settling, settings.intake.settle_seconds),
            ring=wake.ring,
        )
        discovery = Discovery(
            roots,
            excluded,
            watch,
            settling,
            processing,
            notifier.alive,
            scan_every=settings.intake.scan_every_seconds,
        )
        has_destinations = bool(settings.notify.destination)
        service = Service(
            discovery,
            settling,
            processing,
            pipeline,
            problems,
            CourierProcess(courier_arguments) if courier and has_destinations else NoCourier(),
            notifier,
            wake,
            StandingFile(state_dir),
            metrics,
            partial(_rooms, {"archive": settings.archive_dir, "state": state_dir}),
            lambda: _warn_of_network(pipeline.archive.root),
            read_settings,
        )
        try:
            yield service
        finally:
            watch.stop()
            processing.close()
            wake.close()


def _daemon_metrics(settings: Settings) -> DaemonMetrics:
    """What the daemon tells its metrics to."""
    if settings.metrics.file is None:
        return NoMetrics()
    from modelwarden.service.metrics_export import TextFile  # noqa: PLC0415 - optional: the extra `metrics`

    return TextFile(settings.metrics.file, show_path(settings.archive_dir))


def courier_metrics(settings: Settings) -> CourierMetrics:
    """What the courier tells its metrics to."""
    if settings.metrics.listen is None:
        return NoCourierMetrics()
    from modelwarden.service.metrics_server import MetricsServer  # noqa: PLC0415 - optional: the extra `metrics`

    names = [each.name for each in settings.notify.destination]
    return MetricsServer(address_of(settings.metrics.listen), show_path(settings.archive_dir), names)


def _rooms(folders: Mapping[str, str]) -> Mapping[str, Room]:
    """The disks under these folders; those that can't be asked are left out."""
    rooms = {}
    for what, folder in folders.items():
        with suppress(OSError):
            space = os.statvfs(folder)
            rooms[what] = Room(space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize)
    return rooms


def _warn_of_network(archive_dir: str) -> None:
    """Say what an archive on a network may not promise. It is used all the same: with one host nothing is amiss."""
    kind = network_file_system(archive_dir)
    if (doubt := doubt_of_locks(archive_dir)) is not None:
        reason = f"{doubt}: two hosts may both believe that they have the lock"
        log.warning("lock_not_trusted", archive=show_path(archive_dir), reason=reason, hint=_ONE_HOST)
    elif kind is not None:
        reason = f"{kind} remembers for seconds what another host has changed: a summary may be archived twice"
        log.warning("archive_on_network", archive=show_path(archive_dir), reason=reason, hint=_ONE_HOST)


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


def only_courier(settings: Settings) -> AbstractContextManager[None]:
    """Hold the state directory for one courier: two would send the same message twice.

    Raises:
        StopService: another has it, or there is no state file.
    """
    insist_on_state(settings)
    return only_one(state_dir_of(settings.archive_dir, settings.state_dir), COURIER_LOCK, "courier")


def destinations_of(settings: Settings) -> "Sequence[Destination | Target]":
    """What the configured destinations lead to. Imports Apprise, which costs a quarter of a second.

    Raises:
        StopService: a URL can't be read, or Apprise does not understand it, or a file can't be written; the message
            names the destination.
    """
    from modelwarden.sinks.redactor import Redactor  # noqa: PLC0415 - brings the courier along

    redactor = Redactor()
    return [destination_of(each, redactor) for each in settings.notify.destination]


def _sinks_of(settings: Settings, database: Database) -> "list[Sink]":
    """The sinks of the configured destinations, which share what they load. Raises StopService as `destinations_of`."""
    from modelwarden.sinks.announcing import Announcer, AnnouncingSink  # noqa: PLC0415 - the courier's alone
    from modelwarden.sinks.chat.destinations import Destination  # noqa: PLC0415 - brings Apprise along
    from modelwarden.sinks.chat.drawing import draw_apart  # noqa: PLC0415 - likewise
    from modelwarden.sinks.chat.sink import chat_sinks  # noqa: PLC0415 - likewise

    destinations = destinations_of(settings)
    chats = chat_sinks(
        [each for each in destinations if isinstance(each, Destination)],
        database,
        lambda run: os.path.join(settings.archive_dir, run, REPORT_FILE),
        digest_above=settings.notify.digest_above,
        draw=partial(draw_apart, partial(read_histories, settings.archive_dir)),
    )
    announcer = Announcer(Outbox(database), Catalog(database), socket.gethostname())
    others = [AnnouncingSink(each, announcer) for each in destinations if not isinstance(each, Destination)]
    return [*chats, *others]


@contextmanager
def open_courier(
    settings: Settings, metrics: CourierMetrics | None = None, *, drain: bool = False
) -> "Iterator[Courier]":
    """The courier of these settings.

    Args:
        settings: all of them.
        metrics: counts what sends come to.
        drain: whether it is to deliver what is owed now, while nobody archives.

    Raises:
        StopService: a destination's URL is not understood, or the state file can't be used.
    """
    from modelwarden.courier.delivery import Courier  # noqa: PLC0415 - brings Apprise along

    database = open_old_database(settings)
    try:
        yield Courier(
            database,
            _sinks_of(settings, database),
            send_timeout=settings.notify.send_timeout_seconds,
            deadline_seconds=settings.notify.deadline_hours * 3600,
            keep_seconds=settings.notify.keep_delivered_days * 86400,
            host=socket.gethostname(),
            gathers=not drain,
            counted=(metrics or NoCourierMetrics()).sent,
        )
    finally:
        database.close()
