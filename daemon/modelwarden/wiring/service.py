"""The daemon of the settings: discovery, processing and the pipeline, and the loop over them.

The rule: the workers are forked first, before anything is opened and before the first thread.
"""

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Final

from modelwarden.config import Settings
from modelwarden.config.places import state_dir_of
from modelwarden.durable import make_folder
from modelwarden.filesystems import doubt_of_locks, network_file_system, show_path
from modelwarden.intake.scan import Root
from modelwarden.intake.settling import Settling
from modelwarden.intake.watch import Watch
from modelwarden.log import log
from modelwarden.pipeline.workers import Workers
from modelwarden.service.attempts import Attempts
from modelwarden.service.courier_process import CourierProcess, NoCourier
from modelwarden.service.discovery import Discovery
from modelwarden.service.endings import Endings
from modelwarden.service.lifecycle import Service
from modelwarden.service.metrics import DaemonMetrics, NoMetrics, Room
from modelwarden.service.problems import Expected, Problems
from modelwarden.service.processing import Processing
from modelwarden.service.standing import DAEMON_LOCK, StandingFile
from modelwarden.service.systemd import Notifier
from modelwarden.service.wake import Wake
from modelwarden.wiring.lock import only_one
from modelwarden.wiring.pipeline import insist_on_archive, open_pipeline
from modelwarden.wiring.policies import policies_of
from modelwarden.wiring.state import insist_on_right_user

_ONE_HOST: Final = "let one host alone write to this archive; any number may read"

WORKERS: Final = 2
"""Processes that stage a backlog, if the host has as many cores. This process publishes what they made."""


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
    insist_on_archive(settings)
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
