"""The courier of the settings: its sinks, its metrics, and the delivery over them.

The rule: whoever delivers holds the state directory's lock for couriers: two would send the same message twice.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from modelwarden.archive.histories import read_histories
from modelwarden.archive.record import REPORT_FILE
from modelwarden.config import Settings
from modelwarden.config.addresses import address_of
from modelwarden.config.places import state_dir_of
from modelwarden.filesystems import show_path
from modelwarden.service.metrics import CourierMetrics, NoCourierMetrics
from modelwarden.service.standing import COURIER_LOCK
from modelwarden.state.catalog import Catalog
from modelwarden.state.database import Database
from modelwarden.state.outbox import Outbox
from modelwarden.wiring.destinations import destinations_of
from modelwarden.wiring.lock import only_one
from modelwarden.wiring.state import insist_on_state, open_old_database

if TYPE_CHECKING:
    from modelwarden.courier.delivery import Courier
    from modelwarden.sinks.protocol import Sink


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


def only_courier(settings: Settings) -> AbstractContextManager[None]:
    """Hold the state directory for one courier: two would send the same message twice.

    Raises:
        StopService: another has it, or there is no state file.
    """
    insist_on_state(settings)
    return only_one(state_dir_of(settings.archive_dir, settings.state_dir), COURIER_LOCK, "courier")


@contextmanager
def open_courier(
    settings: Settings, metrics: CourierMetrics | None = None, *, drain: bool = False
) -> Iterator["Courier"]:
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


def courier_metrics(settings: Settings) -> CourierMetrics:
    """What the courier tells its metrics to."""
    if settings.metrics.listen is None:
        return NoCourierMetrics()
    from modelwarden.service.metrics_server import MetricsServer  # noqa: PLC0415 - optional: the extra `metrics`

    names = [each.name for each in settings.notify.destination]
    return MetricsServer(address_of(settings.metrics.listen), show_path(settings.archive_dir), names)
