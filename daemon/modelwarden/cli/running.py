"""`run`: the daemon.

The rule: what it exits with tells a script, and systemd, what is left to do.
"""

import gc
import os
import shlex
import sys
from typing import Annotated, Final

import typer

from modelwarden.cli.options import Archive, Config
from modelwarden.cli.processes import WRONG_SETTINGS, reading_settings, start_again
from modelwarden.cli.welcome import first_lines
from modelwarden.config import Settings, exposed, load_settings, watched_twice
from modelwarden.errors import StopService
from modelwarden.filesystems import show_path
from modelwarden.log import log
from modelwarden.service.courier_process import check_destinations, drain_outbox
from modelwarden.service.logs import configure_logs, speaks_to_a_person
from modelwarden.wiring.service import open_service

DRAIN_SECONDS: Final = 120.0
"""How long `run --once` lets the courier deliver before it leaves the rest owed."""

SWITCH_SECONDS: Final = 0.0005
"""How long a thread may go on while another waits for its turn; Python's own value is ten times that.

In a burst the thread that hears the kernel's hints computes without a break, and whoever asks the disk for something
gives its turn away each time. The first of 2,000 runs was archived after 0.12 s with 5 ms, after 0.07 s with this.
"""

SOMETHING_LEFT: Final = 1
"""Exit code of `run --once` if a file was rejected, a folder could not be read, or a message is still owed."""


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

    SIGTERM or Ctrl-C stops it; what is under way is finished first. SIGHUP makes a service read its settings again.

    Example: modelwarden run --watch training_output

    Example: modelwarden run --once --watch training_output
    """

    def read() -> tuple[Settings, str | None]:
        return load_settings(config, watch=watch, archive=archive, urls="all" if courier else "written")

    def read_again() -> None:
        if _refused_by_courier(*read(), courier=courier):
            raise StopService("a destination can't be used, see the lines before")

    with reading_settings(of_a_service=not once):
        settings, path = read()
    configure_logs(settings.log.level, settings.log.format)
    if refused := _refused_by_courier(settings, path, courier=courier):
        raise typer.Exit(refused if once else WRONG_SETTINGS)
    arguments = _courier_arguments(path, settings)
    to_a_person = speaks_to_a_person(settings.log.format)
    reads_again = None if once or to_a_person else read_again
    sys.setswitchinterval(SWITCH_SECONDS)
    with open_service(
        settings, arguments, courier=courier and not once, read_settings=reads_again, measures=not once
    ) as service:
        if to_a_person:
            _greet(settings, path, _options_for_asking(config or path, watch, archive, settings), once=once)
        _warn_of_settings(settings, path)
        starts_again = False
        if once:
            service.run_once()
        else:
            _settle_memory()
            starts_again = service.run()
        left = not service.is_all_well
    if starts_again:
        start_again()
    if once:
        if courier and settings.notify.destination:
            left = drain_outbox(arguments, DRAIN_SECONDS) != 0 or left
        raise typer.Exit(SOMETHING_LEFT if left else 0)


def _settle_memory() -> None:
    """Leave what was loaded for good out of every later garbage collection.

    One pass over it takes as long as a scan of thousands of files. In the middle of a scan it would be taken for one,
    and the next scan would come half a minute later.
    """
    gc.collect()
    gc.freeze()


def _refused_by_courier(settings: Settings, path: str | None, *, courier: bool) -> int:
    """The exit code of a courier that does not understand its destinations, which says why; else 0."""
    if not courier or not settings.notify.destination:
        return 0
    return check_destinations(_courier_arguments(path, settings))


def _greet(settings: Settings, path: str | None, options: list[str], *, once: bool) -> None:
    program = sys.argv[0] if os.path.basename(sys.argv[0]) == "modelwarden" else "modelwarden"
    for line in first_lines(settings, path, program, options, once=once):
        typer.echo(line, err=True)


def _warn_of_settings(settings: Settings, path: str | None) -> None:
    for file in exposed(path, settings):
        hint = f"it holds a destination's URL: {shlex.join(('chmod', '640', show_path(file)))}"
        log.warning("url_readable_by_others", path=show_path(file), hint=hint)
    for inner, outer in watched_twice(settings):
        log.warning("watched_twice", path=show_path(inner), part_of=show_path(outer))


def _options_for_asking(config: str | None, watch: str | None, archive: str | None, settings: Settings) -> list[str]:
    """What makes `modelwarden runs` find the same archive, from the same folder."""
    if watch is not None and config is None:  # no file counted here, but one may there
        archive = archive or os.path.relpath(settings.archive_dir)
    return [*(["--config", config] if config else []), *(["--archive", archive] if archive else [])]


def _courier_arguments(path: str | None, settings: Settings) -> list[str]:
    """What makes a child read the same settings; if there is no file, an empty one, lest it find another."""
    return ["--archive", settings.archive_dir, "--config", path if path is not None else os.devnull]
