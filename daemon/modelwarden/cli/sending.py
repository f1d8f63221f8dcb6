"""Sending a test message for a command, to a service that may never answer.

The rule: who asks has an answer in time, and the prompt back: a send that hangs is left to itself.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NoReturn

import typer

from modelwarden.courier.delivery import OVERTIME
from modelwarden.sinks.protocol import Delivery, PerhapsDelivered

if TYPE_CHECKING:
    from modelwarden.sinks.announcing import Target
    from modelwarden.sinks.chat.destinations import Destination

_left_behind: Final = threading.Event()
"""Set once the thread of a send may go on for as long as a server likes."""


def tested(destination: "Destination | Target", seconds: float) -> Delivery:
    """What a test message came to within so many seconds, as the courier would see it."""
    came: SimpleQueue[Delivery] = SimpleQueue()

    def send() -> None:
        try:
            came.put(destination.test(seconds))
        except Exception as error:  # noqa: BLE001 - a library's fault is an answer, too
            came.put(PerhapsDelivered(destination.redact(f"{type(error).__name__}: {error}")))

    # A timeout of a socket is one of each read: a server that says a byte a second is never too late.
    threading.Thread(target=send, name="send", daemon=True).start()
    try:
        outcome = came.get(timeout=seconds + OVERTIME)
    except Empty:
        outcome = PerhapsDelivered(f"no end after {seconds:g} s", is_hung=True)
    if isinstance(outcome, PerhapsDelivered) and outcome.is_hung:
        _left_behind.set()
    return outcome


@contextmanager
def leaving_sends_behind() -> Iterator[None]:
    """While entered test messages may be sent: one that hangs does not hold up the end of the process.

    Apprise sends on a thread that the interpreter would wait for.
    """
    code = 0
    try:
        yield
    except typer.Exit as end:
        code = end.exit_code
    if _left_behind.is_set():
        sys.stdout.flush()
        exit_now(code)
    if code:
        raise typer.Exit(code)


def exit_now(code: int) -> NoReturn:
    """End without waiting for threads that send."""
    sys.stderr.flush()
    os._exit(code)
