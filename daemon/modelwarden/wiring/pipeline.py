"""The pipeline of the settings: the archive, the state and the walk over them.

The rule: what is opened here is given back here, the walk first.
"""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

from modelwarden.archive.identity import has_identity
from modelwarden.archive.publishing import Archive
from modelwarden.config import Settings
from modelwarden.config.places import state_dir_of
from modelwarden.errors import StopService
from modelwarden.filesystems import show_path
from modelwarden.pipeline.policies import Policies
from modelwarden.pipeline.staging import Judging
from modelwarden.pipeline.walk import Pipeline
from modelwarden.pipeline.workers import Workers
from modelwarden.service.bell import ring_bell
from modelwarden.state.messages import Route
from modelwarden.wiring.policies import policies_of
from modelwarden.wiring.state import insist_on_right_user, open_database


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
        owner: what runs record as `daemon_id`, if nobody is to announce them; None: the state's.
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
    insist_on_archive(settings, adopts=adopts)
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


def insist_on_archive(settings: Settings, *, adopts: bool = False) -> None:
    """Raise StopService if a start would make the state in an archive that is not there and may not be made."""
    if settings.state_dir is None and not (settings.create_archive or adopts or has_identity(settings.archive_dir)):
        raise StopService(
            "there is no archive, and create_archive = false",
            where=show_path(settings.archive_dir),
            hint="mount its disk; for a new archive: `modelwarden adopt`",
        )
