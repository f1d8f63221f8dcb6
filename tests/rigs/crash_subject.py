"""The process that is killed, stopped or refused something: the daemon without its waiting.

The rule: everything on a file's path is the product's own, put together by `wiring` as for the daemon. Left out are the
watch, the pauses, and workers that so few files give nothing to do, so that a life lasts milliseconds, has one thread
and makes the same calls every time.

Run as a program it has imported everything and forks a life for each order that it is given (`rigs.lives` gives them).
"""

import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from typing import Any, Final, TypeVar

from modelwarden.config import Settings, load_settings
from modelwarden.errors import ModelwardenError
from modelwarden.fingerprint import Fingerprint
from modelwarden.log import LOGGER_NAME
from modelwarden.service.lifecycle import Service
from modelwarden.state import database
from modelwarden.wiring import service as wired_service
from modelwarden.wiring.service import open_service

T = TypeVar("T")
U = TypeVar("U")

_DIE_WITH_PARENT: Final = 1  # prctl(2): PR_SET_PDEATHSIG
_LET_BE_TRACED: Final = 0x59616D61  # prctl(2): PR_SET_PTRACER; by whom: anybody

_BUSY_SECONDS: Final = 1.0
"""How long a life waits for its state file, which nobody else uses: less than the daemon, so that a rig need not."""

_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}
"""What every log record has; the rest are an event's keys."""


@dataclass(frozen=True)
class Orders:
    """What a life does: it starts, deals with each batch, and ends.

    Attributes:
        config: the settings' file.
        batches: the files of each batch, by path.
        stops: where it waits for a word before it goes on: "start"; a batch's number; "again", wherever the daemon
            would pause before it tries what was refused again.
        tries: how often a batch is tried.
        threads: whether several runs are synced by the product's threads, not by the first one after the other; with
            its workers beside it.
        late: seconds by which its clock is ahead, where it is one that looks at it.
    """

    config: str
    batches: Sequence[Sequence[str]] = ()
    stops: Sequence[str] = ()
    tries: int = 1
    threads: bool = False
    late: float = 0.0


@dataclass(frozen=True)
class Report:
    """What a life tells at its end.

    Attributes:
        events: what it logged.
        dealt: the files that need no more work.
        ended: the sentence with which the command would have ended, or "".
        unforeseen: the traceback with which it would have, or "".
    """

    events: list[dict[str, Any]] = field(default_factory=list)
    dealt: list[str] = field(default_factory=list)
    ended: str = ""
    unforeseen: str = ""

    def told(self) -> list[dict[str, Any]]:
        """The warnings and errors among the events."""
        return [event for event in self.events if event["level"] >= logging.WARNING]


class _OneThread:
    """In place of a pool of threads: the caller does it."""

    def map(self, function: Callable[[T], U], values: Iterable[T]) -> Iterator[U]:
        return map(function, values)

    def shutdown(self) -> None:
        pass


class _Pauses:
    """In place of what wakes the daemon: where it would wait before it tries again, the rig is asked."""

    def __init__(self, stop: Callable[[str], None]) -> None:
        self._stop = stop

    def wait(self, _seconds: float) -> None:
        self._stop("again")


class _Memory(logging.Handler):
    """Keeps what is logged: a log file would be one more file that a call can be about."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        super().__init__(logging.INFO)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        keys = {name: value for name, value in vars(record).items() if name not in _ATTRIBUTES}
        if record.exc_info:
            keys["traceback"] = logging.Formatter().formatException(record.exc_info)
        self._events.append({"event": record.getMessage(), "level": record.levelno, **keys})


class Life:
    """One life: the daemon's, unless another kind does something else.

    Args:
        orders: what it does.
        rig: who gave them; is told of every stop.
    """

    def __init__(self, orders: Orders, rig: Connection) -> None:
        self._orders = orders
        self._rig = rig
        self._events: list[dict[str, Any]] = []
        self._dealt: list[str] = []
        logger = logging.getLogger(LOGGER_NAME)
        logger.setLevel(logging.INFO)
        logger.addHandler(_Memory(self._events))

    def live(self, settings: Settings) -> Report:
        """Live it to the end, whatever happens."""
        ended = unforeseen = ""
        try:
            self._stop("start")
            self._serve(settings)
        except ModelwardenError as error:
            ended = str(error)
        except Exception:  # noqa: BLE001 - what nobody foresaw is what is looked for
            unforeseen = traceback.format_exc()
        return Report(self._events, self._dealt, ended, unforeseen)

    def _serve(self, settings: Settings) -> None:
        """Do what was ordered."""
        if not self._orders.threads:
            setattr(wired_service, "WORKERS", 0)  # noqa: B010 - it is a constant to everybody else
        with open_service(settings, (), courier=False) as service:
            service._wake = _Pauses(self._stop)  # type: ignore[assignment]
            if not self._orders.threads:
                service._pipeline._crew._stager._pool = _OneThread()  # type: ignore[assignment]
            service._recover()
            for number, paths in enumerate(self._orders.batches):
                self._stop(str(number))
                self._deal_with(service, paths)
            service._catch_up()

    def _deal_with(self, service: Service, paths: Sequence[str]) -> None:
        """Let the service work on the files that it does not know, until it knows them."""
        for attempt in range(self._orders.tries):
            waiting = [path for path in paths if not _is_dealt_with(service, path)]
            if waiting and attempt:
                self._stop("again")
            if waiting:
                service._processing.work(waiting)
        self._dealt += [path for path in paths if _is_dealt_with(service, path)]

    def _stop(self, place: str) -> None:
        """Wait for a word, where a stop was ordered there."""
        if place in self._orders.stops:
            self._rig.send(place)
            self._rig.recv()


def _is_dealt_with(service: Service, path: str) -> bool:
    return service._pipeline.recorder.ledger.is_dealt_with(path, Fingerprint.of(os.lstat(path)))


def _fork(orders: Orders, settings: Settings, rig: Connection, kind: type[Life]) -> None:
    """Fork a life; it ends with this process."""
    if os.fork():
        return
    library = ctypes.CDLL(None)
    library.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    library.prctl(_LET_BE_TRACED, ctypes.c_ulong(-1))
    try:
        rig.send(os.getpid())
        rig.send(asdict(kind(orders, rig).live(settings)))
    finally:
        os._exit(0)


@cache
def _settings(config: str, _changed_at: int) -> Settings:
    """To read them costs as much as all of a short life."""
    settings, _ = load_settings(config)
    return settings


def serve(control: socket.socket, kind: type[Life] = Life) -> None:
    """Fork a life of this kind for every connection that is handed over, until the other end is closed."""
    setattr(database, "BUSY_SECONDS", _BUSY_SECONDS)  # noqa: B010 - it is a constant to everybody else
    gc.collect()
    gc.freeze()  # a life's collections leave alone what it shares: to look at that, and to copy it, was half of a life
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # lives that have ended; nobody asks how
                continue
        if not descriptors:
            return
        with Connection(descriptors[0]) as rig:
            orders = Orders(**rig.recv())
            _fork(orders, _settings(orders.config, os.stat(orders.config).st_mtime_ns), rig, kind)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
