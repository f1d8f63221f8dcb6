"""The delivery loop: take what is due, send it, record what came of it.

The rule: `sending` is on disk before a send begins and its result right after, so a crash repeats a message (and says
so) and never loses one. Each destination has a lane of its own: one that hangs holds up no other. A process in which a
send hangs past its deadline ends itself: its parent starts another.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final

from modelwarden.courier.destinations import Delivery, Destination, NotSent, Sent, TimedOut
from modelwarden.courier.digest import (
    Message,
    RunNews,
    many_runs_message,
    problem_message,
    rejected_message,
    run_message,
    series_of,
)
from modelwarden.courier.pacing import LONGEST_PAUSE, CircuitBreaker, TokenBucket, more_may_come
from modelwarden.courier.picture import SHARE, Histories, Pictures
from modelwarden.courier.plot import caption_of
from modelwarden.events import log
from modelwarden.gate.assessment import Classification, count_by_classification
from modelwarden.state.catalog import Catalog
from modelwarden.state.database import Database
from modelwarden.state.outbox import NO_RUN, Kind, Outbox, Owed, is_chosen

OVERTIME: Final = 2.0
"""Seconds past its own timeout after which a send counts as hung."""


@dataclass
class _Lane:
    """The way to one destination: at most one message at a time."""

    destination: Destination
    bucket: TokenBucket = field(default_factory=TokenBucket)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    rows: list[Owed] = field(default_factory=list)  # of the message under way; none: the lane is free
    overdue_at: float = 0.0  # monotonic: when the send under way counts as hung
    hung: bool = False  # a send of its never came back: its thread may still be at it, so there is no second


class Courier:
    """Delivers one state file's outbox.

    Args:
        database: the open state file.
        destinations: by configured name; rows of a destination that is no longer configured wait.
        report_path: from a run's name to the path of its report.
        digest_above: more messages than this owed to one destination at once become one.
        send_timeout: seconds for one send.
        histories: from a run's name to what its picture shows; None for messages without pictures.
        gathers: whether more than `digest_above` wait while others still come; not where none can.
        clock: seconds since the epoch.
        pace_clock: seconds that only ever grow: a stepped clock must not keep a breaker open.
    """

    def __init__(
        self,
        database: Database,
        destinations: Sequence[Destination],
        report_path: Callable[[str], str],
        *,
        digest_above: int,
        send_timeout: float,
        histories: Histories | None = None,
        gathers: bool = False,
        clock: Callable[[], float] = time.time,
        pace_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = Outbox(database)
        self._catalog = Catalog(database)
        self._lanes = {destination.name: _Lane(destination) for destination in destinations}
        self._report_path = report_path
        self._digest_above = digest_above
        self._send_timeout = send_timeout
        self._pictures = None if histories is None else Pictures(histories)
        self._gathers = gathers
        self._clock = clock
        self._pace_clock = pace_clock
        self._ended: SimpleQueue[tuple[_Lane, Delivery]] = SimpleQueue()

    @property
    def hung(self) -> bool:
        """Whether a send may still run past its deadline: when nothing else is under way, end the process."""
        return any(lane.hung for lane in self._lanes.values())

    def unencrypted(self) -> list[str]:
        """The destinations to which mail goes as plain text."""
        return [name for name, lane in self._lanes.items() if lane.destination.goes_unencrypted()]

    def recover(self) -> None:
        """Put back what an earlier courier was sending when it died."""
        count = self._outbox.recover()
        if count:
            log.warning("sends_repeated", count=count, reason="an earlier courier ended during a send")

    def step(self) -> int:
        """Record the sends that ended and begin those that may; return how many messages were delivered.

        Never waits for a destination.
        """
        delivered = self._record_ended()
        self._give_up_overdue()
        for lane in self._lanes.values():
            if not lane.rows and not lane.hung:
                self._begin_next(lane)
        return delivered

    def deliver_due(self) -> int:
        """Send everything that may be sent now, to the end; return how many messages were delivered."""
        delivered = self.step()
        while self.is_sending():
            self._wait_for_an_end(float("inf"))
            delivered += self.step()
        return delivered

    def is_sending(self) -> bool:
        """Whether a message is under way, in any lane, that did not hang."""
        return any(lane.rows for lane in self._lanes.values())

    def is_paced(self) -> bool:
        """Whether something could be sent now, but for the pace of its destination."""
        return any(not lane.rows and self._sendable(lane) for lane in self._lanes.values())

    def finish(self, seconds: float) -> None:
        """Begin nothing more, and let what is under way end, for so long at most."""
        end = time.monotonic() + seconds
        while self.is_sending() and time.monotonic() < end:
            self._wait_for_an_end(end)
            self._record_ended()

    def pending(self) -> int:
        """How many messages are still owed to configured destinations now."""
        return len(self._outbox.due(float("inf"), list(self._lanes)))

    def _record_ended(self) -> int:
        delivered = 0
        while True:
            try:
                lane, outcome = self._ended.get_nowait()
            except Empty:
                return delivered
            if lane.rows:  # else it was given up before
                delivered += self._record(lane, outcome)

    def _wait_for_an_end(self, until: float) -> None:
        """Until a send ends or is overdue, or that moment of the monotonic clock comes."""
        overdue_at = min(lane.overdue_at for lane in self._lanes.values() if lane.rows)
        wait = min(overdue_at, until) - time.monotonic()
        try:
            self._ended.put(self._ended.get(timeout=max(0.001, wait)))
        except Empty:
            return

    def _give_up_overdue(self) -> None:
        for lane in self._lanes.values():
            if lane.rows and time.monotonic() > lane.overdue_at:
                self._record(lane, TimedOut(f"no end after {self._send_timeout:g} s"))

    def _sendable(self, lane: _Lane) -> list[Owed]:
        """What the lane's destination is owed and may be tried now, oldest first."""
        now = self._clock()
        if not lane.breaker.lets_through(self._pace_clock()) or now < self._outbox.muted_until(lane.destination.name):
            return []
        due = self._outbox.due(now, [lane.destination.name], LONGEST_PAUSE)
        return [row for row in due if self._has_its_run(row, now)]

    def _begin_next(self, lane: _Lane) -> None:
        """Begin to send what the lane's destination is owed next, where it may be written to now."""
        due = self._sendable(lane)
        stands_for_all = len(due) > self._digest_above
        if stands_for_all and self._gathers and more_may_come(self._clock(), due[0].created_at, due[-1].created_at):
            return
        if not due or not lane.bucket.take(self._pace_clock()):
            return
        rows = [row for row in due if row.kind is due[0].kind] if stands_for_all else due[:1]
        message, pictured = self._compose(lane.destination, rows)
        self._outbox.sending(rows)
        lane.rows, lane.overdue_at = rows, time.monotonic() + self._send_timeout + OVERTIME
        # A thread of its own and no pool: one that hangs must not hold up another, nor the process's end.
        Thread(target=self._send, args=(lane, message, pictured), name="send", daemon=True).start()

    def _send(self, lane: _Lane, message: Message, pictured: RunNews | None) -> None:
        """On the lane's thread: nothing but the picture and the send, both within the time of one send."""
        end = time.monotonic() + self._send_timeout
        try:
            if pictured is not None and self._pictures is not None:
                picture = self._pictures.of(pictured, SHARE * self._send_timeout)
                message = message._replace(picture=picture, caption=caption_of(pictured) if picture else "")
            outcome = lane.destination.send(message, end - time.monotonic())
        except Exception as error:  # noqa: BLE001 - a library's fault in one send must not end its lane
            outcome = NotSent(lane.destination.redact(f"{type(error).__name__}: {error}"), perhaps_sent=True)
        self._ended.put((lane, outcome))

    def _has_its_run(self, row: Owed, now: float) -> bool:
        """Whether there is something to say. What waits for a run that is away does so until its deadline."""
        if row.kind is not Kind.RUN or row.run_timestamp is not None:
            return True
        if now > row.deadline:
            self._outbox.give_up([row])
            log.error(
                "message_dead",
                destination=row.destination,
                events=[row.event],
                error=NO_RUN,
                hint="`modelwarden verify`",
            )
        return False

    def _record(self, lane: _Lane, outcome: Delivery) -> int:
        """Record what came of the message under way; how many were delivered with it."""
        rows, lane.rows = lane.rows, []
        name, events = lane.destination.name, [row.event for row in rows]
        match outcome:
            case Sent():
                lane.breaker.succeeded()
                self._outbox.delivered(rows)
                log.info("message_delivered", destination=name, events=events)
                return len(rows)
            case NotSent(error) | TimedOut(error):
                lane.hung = isinstance(outcome, TimedOut)
                perhaps_sent = isinstance(outcome, TimedOut) or outcome.perhaps_sent
                attempts = max(row.attempts for row in rows) + 1
                now = self._clock()
                next_at = now + lane.breaker.failed(self._pace_clock(), attempts)
                # What its owner muted in the meantime had no chance: it gets its time again.
                muted_until = self._outbox.muted_until(name)
                rows = [row._replace(deadline=max(row.deadline, _extended(row, muted_until))) for row in rows]
                self._outbox.failed(rows, error, next_at, perhaps_sent=perhaps_sent)
                log.warning("message_not_delivered", destination=name, events=events, attempts=attempts, error=error)
                if dead := [row.event for row in rows if next_at > row.deadline]:
                    log.error("message_dead", destination=name, events=dead, hint="see `modelwarden outbox`")
                self._hand_over(lane, rows, now, next_at)
                return 0

    def _hand_over(self, lane: _Lane, rows: Sequence[Owed], now: float, next_at: float) -> None:
        """Let the fallback stand in for a destination that has failed for long enough, or given up."""
        fallback = lane.destination.fallback
        if fallback not in self._lanes:
            return
        late = [
            row for row in rows if now - row.created_at >= lane.destination.fallback_after or next_at > row.deadline
        ]
        if late and self._outbox.hand_over(late, fallback, now):
            log.warning("fallback_used", destination=lane.destination.name, fallback=fallback, count=len(late))

    def _compose(self, destination: Destination, rows: list[Owed]) -> tuple[Message, RunNews | None]:
        """The message that stands for these, and the run of which it wants a picture."""
        repeated = any(row.repeated for row in rows)
        texts = [row.payload or "" for row in rows]
        mark = _mark(rows[0])
        match rows[0].kind:
            case Kind.REJECTED:
                return rejected_message(texts, repeated=repeated)._replace(mark=mark), None
            case Kind.PROBLEM:
                return problem_message(texts, repeated=repeated)._replace(mark=mark), None
            case Kind.RUN:
                # Who stands in says what the other would have said.
                meant = [self._lanes[each].destination for row in rows if (each := row.stands_for) in self._lanes]
                on = destination.on.union(*(each.on for each in meant))
                symbols = {*destination.symbols, *(pattern for each in meant for pattern in each.symbols)}
                news = [self._news(row, symbols) for row in rows]
                if len(news) > 1:
                    return many_runs_message(news, on, repeated=repeated)._replace(mark=mark), None
                # Every other try goes without a picture: it may be what the service refuses.
                pictured = Classification.APPROVED in on and destination.takes_pictures and rows[0].attempts % 2 == 0
                message = run_message(news[0], on, repeated=repeated)._replace(mark=mark)
                return message, news[0] if pictured else None

    def _news(self, row: Owed, symbols: set[str]) -> RunNews:
        """What the catalog has of the run that a row is about, of the models whose symbols were asked for."""
        name = row.run_timestamp
        run = self._catalog.run(name) if name is not None else None
        if name is None or run is None:
            raise AssertionError(f"{row.event}: a run that is not in the catalog was not to be sent")
        models = self._catalog.assessments(name)
        counts = run.counts
        if "*" not in symbols:
            models = [model for model in models if is_chosen(model.symbol, symbols)]
            counts = count_by_classification(models)
        return RunNews(
            timestamp=name,
            run_name=run.run_name,
            host=run.archived_by,
            report=self._report_path(name),
            counts=counts,
            policy=self._catalog.policy(run.policy),
            assessments=models,
            series=series_of(run.run_name, run.source),
        )


def _extended(row: Owed, muted_until: float) -> float:
    """The deadline of a message that a mute held back: as long from the mute's end as it had from its beginning."""
    return muted_until + (row.deadline - row.created_at) if muted_until > row.created_at else row.deadline


def _mark(row: Owed) -> str:
    """Eight hex digits that say which event it is: the first of the summary's sha256 where it is about a summary."""
    if row.kind is Kind.PROBLEM:
        return hashlib.sha256(row.event.encode()).hexdigest()[:8]
    return row.event.partition(":")[2][:8]
