"""`outbox`, `mute` and `notify-test`: what is owed to whom, and whether it can arrive.

The rule: none of these sends what is owed; the courier alone does. A URL is never printed.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from modelwarden.cli.options import Archive, Config, Json
from modelwarden.cli.tables import print_json, print_table
from modelwarden.errors import StopService
from modelwarden.service.config import Settings, load_settings, parse_duration
from modelwarden.service.wiring import destinations_of, open_database
from modelwarden.state.outbox import Outbox, Status

NOT_TAKEN: Final = 1
"""Exit code of `notify-test` where a service did not take the message, and of `retry` and `drop` that met nothing."""

_OPEN: Final = (Status.PENDING, Status.SENDING, Status.DEAD)

outbox_commands = typer.Typer(help="What is owed: list it, try it again, drop it.", invoke_without_command=True)

Ids = Annotated[list[int], typer.Argument(metavar="ID...", help="As `modelwarden outbox` lists them.")]


@outbox_commands.callback()
def outbox(context: typer.Context, config: Config = None, archive: Archive = None, as_json: Json = False) -> None:
    """List the messages that are owed or given up."""
    if context.invoked_subcommand is not None:
        return
    settings, _ = load_settings(config, archive=archive)
    with _outbox(settings) as owed:
        rows = owed.rows(*_OPEN)
        if as_json:
            print_json([row._asdict() for row in rows])
            return
        for name in {each.name for each in settings.notify.destination}:
            if (until := owed.muted_until(name)) > time.time():
                typer.echo(f"{name} is mute until {_moment(until)}")
        if not rows:
            typer.echo("nothing is owed")
            return
        print_table(
            ("id", "destination", "about", "status", "since", "tries", "last error"),
            [
                (
                    str(row.id),
                    row.destination,
                    row.run or row.kind,
                    row.status,
                    _moment(row.created_at),
                    str(row.attempts),
                    row.last_error or "",
                )
                for row in rows
            ],
            right=("id", "tries"),
        )


@outbox_commands.command("retry")
def retry(
    ids: Annotated[
        list[int] | None, typer.Argument(metavar="[ID...]", help="All that are dead where none is named.")
    ] = None,
    config: Config = None,
    archive: Archive = None,
) -> None:
    """Try messages again at once, with a new deadline."""
    settings, _ = load_settings(config, archive=archive)
    with _outbox(settings) as owed:
        chosen = ids or [row.id for row in owed.rows(Status.DEAD)]
        _say_count(owed.retry(chosen, time.time(), settings.notify.deadline_hours * 3600), "will be tried again")


@outbox_commands.command("drop")
def drop(ids: Ids, config: Config = None, archive: Archive = None) -> None:
    """Give messages up: they are not sent any more."""
    settings, _ = load_settings(config, archive=archive)
    with _outbox(settings) as owed:
        _say_count(owed.drop(ids), "dropped")


def mute(
    destination: Annotated[str, typer.Argument(metavar="DEST")],
    time_span: Annotated[str, typer.Option("--for", metavar="TIME", help="Such as 90s, 15m, 2h, 1d; 0 ends it.")],
    config: Config = None,
    archive: Archive = None,
) -> None:
    """Leave a destination in peace; what it is owed waits."""
    settings, _ = load_settings(config, archive=archive)
    _insist(settings, [destination])
    try:
        seconds = 0.0 if time_span == "0" else parse_duration(time_span)
    except ValueError as error:
        raise StopService(str(error), where=f"--for {time_span}") from None
    with _outbox(settings) as owed:
        owed.mute(destination, time.time() + seconds)
    typer.echo(
        f"{destination} is mute until {_moment(time.time() + seconds)}" if seconds else f"{destination} hears all again"
    )


def notify_test(
    destination: Annotated[str | None, typer.Argument(metavar="[DEST]", help="All where none is named.")] = None,
    config: Config = None,
) -> None:
    """Send a test message and say what came of it."""
    from modelwarden.courier.destinations import NotSent, Sent, TimedOut  # noqa: PLC0415 - brings Apprise along
    from modelwarden.courier.digest import Message  # noqa: PLC0415 - likewise

    settings, _ = load_settings(config)
    names = [destination] if destination is not None else [each.name for each in settings.notify.destination]
    if not names:
        raise StopService(
            "there is no destination to test", where="notify.destination", hint="config.example.toml shows one"
        )
    _insist(settings, names)
    message = Message("TEST from modelwarden", "This is a test message. No run was archived.")
    failed = False
    for each in destinations_of(settings):
        if each.name in names:
            match each.send(message, settings.notify.send_timeout_seconds):
                case Sent():
                    typer.echo(f"{each.name}: sent, and taken by the service")
                case NotSent(error):
                    typer.echo(f"{each.name}: not sent: {error}")
                    failed = True
                case TimedOut(error):
                    typer.echo(f"{each.name}: perhaps sent: {error}")
                    failed = True
    if failed:
        raise typer.Exit(NOT_TAKEN)


@contextmanager
def _outbox(settings: Settings) -> Iterator[Outbox]:
    with closing(open_database(settings)) as database:
        yield Outbox(database)


def _insist(settings: Settings, names: Sequence[str]) -> None:
    known = [each.name for each in settings.notify.destination]
    for name in names:
        if name not in known:
            raise StopService(
                f"no destination is called {name!r}",
                hint=f"there are: {', '.join(known)}" if known else "there are none",
            )


def _say_count(count: int, done: str) -> None:
    typer.echo(f"{count} message{'' if count == 1 else 's'} {done}")
    if count == 0:
        raise typer.Exit(NOT_TAKEN)


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
