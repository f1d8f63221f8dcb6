"""What the others hear of a destination that can't be reached, or that gave messages up.

The rule: each trouble is told once, and its end once to those who heard of it; never to the destination itself, not
even in another's place.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from modelwarden.log import log
from modelwarden.sinks.protocol import Sink
from modelwarden.state.database import Database
from modelwarden.state.messages import Event, Kind, Noticed, Route
from modelwarden.state.outbox import Outbox
from modelwarden.state.troubles import Trouble, Troubles

_KINDS: Final = frozenset({Kind.PROBLEM})


class Watchman:
    """Sees which destinations fail for long, and owes the others a message about it.

    Args:
        database: the open state file.
        outbox: takes the messages.
        destinations: by configured name.
        host: named in each message.
        clock: seconds since the epoch.
        deadline_seconds: how long a message may be tried.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        destinations: Mapping[str, Sink],
        host: str,
        clock: Callable[[], float],
        deadline_seconds: float,
    ) -> None:
        self._troubles = Troubles(database)
        self._outbox = outbox
        self._destinations = destinations
        self._host = host
        self._clock = clock
        self._deadline_seconds = deadline_seconds

    def recover(self) -> None:
        """Start-up: what is not configured any more is in no trouble."""
        self._troubles.keep(self._destinations)

    def failed(self, destination: Sink, error: str, dead: int) -> None:
        """Inside the transaction that records it: a send failed, after which so many messages are dead."""
        name, now = destination.name, self._clock()
        known = self._troubles.of(name)
        trouble = known or Trouble(now, is_told=False)
        if trouble.since > now:  # the clock was stepped back
            trouble = trouble._replace(since=now)
        if not trouble.is_told and (dead or now - trouble.since >= destination.fallback_after):
            self._tell_others(destination, trouble.since, error, dead)
            trouble = trouble._replace(is_told=True)
        if trouble != known:
            self._troubles.note(name, trouble)

    def succeeded(self, destination: Sink) -> None:
        """Inside the transaction that records it: the destination took a message."""
        name, now = destination.name, self._clock()
        trouble = self._troubles.of(name)
        if trouble is None:
            return
        self._troubles.end(name)
        if not trouble.is_told:
            return
        event = about(name) + f"{trouble.since:.3f}"
        # Who has not been told yet need not hear of either.
        heard = self._outbox.withdraw(event, f"{name} is reached again", now)
        routes = [Route(each, _KINDS) for each in heard if each in self._destinations and each != name]
        text = f"{name} is reached again\nit could not be since {_moment(trouble.since)}"
        self._owe(f"{event}:over", text, routes)
        log.info("destination_reached_again", destination=name, told=[route.name for route in routes])

    def _tell_others(self, destination: Sink, since: float, error: str, dead: int) -> None:
        name = destination.name
        routes = [Route(each.name, each.on) for each in self._destinations.values() if each is not destination]
        follows = "what it is owed waits, and is tried again: see `modelwarden outbox`"
        if dead:
            follows = "messages to it were given up: `modelwarden outbox` lists them, `... outbox retry` revives them"
        text = f"{name} can't be reached since {_moment(since)}\n{error}\n{follows}"
        self._owe(about(name) + f"{since:.3f}", text, routes)
        log.warning("destination_in_trouble", destination=name, since=_moment(since), dead=dead, error=error)

    def _owe(self, identity: str, text: str, routes: list[Route]) -> None:
        now = self._clock()
        event = Event(identity, Kind.PROBLEM, (Kind.PROBLEM,), Noticed(f"{text}\nhost: {self._host}"))
        self._outbox.owe([event], routes, now, now + self._deadline_seconds)


def about(destination: str) -> str:
    """How the ids of events about a destination begin."""
    return f"problem:destination:{destination}:"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
