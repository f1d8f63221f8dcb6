"""The delivery loop: take what is due, send it, record what came of it.

The rule: `sending` is on disk before a send begins and its result right after, so a crash repeats a message (and says
so) and never loses one. A process in which a send hangs past its deadline ends itself: its parent starts another.
"""

import random
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Final

from modelwarden.courier.destinations import Destination, NotSent, Sent, TimedOut
from modelwarden.courier.digest import (
    Message,
    RunNews,
    many_runs_message,
    rejected_message,
    run_message,
)
from modelwarden.events import log
from modelwarden.state.catalog import Catalog
from modelwarden.state.database import Database
from modelwarden.state.outbox import Kind, Outbox, Owed

FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 900.0
"""Seconds between tries: full jitter over an exponential from 5 s to 15 min."""


class Courier:
    """Delivers one state file's outbox.

    Args:
        database: the open state file.
        destinations: by configured name; rows of a destination that is no longer configured wait.
        report_path: from a run's name to the path of its report.
        digest_above: more messages than this owed to one destination at once become one.
        send_timeout: seconds for one send.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        destinations: Sequence[Destination],
        report_path: Callable[[str], str],
        *,
        digest_above: int,
        send_timeout: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._outbox = Outbox(database)
        self._catalog = Catalog(database)
        self._destinations = {destination.name: destination for destination in destinations}
        self._report_path = report_path
        self._digest_above = digest_above
        self._send_timeout = send_timeout
        self._clock = clock
        self.hung = False

    def recover(self) -> None:
        """Put back what an earlier courier was sending when it died."""
        count = self._outbox.recover()
        if count:
            log.warning("sends_repeated", count=count, reason="an earlier courier ended during a send")

    def deliver_due(self) -> int:
        """Send everything that is due now; return how many rows were delivered.

        Afterwards `hung` tells whether a send still runs past its deadline: end the process then.
        """
        due = self._outbox.due(self._clock(), list(self._destinations))
        moot = [row for row in due if row.kind is Kind.RUN and row.run_timestamp is None]
        if moot:
            self._outbox.suppress(moot, "the run is no longer in the archive")
            due = [row for row in due if row not in moot]
        delivered = 0
        for name, owed in groupby(sorted(due, key=lambda row: (row.destination, row.id)), lambda row: row.destination):
            delivered += self._deliver_to(self._destinations[name], list(owed))
        return delivered

    def pending(self) -> int:
        """How many messages are still owed to configured destinations now."""
        return len(self._outbox.due(float("inf"), list(self._destinations)))

    def _deliver_to(self, destination: Destination, owed: list[Owed]) -> int:
        delivered = 0
        bundles = [owed] if len(owed) > self._digest_above else [[row] for row in owed]
        for position, bundle in enumerate(bundles):
            for kind in Kind:
                rows = [row for row in bundle if row.kind is kind]
                if not rows:
                    continue
                if not self._send(destination, rows):
                    # What waits behind it would fail alike: one try a pause, not one a message.
                    self._put_off(destination, [row for later in bundles[position + 1 :] for row in later])
                    return delivered
                delivered += len(rows)
        return delivered

    def _send(self, destination: Destination, rows: list[Owed]) -> bool:
        message = self._compose(destination, rows)
        self._outbox.sending(rows)
        outcome = destination.send(message, self._send_timeout)
        events = [row.event for row in rows]
        match outcome:
            case Sent():
                self._outbox.delivered(rows)
                log.info("message_delivered", destination=destination.name, events=events)
                return True
            case NotSent(error) | TimedOut(error):
                timed_out = isinstance(outcome, TimedOut)
                self.hung = self.hung or timed_out
                next_at = self._clock() + pause_after(max(row.attempts for row in rows) + 1)
                self._outbox.failed(rows, error, next_at, perhaps_sent=timed_out)
                log.warning(
                    "message_not_delivered",
                    destination=destination.name,
                    events=events,
                    attempts=max(row.attempts for row in rows) + 1,
                    error=error,
                )
                return False

    def _put_off(self, destination: Destination, rows: list[Owed]) -> None:
        if rows:
            next_at = self._clock() + FIRST_PAUSE
            self._outbox.failed(rows, f"behind a failed message to {destination.name}", next_at)

    def _compose(self, destination: Destination, rows: list[Owed]) -> Message:
        repeated = any(row.repeated for row in rows)
        if rows[0].kind is Kind.REJECTED:
            return rejected_message([row.payload or "" for row in rows], repeated=repeated)
        news = [self._news(row) for row in rows]
        if len(news) == 1:
            return run_message(news[0], destination.on, repeated=repeated)
        return many_runs_message(news, destination.on, repeated=repeated)

    def _news(self, row: Owed) -> RunNews:
        """What the catalog has of the run that a row is about."""
        name = row.run_timestamp
        run = self._catalog.run(name) if name is not None else None
        if name is None or run is None:
            raise AssertionError(f"{row.event}: a run without a name was to be suppressed")
        return RunNews(
            timestamp=name,
            run_name=run.run_name,
            host=run.archived_by,
            report=self._report_path(name),
            counts=run.counts,
            policy=self._catalog.policy(run.policy),
            assessments=self._catalog.assessments(name),
        )


def pause_after(attempts: int) -> float:
    """Seconds to wait after so many failed attempts: full jitter, so that many hosts don't try in step."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 30))
    return random.uniform(0, longest)  # noqa: S311 - spreads load, keeps no secret
