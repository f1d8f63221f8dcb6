"""The delivery loop: take what is due, send it, record what came of it.

The rule: `sending` is on disk before a send begins and its result right after, so a crash repeats a message (and says
so) and never loses one. Each destination has a lane of its own: one that hangs holds up no other. A process in which a
send hangs past its deadline ends itself: its parent starts another.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final

from modelwarden.courier.pacing import LONGEST_PAUSE, OVERTIME, CircuitBreaker, TokenBucket, more_may_come
from modelwarden.courier.troubles import Watchman, about
from modelwarden.errors import RetryLater
from modelwarden.log import log
from modelwarden.sinks.protocol import (
    OUTCOMES,
    Call,
    Delivered,
    Delivery,
    PerhapsDelivered,
    Refused,
    Sink,
    TryLater,
    outcome_of,
)
from modelwarden.state.database import Database
from modelwarden.state.messages import Bundle, Owed, Status
from modelwarden.state.outbox import FORGOTTEN_AT_ONCE, NO_RUN, Outbox
from modelwarden.state.reading import Messages

DEADLINE_SECONDS: Final = 48 * 3600.0
KEEP_SECONDS: Final = 90 * 86400.0

FORGET_EVERY: Final = 3600.0
"""Seconds between two looks for what is old enough to be forgotten."""


@dataclass
class _Lane:
    """The way to one destination: at most one message at a time."""

    sink: Sink
    bucket: TokenBucket = field(default_factory=TokenBucket)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    bundle: Bundle | None = None  # what the message under way stands for; None: the lane is free
    overdue_at: float = 0.0  # monotonic: when the send under way counts as hung
    hung: bool = False  # a send of its never came back: its thread may still be at it, so there is no second


class Courier:
    """Delivers one state file's outbox.

    Args:
        database: the open state file.
        sinks: the destinations; rows of a destination that is no longer configured wait.
        send_timeout: seconds for one send.
        deadline_seconds: how long a message is tried.
        keep_seconds: how long what was delivered is remembered.
        host: named in messages about a destination that fails.
        gathers: whether what one message may stand for waits while others still come; not if none can.
        counted: told each send's destination and what it came to: `delivered`, `refused`, `try_later` or
            `perhaps_delivered`.
        clock: seconds since the epoch.
        pace_clock: seconds that only ever grow: a stepped clock must not keep a breaker open.
    """

    def __init__(
        self,
        database: Database,
        sinks: Sequence[Sink],
        *,
        send_timeout: float,
        deadline_seconds: float = DEADLINE_SECONDS,
        keep_seconds: float = KEEP_SECONDS,
        host: str = "",
        gathers: bool = False,
        counted: Callable[[str, str], object] = lambda _destination, _outcome: None,
        clock: Callable[[], float] = time.time,
        pace_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._outbox = Outbox(database)
        self._lanes = {sink.name: _Lane(sink) for sink in sinks}
        by_name = {sink.name: sink for sink in sinks}
        self._watchman = Watchman(database, self._outbox, by_name, host, clock, deadline_seconds)
        self._send_timeout = send_timeout
        self._deadline_seconds = deadline_seconds
        self._keep_seconds = keep_seconds
        self._forget_at = float("-inf")
        self._gathers = gathers
        self._counted = counted
        self._clock = clock
        self._pace_clock = pace_clock
        self._ended: SimpleQueue[tuple[_Lane, Delivery]] = SimpleQueue()

    @property
    def hung(self) -> bool:
        """Whether a send may still run past its deadline: when nothing else is under way, end the process."""
        return any(lane.hung for lane in self._lanes.values())

    def is_cut_off(self) -> bool:
        """Whether what is owed is written to another file than the one that is open here."""
        return self._database.is_cut_off()

    def unencrypted(self) -> list[str]:
        """The destinations to which mail goes as plain text."""
        return [name for name, lane in self._lanes.items() if lane.sink.goes_unencrypted()]

    def recover(self) -> None:
        """Put back what an earlier courier was sending when it died."""
        self._watchman.recover()
        count = self._outbox.recover()
        if count:
            log.warning("sends_repeated", count=count, reason="an earlier courier ended during a send")

    def step(self, is_stopping: Callable[[], bool] = lambda: False) -> int:
        """Record the sends that ended and begin those that may; return how many messages were delivered.

        Never waits for a destination. Once it `is_stopping`, nothing more is begun.
        """
        delivered = self._record_ended()
        self._give_up_overdue()
        for lane in self._lanes.values():
            lane.sink.start_over()
        for lane in self._lanes.values():
            if is_stopping():
                return delivered
            if lane.bundle is None and not lane.hung:
                self._begin_next(lane)
        self._forget()
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
        return any(lane.bundle is not None for lane in self._lanes.values())

    def is_paced(self) -> bool:
        """Whether something could be sent now, but for the pace of its destination."""
        return any(lane.bundle is None and self._sendable(lane, 1) for lane in self._lanes.values())

    def finish(self, seconds: float) -> None:
        """Begin nothing more, and let what is under way end, for so long at most."""
        end = time.monotonic() + seconds
        while self.is_sending() and time.monotonic() < end:
            self._wait_for_an_end(end)
            self._record_ended()

    def is_owed(self) -> bool:
        """Whether anything is owed to configured destinations, due or not."""
        return self._outbox.is_waiting(self._lanes)

    def pending(self) -> int:
        """How many messages are still owed to configured destinations now."""
        return self._outbox.counts(self._lanes)[Status.PENDING]

    def open_messages(self) -> Messages | None:
        """How many messages stand open, to any destination; None if the state file can't be asked just now."""
        return self._outbox.open_messages()

    def _record_ended(self) -> int:
        delivered = 0
        while True:
            try:
                lane, outcome = self._ended.get_nowait()
            except Empty:
                return delivered
            if lane.bundle is not None:  # else it was given up before
                delivered += self._record(lane, lane.bundle, outcome)

    def _wait_for_an_end(self, until: float) -> None:
        """Until a send ends or is overdue, or that moment of the monotonic clock comes."""
        overdue_at = min(lane.overdue_at for lane in self._lanes.values() if lane.bundle is not None)
        wait = min(overdue_at, until) - time.monotonic()
        try:
            self._ended.put(self._ended.get(timeout=max(0.001, wait)))
        except Empty:
            return

    def _give_up_overdue(self) -> None:
        for lane in self._lanes.values():
            if lane.bundle is not None and time.monotonic() > lane.overdue_at:
                self._record(
                    lane, lane.bundle, PerhapsDelivered(f"no end after {self._send_timeout:g} s", is_hung=True)
                )

    def _sendable(self, lane: _Lane, limit: int) -> list[Owed]:
        """What the lane's destination is owed and may be tried now, oldest first, so many at most."""
        now, name = self._clock(), lane.sink.name
        if now < self._outbox.muted_until(name):
            return []
        return self._outbox.due(name, now, LONGEST_PAUSE, limit, hurried=self._is_shut(lane))

    def _is_shut(self, lane: _Lane) -> bool:
        """Whether the destination is left in peace because it fails: but for what a person asked to try at once."""
        return not lane.breaker.lets_through(self._pace_clock())

    def _begin_next(self, lane: _Lane) -> None:
        """Begin to send what the lane's destination is owed next, if it may be written to now."""
        now, name, bundling = self._clock(), lane.sink.name, lane.sink.bundling
        due = self._sendable(lane, bundling.above + 1)
        if not due:
            return
        hurried, stands_for_all = self._is_shut(lane), len(due) > bundling.above
        if stands_for_all and bundling.gathers and self._gathers and not hurried:
            (newest,) = self._outbox.due(name, now, LONGEST_PAUSE, 1, newest=True)
            if more_may_come(now, due[0].created_at, newest.created_at):
                return
        if not lane.bucket.take(self._pace_clock()):
            return
        if stands_for_all:
            bundle = self._outbox.bundle(due[0], now, LONGEST_PAUSE, bundling.most, hurried=hurried)
        else:
            bundle = Bundle.of(due[0])
        asked = self._lanes.get(bundle.first.stands_for, lane).sink
        call = lane.sink.prepare(bundle, asked)
        if call is None:
            if lost := self._outbox.lose(bundle.ids):
                log.error("message_dead", destination=name, count=lost, error=NO_RUN, hint="`modelwarden verify`")
            return
        if not self._outbox.sending(bundle.ids):
            return
        lane.bundle, lane.overdue_at = bundle, time.monotonic() + self._send_timeout + OVERTIME
        # A thread of its own and no pool: one that hangs must not hold up another, nor the process's end.
        Thread(target=self._send, args=(lane, call), name="send", daemon=True).start()

    def _send(self, lane: _Lane, call: Call) -> None:
        """On the lane's thread: nothing but the call."""
        self._ended.put((lane, outcome_of(call, self._send_timeout, lane.sink.redact)))

    def _forget(self) -> None:
        """Forget some of what was delivered long ago, and go on with the next step while there is more."""
        now = self._pace_clock()
        if now < self._forget_at:
            return
        with suppress(RetryLater):  # a full disk: there is time
            if self._outbox.forget(self._clock() - self._keep_seconds) == FORGOTTEN_AT_ONCE:
                return
        self._forget_at = now + FORGET_EVERY

    def _record(self, lane: _Lane, bundle: Bundle, outcome: Delivery) -> int:
        """Record what came of the message under way; how many were delivered with it."""
        lane.bundle = None
        name, ids, now = lane.sink.name, bundle.ids, self._clock()
        self._counted(name, OUTCOMES[type(outcome)])
        match outcome:
            case Delivered():
                lane.breaker.succeeded()
                self._outbox.delivered(ids, now, lambda: self._watchman.succeeded(lane.sink))
                log.info("message_delivered", destination=name, **_said(bundle))
                return len(ids)
            case Refused(error) | TryLater(error) | PerhapsDelivered(error):
                lane.hung = isinstance(outcome, PerhapsDelivered) and outcome.is_hung
                perhaps_sent = isinstance(outcome, PerhapsDelivered)
                attempts = bundle.attempts + 1
                next_at, is_final = now, isinstance(outcome, Refused)
                if not is_final:  # else it answers: what else it is owed need not wait
                    asked = outcome.pause if isinstance(outcome, TryLater) else 0.0
                    next_at += lane.breaker.failed(self._pace_clock(), attempts, asked)
                muted_until = self._outbox.muted_until(name)
                dead = self._outbox.failed(
                    ids,
                    error,
                    next_at,
                    perhaps_sent=perhaps_sent,
                    is_final=is_final,
                    muted_until=muted_until,
                    deadline_seconds=self._deadline_seconds,
                    also=lambda dead: self._watchman.failed(lane.sink, error, dead),
                )
                log.warning("message_not_delivered", destination=name, **_said(bundle), attempts=attempts, error=error)
                if dead:
                    hint = "see `modelwarden outbox`"
                    log.error("message_dead", destination=name, **_said(bundle), dead=dead, error=error, hint=hint)
                self._hand_over(lane.sink, ids, now, muted_until)
                return 0

    def _hand_over(self, destination: Sink, ids: Sequence[int], now: float, muted_until: float) -> None:
        """Let the fallback stand in for a destination that has failed for long enough, or given up.

        For all that waits for so long, tried or not: what stands behind a message that fails would fail alike.
        """
        fallback = destination.fallback
        if fallback not in self._lanes:
            return
        count = self._outbox.hand_over(
            destination.name,
            fallback,
            now,
            now + self._deadline_seconds,
            # What was muted until just now did not fail until then.
            owed_before=now - destination.fallback_after if now - muted_until >= destination.fallback_after else 0.0,
            ids=ids,
            except_about=about(fallback),
        )
        if count:
            log.warning("fallback_used", destination=destination.name, fallback=fallback, count=count)


def _said(bundle: Bundle) -> dict[str, object]:
    """What a log line says of the messages: the first one's event, and how many there are."""
    return {"about": bundle.first.event, "count": len(bundle.ids)}
