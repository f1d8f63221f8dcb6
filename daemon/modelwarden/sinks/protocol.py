"""What the courier knows of a sink: its name, what one call may hold, and the closed set of what a call may come to.

The rule: the courier decides when something is sent, and the sink what is sent and how. A sink says honestly what came
of it: in doubt it was perhaps delivered, and then the next try says that it may be a repeat.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from modelwarden.state.messages import Bundle


class Delivered(NamedTuple):
    """It was taken. It is never sent again."""


class Refused(NamedTuple):
    """It was refused for good: no later try can come to anything else. It is dead at once.

    Attributes:
        error: what was said, without secrets.
    """

    error: str


class TryLater(NamedTuple):
    """It was not taken, and a later try may be.

    Attributes:
        error: what was said, without secrets.
        pause: seconds that the other side asked to be left in peace; 0 if it did not ask.
    """

    error: str
    pause: float = 0.0


class PerhapsDelivered(NamedTuple):
    """Nobody knows whether it was taken: it is tried again, as a possible repeat.

    Attributes:
        error: what was said, without secrets.
        is_hung: whether the call may still be running in this process, which then has to end.
    """

    error: str
    is_hung: bool = False


Delivery = Delivered | Refused | TryLater | PerhapsDelivered

OUTCOMES: Final[dict[type[Delivery], str]] = {
    Delivered: "delivered",
    Refused: "refused",
    TryLater: "try_later",
    PerhapsDelivered: "perhaps_delivered",
}
"""What figures and answers call them."""

Call = Callable[[float], Delivery]
"""A call that is ready: sends within so many seconds, on a thread of its own; reads nothing from the state any more."""


def outcome_of(call: Call, seconds: float, redact: Callable[[str], str]) -> Delivery:
    """Make the call; what it raises, a library's fault, is an answer too, and leaves open whether it was taken.

    Args:
        call: to make.
        seconds: how long it may take.
        redact: takes the secrets out of what is said.
    """
    try:
        return call(seconds)
    except Exception as error:  # noqa: BLE001 - a library's fault in one send must not end who sends
        return PerhapsDelivered(redact(f"{type(error).__name__}: {error}"))


class Bundling(NamedTuple):
    """What a sink may be sent in one call.

    Attributes:
        above: if more than so many are owed at once, one call stands for many; else for one.
        most: at most for so many; any number if negative.
        gathers: whether it is worth waiting for others, while they still come.
    """

    above: int
    most: int = -1
    gathers: bool = False


ONE_AT_A_TIME = Bundling(above=0, most=1)


class Sink(ABC):
    """One configured destination.

    Args:
        name: as configured: it is what a message is owed to.
        on: classifications and kinds that it asked for.
        symbols: shell patterns of the models that it wants to hear of.
        fallback: the destination that stands in for it, "" for none.
        fallback_after: seconds that a message may be owed until then.

    Attributes:
        bundling: what it may be sent in one call.
    """

    bundling: Bundling = ONE_AT_A_TIME

    def __init__(
        self,
        name: str,
        on: Sequence[str],
        symbols: Sequence[str] = ("*",),
        fallback: str = "",
        fallback_after: float = 0.0,
    ) -> None:
        self.name = name
        self.on = frozenset(on)
        self.symbols = tuple(symbols)
        self.fallback = fallback
        self.fallback_after = fallback_after

    def start_over(self) -> None:  # noqa: B027 - most keep nothing
        """A new look at what is owed begins: let go of what was loaded before it."""

    @abstractmethod
    def prepare(self, bundle: Bundle, asked: "Sink") -> Call | None:
        """The call that says these; None if nobody knows a run of theirs. On the courier's thread: may read the state.

        Args:
            bundle: what one call is to stand for, as `bundling` allows.
            asked: who was owed it first: it is said what that one asked for.
        """

    @abstractmethod
    def test(self, seconds: float) -> Delivery:
        """Send something that is about no run, within so many seconds."""

    def redact(self, text: str) -> str:
        """The text without secrets."""
        return text

    def goes_unencrypted(self) -> bool:
        """Whether what is sent, or a password, crosses a network as plain text."""
        return False
