"""Sending a test message for a command, to a service that may never answer.

The rule: who asks has an answer in time: a send that hangs is left to itself.
"""

from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from modelwarden.courier.pacing import OVERTIME
from modelwarden.sinks.protocol import Delivery, PerhapsDelivered, outcome_of

if TYPE_CHECKING:
    from modelwarden.sinks.announcing import Target
    from modelwarden.sinks.chat.destinations import Destination


def tested(destination: "Destination | Target", seconds: float) -> Delivery:
    """What a test message came to within so many seconds, as the courier would see it."""
    came: SimpleQueue[Delivery] = SimpleQueue()

    def send() -> None:
        came.put(outcome_of(destination.test, seconds, destination.redact))

    # A timeout of a socket is one of each read: a server that says a byte a second is never too late.
    Thread(target=send, name="send", daemon=True).start()
    try:
        return came.get(timeout=seconds + OVERTIME)
    except Empty:
        return PerhapsDelivered(f"no end after {seconds:g} s", is_hung=True)
