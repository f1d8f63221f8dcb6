"""`run` and `courier`: the two processes."""

import os
import select
import signal
import sys
from types import FrameType
from typing import Annotated, Final, NoReturn

import typer

from modelwarden.cli.options import Archive, Config
from modelwarden.cli.welcome import first_lines
from modelwarden.config import Settings, exposed, load_settings, watched_twice
from modelwarden.events import log
from modelwarden.filesystems import show_path
from modelwarden.service.courier_process import START_AGAIN, check_destinations, drain_outbox
from modelwarden.service.logs import configure_logs, speaks_to_a_person
from modelwarden.wiring import UNENCRYPTED_HINT, destinations_of, only_courier, open_courier, open_service

POLL_SECONDS: Final = 1.0
"""How often the courier looks for what is owed; the look is one indexed query."""

SENDING_POLL_SECONDS: Final = 0.05
"""The same while a message is under way."""

STOP_SECONDS: Final = 3.0
"""How long a courier that stops waits for what is under way; less than its parent waits before it kills it."""

DRAIN_SECONDS: Final = 120.0
"""How long `run --once` lets the courier deliver before it leaves the rest owed."""

SOMETHING_LEFT: Final = 1
"""Exit code of `run --once` where a file was rejected, a folder could not be read, or a message is still owed."""


def run(
    config: Config = None,
    watch: Annotated[
        str | None, typer.Option("--watch", metavar="DIR", help="Watch this folder; no config file needed.")
    ] = None,
    archive: Archive = None,
    once: Annotated[bool, typer.Option("--once", help="Archive what is there, deliver, exit.")] = False,
    courier: Annotated[
        bool,
        typer.Option("--courier/--no-courier", help="Start the courier, or leave it to its own service."),
    ] = True,
) -> None:
    """Watch, judge, archive and announce, until told to stop.

    SIGTERM or Ctrl-C stops it; what is under way is finished first.
    """
    settings, path = load_settings(config, watch=watch, archive=archive, urls="all" if courier else "written")
    configure_logs(settings.log.level, settings.log.format)
    arguments = _courier_arguments(path, settings)
    if courier and settings.notify.destination and (refused := check_destinations(arguments)) != 0:
        raise typer.Exit(refused)
    with open_service(settings, arguments, courier=courier and not once) as service:
        if speaks_to_a_person(settings.log.format):
            program = sys.argv[0] if os.path.basename(sys.argv[0]) == "modelwarden" else "modelwarden"
            options = _options_for_asking(config, watch, archive, settings)
            for line in first_lines(settings, path, program, options, once=once):
                typer.echo(line, err=True)
        for file in exposed(path, settings):
            log.warning("url_readable_by_others", path=show_path(file), hint="it holds a destination's URL: chmod 640")
        for inner, outer in watched_twice(settings):
            log.warning("watched_twice", path=show_path(inner), part_of=show_path(outer))
        if not once:
            service.run()
            return
        service.run_once()
        left = not service.is_all_well
    if courier and settings.notify.destination:
        left = drain_outbox(arguments, DRAIN_SECONDS) != 0 or left
    raise typer.Exit(SOMETHING_LEFT if left else 0)


def courier(
    config: Config = None,
    archive: Archive = None,
    drain: Annotated[bool, typer.Option("--drain", help="Deliver what is owed now, then exit.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Say whether the destinations are understood, exit.")] = False,
    attached: Annotated[bool, typer.Option("--attached", hidden=True)] = False,
) -> None:
    """Deliver what the outbox owes.

    `run` starts one; under systemd it is a service of its own.
    """
    settings, _ = load_settings(config, archive=archive, urls="all", asks_apprise=True)
    configure_logs(settings.log.level, settings.log.format)
    if check:
        destinations_of(settings)
        return
    stop = _Stop(attached=attached)
    with only_courier(settings), open_courier(settings, drain=drain) as deliveries:
        for name in deliveries.unencrypted():
            log.warning("mail_not_encrypted", destination=name, hint=UNENCRYPTED_HINT)
        deliveries.recover()
        log.info("courier_ready", destinations=[each.name for each in settings.notify.destination])
        while True:
            deliveries.step(lambda: stop.within(0))
            if deliveries.hung and not deliveries.is_sending():
                # The hung send's thread would hold up a tidy exit; what it was about stands in the outbox.
                log.warning("courier_gives_way", reason="a send hung past its deadline")
                _exit_now(START_AGAIN)
            if drain and not deliveries.is_sending() and not deliveries.is_paced():
                raise typer.Exit(SOMETHING_LEFT if deliveries.pending() else 0)
            if stop.within(SENDING_POLL_SECONDS if deliveries.is_sending() else POLL_SECONDS):
                break
        deliveries.finish(STOP_SECONDS)
        log.info("courier_stopped")
        if deliveries.is_sending():  # sent again by the next courier, as a possible repeat
            _exit_now(0)


def _exit_now(code: int) -> NoReturn:
    """End without waiting for threads that send."""
    sys.stderr.flush()
    os._exit(code)


class _Stop:
    """Whether the courier is to end: a signal came, or the daemon that it is attached to is gone."""

    def __init__(self, *, attached: bool) -> None:
        self._asked = False
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._waits_for = [self._read, *([sys.stdin.fileno()] if attached else [])]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def within(self, seconds: float) -> bool:
        """Wait so long, or until the end is called for; True where it was."""
        ready, _, _ = select.select(self._waits_for, [], [], 0 if self._asked else seconds)
        return self._asked or bool(ready)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        os.write(self._write, b"\0")


def _options_for_asking(config: str | None, watch: str | None, archive: str | None, settings: Settings) -> list[str]:
    """What makes `modelwarden runs` find the same archive, from the same folder."""
    if watch is not None and config is None:  # no file counted here, but one may there
        archive = archive or os.path.relpath(settings.archive_dir)
    return [*(["--config", config] if config else []), *(["--archive", archive] if archive else [])]


def _courier_arguments(path: str | None, settings: Settings) -> list[str]:
    """What makes a child read the same settings; where there is no file, an empty one, lest it find another."""
    return ["--archive", settings.archive_dir, "--config", path if path is not None else os.devnull]
