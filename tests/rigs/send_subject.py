"""The courier that is killed: all of it but its waiting and its threads.

The rule: everything between a row that is owed and what is recorded of it is the product's own, put together by
`wiring` as for the courier, and Apprise's. Left out are the threads, of both, so that every call is made in the same
order.

Run as a program it has imported everything and forks a life for each order that it is given (`rigs.lives` gives them).
"""

import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from modelwarden.config import Settings
from modelwarden.courier import delivery
from modelwarden.sinks.chat.destinations import Destination
from modelwarden.sinks.chat.digest import Message
from modelwarden.wiring.courier import only_courier, open_courier
from rigs.crash_subject import Life, serve


class _NoThread:
    """In place of a thread: who starts it does it."""

    def __init__(self, *, target: Callable[..., None], args: Sequence[Any], **_: object) -> None:
        self.start = lambda: target(*args)


class _NoPool:
    """In place of Apprise's threads: who hands something in does it."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args))
        return future


class CourierLife(Life):
    """A courier that delivers what may be delivered, and ends."""

    def _serve(self, settings: Settings) -> None:
        with only_courier(settings), open_courier(settings, drain=True) as courier:
            courier._clock = lambda: time.time() + self._orders.late
            for lane in courier._lanes.values():
                setattr(lane.sink, "_pictures", None)  # noqa: B010 - drawn on a thread of their own; not every sink has them
            courier.recover()
            self._stop("send")
            courier.deliver_due()


def _import_what_is_imported_late() -> None:
    """Send a message to nobody: what a library imports at its first use is no part of the way."""
    Destination("nobody", "json://127.0.0.1:9/", ("APPROVED",)).send(Message("title", "text"), 5.0)


if __name__ == "__main__":
    setattr(delivery, "Thread", _NoThread)  # noqa: B010 - no type checker may think of it so
    setattr(sys.modules["apprise.apprise"], "get_shared_executor", _NoPool)  # noqa: B010 - likewise
    _import_what_is_imported_late()
    serve(socket.socket(fileno=int(sys.argv[1])), CourierLife)
