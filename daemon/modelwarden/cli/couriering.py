"""`courier`: the process that delivers.

The rule: it may end at any moment. What it has not delivered stands in the outbox.
"""

import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from modelwarden.cli.options import Archive, Config
from modelwarden.cli.processes import reading_settings, start_again
from modelwarden.config import Settings, load_settings
from modelwarden.config.places import state_dir_of
from modelwarden.errors import StopService
from modelwarden.log import log
from modelwarden.service.bell import Bell
from modelwarden.service.courier_process import START_AGAIN
from modelwarden.service.logs import configure_logs
from modelwarden.service.metrics import CourierMetrics, NoCourierMetrics
from modelwarden.service.systemd import Notifier
from modelwarden.wiring.courier import courier_metrics, only_courier, open_courier
from modelwarden.wiring.destinations import UNENCRYPTED_HINT, destinations_of
from modelwarden.wiring.state import has_state

if TYPE_CHECKING:
    from modelwarden.courier.delivery import Courier  # brings Apprise along

POLL_SECONDS: Final = 1.0
"""How often the courier looks while something is owed, or if there is no bell; the look is one indexed query."""

IDLE_SECONDS: Final = 30.0
"""The same while nothing is: who owes something rings. Less than half of the units' WatchdogSec."""

SENDING_POLL_SECONDS: Final = 0.05
"""The same while a message is under way."""

STOP_SECONDS: Final = 3.0
"""How long a courier that stops waits for what is under way; less than its parent waits before it kills it."""

MEMORY_BYTES: Final = 2**29
"""Memory that the process may have, beside its threads' stacks: half of what its unit may. It needs a tenth."""

STACK_BYTES: Final = 2**23
"""What the stack of a thread takes, which is seldom used: each destination's, and that of who has a picture drawn."""

SOMETHING_OWED: Final = 1
"""Exit code of `courier --drain` if a message is still owed."""


def courier(
    config: Config = None,
    archive: Archive = None,
    drain: Annotated[bool, typer.Option("--drain", help="Deliver what is owed now, then exit.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Say whether the destinations are understood, exit.")] = False,
    attached: Annotated[bool, typer.Option("--attached", hidden=True)] = False,
) -> None:
    """Deliver what the outbox owes.

    `run` starts one; under systemd it is a service of its own. SIGHUP makes it read its settings again.

    Example: modelwarden courier --drain
    """

    def read() -> Settings:
        return load_settings(config, archive=archive, urls="all", asks_apprise=True)[0]

    is_service = not (check or drain or attached)
    with reading_settings(of_a_service=is_service):
        settings = read()
        configure_logs(settings.log.level, settings.log.format)
        if check:
            destinations_of(settings)
            return
    bell = Bell(state_dir_of(settings.archive_dir, settings.state_dir))
    rings, notifier = _Rings(bell, attached=attached), Notifier()
    metrics = NoCourierMetrics() if drain else courier_metrics(settings)
    if is_service and not _wait_for_state(settings, rings, notifier):
        return
    with (
        _confined(len(settings.notify.destination)),
        only_courier(settings),
        open_courier(settings, metrics, drain=drain) as deliveries,
        closing(metrics),
    ):
        for name in deliveries.unencrypted():
            log.warning("mail_not_encrypted", destination=name, hint=UNENCRYPTED_HINT)
        deliveries.recover()
        notifier.ready("delivering")
        log.info("courier_ready", destinations=[each.name for each in settings.notify.destination])
        starts_again = _deliver(deliveries, rings, notifier, read, metrics, drain=drain)
        if not starts_again:
            notifier.stopping()
        deliveries.finish(STOP_SECONDS)
        log.info("courier_stopped")
        if deliveries.is_sending() and not starts_again:  # sent again by the next courier, as a possible repeat
            _exit_now(0)
    if starts_again:
        start_again()


@contextmanager
def _confined(destinations: int) -> Iterator[None]:
    """While entered, the process has no more memory than it may need: Apprise reads an answer that has no end.

    Such a send fails then, and neither the machine nor another's message is lost to it.
    """
    before = resource.getrlimit(resource.RLIMIT_DATA)
    _, most = before
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = MEMORY_BYTES + (destinations + 1) * max(STACK_BYTES, stack)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _deliver(
    deliveries: "Courier",
    rings: "_Rings",
    notifier: Notifier,
    read: Callable[[], object],
    metrics: CourierMetrics,
    *,
    drain: bool,
) -> bool:
    """Deliver until the end is called for; True if the process is to start again with the settings as they are now.

    Raises:
        typer.Exit: `drain`, and nothing more can be delivered now.
    """
    trouble = ""
    while True:
        deliveries.step(lambda: rings.within(0))
        notifier.alive()
        if metrics.turn():
            metrics.stand(deliveries.open_messages())
        if metrics.trouble != trouble:
            trouble = metrics.trouble
            notifier.status(f"delivering; {trouble}" if trouble else "delivering")
        if deliveries.hung and not deliveries.is_sending():
            # Its thread may go on for as long as the server likes; what it was about stands in the outbox.
            log.warning("courier_gives_way", reason="a send hung past its deadline")
            _exit_now(START_AGAIN)
        if drain and not deliveries.is_sending() and not deliveries.is_paced():
            raise typer.Exit(SOMETHING_OWED if deliveries.pending() else 0)
        if rings.within(_pause(deliveries, rings)):
            return False
        if rings.hung_up() and _are_good(read, notifier):
            return True
        if deliveries.is_cut_off():
            log.warning("state_file_replaced", hint="the courier starts again with the one that is there")
            notifier.reloading()
            return True


def _pause(deliveries: "Courier", rings: "_Rings") -> float:
    """How long the courier may do nothing, in seconds, unless somebody rings."""
    if deliveries.is_sending():
        return SENDING_POLL_SECONDS
    return IDLE_SECONDS if rings.has_bell and not deliveries.is_owed() else POLL_SECONDS


def _wait_for_state(settings: Settings, rings: "_Rings", notifier: Notifier) -> bool:
    """Wait until the daemon has made the state file at its first start; False if the end is called for before."""
    if has_state(settings):
        return True
    log.info("waiting_for_daemon", reason="there is no state file yet")
    notifier.ready("waiting for the daemon's first start")  # ready: nothing that is started after it has to wait
    while not has_state(settings):
        notifier.alive()
        if rings.within(POLL_SECONDS):
            return False
    return True


def _are_good(read: Callable[[], object], notifier: Notifier) -> bool:
    """Whether the settings can be read again; said if they can't: those of before stay in force."""
    notifier.reloading()
    try:
        read()
    except StopService as error:
        log.error("settings_refused", reason=str(error), hint="those of before are still in force")
        notifier.ready(f"delivering; the settings on disk are refused: {error}")
        return False
    log.info("settings_read_again")
    return True


def _exit_now(code: int) -> NoReturn:
    """End without waiting for threads that send."""
    sys.stderr.flush()
    os._exit(code)


class _Rings:
    """What interrupts the courier's waiting: the bell, a signal, or that the daemon which it is attached to is gone."""

    def __init__(self, bell: Bell, *, attached: bool) -> None:
        self._bell = bell
        self._ends = False
        self._hung_up = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stdin = [sys.stdin.fileno()] if attached else []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            # Attached, it ends with the daemon, which starts another; a terminal that is closed is the end, too.
            signal.signal(signal.SIGHUP, self._end if attached or sys.stderr.isatty() else self._hang_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # held back since the life before, see start_again

    @property
    def has_bell(self) -> bool:
        """Whether who owes something can ring."""
        return self._bell.descriptor is not None

    def within(self, seconds: float) -> bool:
        """Wait so long, or for a ring, a hang-up or the call for the end; True if it is the end."""
        is_done = self._ends or self._hung_up
        bell = [] if self._bell.descriptor is None else [self._bell.descriptor]
        ready, _, _ = select.select([self._read, *self._stdin, *bell], [], [], 0 if is_done else seconds)
        self._bell.heed()
        return self._ends or any(each in ready for each in self._stdin)

    def hung_up(self) -> bool:
        """Whether there was a hang-up since this was asked last."""
        was, self._hung_up = self._hung_up, False
        if was:
            os.read(self._read, 1)
        return was

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ends = True
        os.write(self._write, b"\0")

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        if not self._hung_up:
            self._hung_up = True
            os.write(self._write, b"\0")
