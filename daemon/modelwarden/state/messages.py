"""What the outbox holds: events, whom they are owed to, where a message stands, and every way to stand elsewhere. Pure.

The rule: the table below is the whole of it. A message changes its state by one of these moves and by nothing else; one
that is not in a state that the move begins in stays as it is.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final, NamedTuple


class Kind(StrEnum):
    """What a message is about."""

    RUN = "RUN"
    REJECTED = "REJECTED"
    PROBLEM = "PROBLEM"
    REVIEWED = "REVIEWED"


class Status(StrEnum):
    """Where a message stands."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    DEAD = "dead"
    SUPPRESSED = "suppressed"


OPEN: Final = (Status.DEAD, Status.SENDING, Status.PENDING)
"""Where a message stands that a person may want to see, what needs one first."""


class Move(NamedTuple):
    """What may happen to a message.

    Attributes:
        before: the states in which it may.
        after: the state that it leads to.
        why: what happened.
    """

    before: tuple[Status, ...]
    after: Status
    why: str


BEGIN: Final = Move((Status.PENDING,), Status.SENDING, "a send begins")
DELIVER: Final = Move((Status.SENDING,), Status.DELIVERED, "the service took it")
PUT_OFF: Final = Move((Status.SENDING,), Status.PENDING, "the service did not take it, or nobody knows")
GIVE_UP: Final = Move((Status.SENDING,), Status.DEAD, "it was refused for good, or its deadline is over")
RECOVER: Final = Move((Status.SENDING,), Status.PENDING, "the courier that was sending it died")
LOSE: Final = Move((Status.PENDING,), Status.DEAD, "nobody knows its run any more")
FIND: Final = Move((Status.DEAD,), Status.PENDING, "its run, which nobody knew any more, is there again")
RETRY: Final = Move((Status.DEAD, Status.PENDING), Status.PENDING, "a person asks to try it at once")
DROP: Final = Move((Status.DEAD, Status.PENDING), Status.SUPPRESSED, "a person gives it up")
WITHDRAW: Final = Move((Status.PENDING,), Status.SUPPRESSED, "it is no news any more")

MOVES: Final = (BEGIN, DELIVER, PUT_OFF, GIVE_UP, RECOVER, LOSE, FIND, RETRY, DROP, WITHDRAW)
"""All there are. A message begins as PENDING: when it is owed, or handed over to a destination that stands in. What is
DELIVERED or SUPPRESSED is forgotten after a while."""


class Route(NamedTuple):
    """A destination as far as the outbox needs it: its name, and what it asked for.

    Attributes:
        name: as configured; a message's identity together with its event.
        on: classifications and kinds, such as APPROVED, DROP, REJECTED.
        symbols: shell patterns of the models that it wants to hear of.
    """

    name: str
    on: frozenset[str]
    symbols: tuple[str, ...] = ("*",)

    def wants(self, event: "Event") -> bool:
        """Whether the event has something to say that was asked for."""
        if self.on.isdisjoint(event.topics):
            return False
        if not event.models or "*" in self.symbols:
            return True
        return any(topic in self.on and is_chosen(symbol, self.symbols) for symbol, topic in event.models)


def is_chosen(symbol: str, patterns: Iterable[str]) -> bool:
    """Whether one of the shell patterns fits the symbol; case counts."""
    return any(fnmatchcase(symbol, pattern) for pattern in patterns)


class Judged(NamedTuple):
    """A run was judged: all else is in its rows, which stay for as long as a message about it is owed.

    Attributes:
        run: the run's key (see gate.timestamp.run_key), or another that it has since the archive has it no longer.
    """

    run: int


class Noticed(NamedTuple):
    """Something happened that this text says: its first line what, the others more."""

    text: str


Payload = Judged | Noticed
"""What a message is about: enough to say it, and to say it again."""


class Event(NamedTuple):
    """Something to announce.

    Attributes:
        id: the same for the same event, however often it is noticed.
        kind: what it is about.
        topics: what it has to say; a route that asked for none of them is not owed it.
        payload: what there is to say.
        models: symbol and class of each model of the run, and symbol and CHANGED of each that changed; () if no route
            chooses by symbol.
    """

    id: str
    kind: Kind
    topics: Collection[str]
    payload: Payload
    models: Sequence[tuple[str, str]] = ()


class Owed(NamedTuple):
    """A message to deliver.

    Attributes:
        id: the row.
        event: the event's id.
        destination: the destination's configured name.
        kind: what it is about.
        payload: what there is to say.
        attempts: sends begun before.
        repeated: whether a send began whose end nobody saw.
        created_at: seconds since the epoch.
        deadline: seconds since the epoch; past it the message is dead.
        stands_for: the destination that it was owed to first, if this one stands in for it; else "".
    """

    id: int
    event: str
    destination: str
    kind: Kind
    payload: Payload
    attempts: int
    repeated: bool
    created_at: float
    deadline: float
    stands_for: str


class Bundle(NamedTuple):
    """The messages that one send stands for: one or many, of one destination and kind, owed to the same one first.

    Attributes:
        first: the oldest of them.
        ids: the rows, oldest first.
        payloads: what they say, likewise.
        repeated: whether a send of any of them began whose end nobody saw.
        attempts: sends begun before, of the one that was tried most often.
    """

    first: Owed
    ids: Sequence[int]
    payloads: Sequence[Payload]
    repeated: bool
    attempts: int

    @staticmethod
    def of(message: Owed) -> "Bundle":
        """One message alone."""
        return Bundle(message, (message.id,), (message.payload,), message.repeated, message.attempts)

    @property
    def runs(self) -> Sequence[int]:
        """The keys of the runs that were judged, oldest message first."""
        return tuple(each.run for each in self.payloads if isinstance(each, Judged))

    @property
    def texts(self) -> Sequence[str]:
        """The texts of what was noticed, likewise."""
        return [each.text for each in self.payloads if isinstance(each, Noticed)]


class Row(NamedTuple):
    """A message as `modelwarden outbox` shows it; moments are seconds since the epoch."""

    id: int
    event: str
    destination: str
    kind: str
    run: str | None
    status: str
    attempts: int
    created_at: float
    next_at: float
    deadline: float
    last_error: str | None
    stands_for: str
