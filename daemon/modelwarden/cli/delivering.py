"""`outbox`, `mute` and `notify-test`: what is owed to whom, and whether it can arrive.

The rule: none of these sends what is owed; the courier alone does. A URL is never printed.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Annotated, Final, NamedTuple

import typer

from modelwarden.cli.answers import print_answer, print_answer_as_it_comes
from modelwarden.cli.moments import iso
from modelwarden.cli.options import Archive, Config, Json, names_another
from modelwarden.cli.sending import tested
from modelwarden.cli.tables import print_table
from modelwarden.config import Settings, load_settings, parse_duration
from modelwarden.config.places import state_dir_of
from modelwarden.errors import RetryLater, StopService
from modelwarden.service.bell import ring_bell
from modelwarden.sinks.protocol import OUTCOMES, Delivered, Delivery, PerhapsDelivered, Refused, TryLater
from modelwarden.state.database import DAMAGED_HINT
from modelwarden.state.messages import OPEN, Row, Status
from modelwarden.state.outbox import Outbox
from modelwarden.state.outbox_view import OutboxView
from modelwarden.state.reading import Unreadable, reading
from modelwarden.wiring.destinations import UNENCRYPTED_HINT, destinations_of
from modelwarden.wiring.state import insist_on_right_user, insist_on_state_file, open_old_database

NOT_TAKEN: Final = 1
"""Exit code of `notify-test` if a service did not take the message, and of `retry` and `drop` that met less."""

SOMETHING_DEAD: Final = 1
"""Exit code of `outbox` if a message was given up."""

_TWO_DIGITS: Final = 99

ROWS_SHOWN: Final = 50
"""Most messages that `outbox` shows a person who asked for no other number."""

outbox_commands = typer.Typer(invoke_without_command=True)

Ids = Annotated[list[int], typer.Argument(metavar="ID...", help="As `modelwarden outbox` lists them.")]


@outbox_commands.callback()
def outbox(
    context: typer.Context,
    config: Config = None,
    archive: Archive = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help=f"Most messages; {ROWS_SHOWN}, or all with --json."),
    ] = None,
    as_json: Json = False,
) -> None:
    """What is owed: list it, try it again, drop it.

    Alone it lists the messages that are owed or given up, given up first. Exit code 1 if any is given up.

    Example: modelwarden outbox

    Example: modelwarden outbox retry
    """
    if names_another(context):
        return
    settings, _ = load_settings(config, archive=archive)
    with _outbox_view(settings) as owed:
        if as_json:
            print_answer_as_it_comes(
                "messages", (_row_json(row) for row in _listed(owed, -1 if limit is None else limit))
            )
            is_dead = next(owed.rows(Status.DEAD, 1), None) is not None
        else:
            is_dead = _print_outbox(owed, settings, ROWS_SHOWN if limit is None else limit)
    if is_dead:
        raise typer.Exit(SOMETHING_DEAD)


def _row_json(row: Row) -> dict[str, object]:
    """A message for --json."""
    moments = {name: iso(getattr(row, name)) for name in ("created_at", "next_at", "deadline")}
    return row._asdict() | moments


def _listed(owed: OutboxView, limit: int) -> Iterator[Row]:
    """What stands open, read as it goes: the dead first, for each destination oldest first."""
    rows = chain.from_iterable(owed.rows(status) for status in OPEN)
    return islice(rows, None if limit < 0 else limit)


def _print_outbox(owed: OutboxView, settings: Settings, limit: int) -> bool:
    """Print a table for a person; return whether anything is dead."""
    names = [each.name for each in settings.notify.destination]
    muted = {name: until for name in names if (until := owed.muted_until(name)) > time.time()}
    for name, until in muted.items():
        typer.echo(f"{name} is mute until {_moment(until)}")
    tallies = [(name, status, count) for name, status, count in owed.tallies() if status in OPEN]
    rows = list(_listed(owed, limit))
    if not rows:
        typer.echo("nothing is owed")
        return False
    print_table(
        ("id", "destination", "about", "status", "since (UTC)", "tries", "next try"),
        [
            (
                str(row.id),
                row.destination,
                f"{row.run or row.kind}{f' for {row.stands_for}' if row.stands_for else ''}",
                row.status,
                f"{datetime.fromtimestamp(row.created_at, UTC):%m-%d %H:%M}",
                str(row.attempts),
                _next_try(row, muted.get(row.destination, 0.0), configured=row.destination in names),
            )
            for row in rows
        ],
        right=("id", "tries"),
    )
    for line in _below(rows, names, tallies):
        typer.echo(line)
    return any(status is Status.DEAD for _, status, _ in tallies)


def _next_try(row: Row, muted_until: float, *, configured: bool) -> str:
    if row.status != Status.PENDING or not configured:
        return "now" if row.status == Status.SENDING else "-"
    seconds = max(row.next_at, muted_until) - time.time()
    if seconds <= 0:
        return "due"
    for unit, length in (("s", 1), ("m", 60)):
        if seconds < _TWO_DIGITS * length:
            return f"in {math.ceil(seconds / length)}{unit}"
    return f"in {math.ceil(seconds / 3600)}h"


def _below(rows: Sequence[Row], names: Sequence[str], tallies: Sequence[tuple[str, Status, int]]) -> Iterator[str]:
    """What a column has no room for: what was left out, the last errors, most of which many messages share, hints."""
    if (left_out := sum(count for _, _, count in tallies) - len(rows)) > 0:
        yield f"… and {left_out} more (--limit shows more)"
        yield from (f"{name}: {count} {status}" for name, status, count in tallies)
    errors = dict.fromkeys((row.destination, row.last_error) for row in rows if row.last_error)
    if errors:
        yield ""
    yield from (f"{destination}: {error}" for destination, error in errors)
    gone = sorted({name for name, _, _ in tallies} - set(names))
    dead = any(status is Status.DEAD for _, status, _ in tallies)
    if gone or dead:
        yield ""
    for name in gone:
        yield f"{name} is not in the settings: what it is owed waits until it is, or `modelwarden outbox drop ID`"
    if dead:
        yield "what is dead is tried no more: `modelwarden outbox retry` revives it, `... outbox drop ID` ends it"


@outbox_commands.command("retry")
def retry(
    ids: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="All dead ones if none is named.")] = None,
    config: Config = None,
    archive: Archive = None,
    as_json: Json = False,
) -> None:
    """Try messages again at once, with a new deadline.

    Also if their destination is left in peace because it fails. Exit code 1 if none is dead, or one that is named can't
    be tried.

    Example: modelwarden outbox retry
    """
    settings, _ = load_settings(config, archive=archive)
    with _outbox(settings) as owed:
        counts = owed.counts()
        if not ids and not counts[Status.DEAD]:
            waiting = counts[Status.PENDING]
            hint = f"; {waiting} pending: name an ID to try one at once" if waiting else ""
            if as_json:
                print_answer(retried=0, refused=[])
            else:
                typer.echo(f"no message is dead{hint}")
            raise typer.Exit(NOT_TAKEN)
        refused = _unfit(owed, ids or ())
        count = owed.retry(ids or None, time.time(), settings.notify.deadline_hours * 3600)
        ring_bell(state_dir_of(settings.archive_dir, settings.state_dir))
    if as_json:
        print_answer(retried=count, refused=[each._asdict() for each in refused])
    else:
        _say_count(count, "will be tried again", refused)
    if refused:
        raise typer.Exit(NOT_TAKEN)


@outbox_commands.command("drop")
def drop(ids: Ids, config: Config = None, archive: Archive = None, as_json: Json = False) -> None:
    """Give messages up: they are not sent any more.

    Exit code 1 if one of them can't be.

    Example: modelwarden outbox drop 17
    """
    settings, _ = load_settings(config, archive=archive)
    with _outbox(settings) as owed:
        refused = _unfit(owed, ids)
        count = owed.drop(ids, time.time())
    if as_json:
        print_answer(dropped=count, refused=[each._asdict() for each in refused])
    else:
        _say_count(count, "dropped", refused)
    if refused:
        raise typer.Exit(NOT_TAKEN)


def mute(
    destination: Annotated[str, typer.Argument(metavar="DEST", help="As the settings name it.")],
    time_span: Annotated[str, typer.Option("--for", metavar="TIME", help="Such as 90s, 15m, 2h, 1d; 0 ends it.")],
    config: Config = None,
    archive: Archive = None,
    as_json: Json = False,
) -> None:
    """Leave a destination in peace; what it is owed waits.

    Example: modelwarden mute team --for 2h
    """
    settings, _ = load_settings(config, archive=archive)
    _insist(settings, [destination])
    try:
        seconds = 0.0 if time_span == "0" else parse_duration(time_span)
    except ValueError as error:
        raise StopService(str(error), where=f"--for {time_span}") from None
    until = time.time() + seconds
    with _outbox(settings) as owed:
        owed.mute(destination, until)
    if as_json:
        print_answer(destination=destination, muted_until=iso(until) if seconds else None)
    else:
        typer.echo(f"{destination} is mute until {_moment(until)}" if seconds else f"{destination} hears all again")


def notify_test(
    destination: Annotated[str | None, typer.Argument(metavar="DEST", help="All if none is named.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send a test message and say what came of it.

    Exit code 1 if a service did not take it.

    Example: modelwarden notify-test team
    """
    settings, _ = load_settings(config, urls="all", asks_apprise=True)
    names = [destination] if destination is not None else [each.name for each in settings.notify.destination]
    if not names:
        raise StopService(
            "there is no destination to test", where="notify.destination", hint="`modelwarden config example` shows one"
        )
    _insist(settings, names)
    if any(each.kind == "file" for each in settings.notify.destination if each.name in names):
        insist_on_right_user(settings)  # the file may be made
    answers: list[tuple[str, Delivery]] = []
    for each in destinations_of(settings):
        if each.name in names:
            if each.goes_unencrypted():
                typer.echo(f'modelwarden: destination "{each.name}": {UNENCRYPTED_HINT}', err=True)
            answers.append((each.name, tested(each, settings.notify.send_timeout_seconds)))
            if not as_json:
                typer.echo(f"{each.name}: {_said_of(answers[-1][1])}")
    if as_json:
        print_answer(
            destinations=[
                {"destination": name, "outcome": OUTCOMES[type(came)], "last_error": getattr(came, "error", None)}
                for name, came in answers
            ]
        )
    if not all(isinstance(came, Delivered) for _, came in answers):
        raise typer.Exit(NOT_TAKEN)


def _said_of(came: Delivery) -> str:
    """What a test came to, for a person."""
    match came:
        case Delivered():
            return "sent, and taken by the service"
        case Refused(error) | TryLater(error):
            return f"not sent: {error}"
        case PerhapsDelivered(error):
            return f"not known whether it was sent: {error}"


@contextmanager
def _outbox_view(settings: Settings) -> Iterator[OutboxView]:
    """The same for who only looks: the right to read is enough, if the file is of this version."""
    insist_on_state_file(settings)
    with reading(state_dir_of(settings.archive_dir, settings.state_dir)) as snapshot:
        if snapshot is None:  # of another version, say: opening it as the daemon does says what is wrong, or mends it
            with _outbox(settings) as owed:
                yield owed
            return
        try:
            yield OutboxView(snapshot.connection)
        except Unreadable as error:
            raise RetryLater(
                f"the state file can't be read ({error})", hint=f"try again; if it is damaged, {DAMAGED_HINT}"
            ) from error


@contextmanager
def _outbox(settings: Settings) -> Iterator[Outbox]:
    """The outbox of a daemon that was started before. Raises StopService if there is none."""
    with closing(open_old_database(settings)) as database:
        yield Outbox(database)


class _Unfit(NamedTuple):
    """A message that can't be tried again or dropped.

    Attributes:
        id: what was named.
        status: how that message stands; None if there is none.
        what: why it can't.
        hint: what to do, or "".
    """

    id: int
    status: Status | None
    what: str
    hint: str


def _unfit(owed: OutboxView, ids: Sequence[int]) -> list[_Unfit]:
    """Those of these that can't be tried again or dropped."""
    standing = owed.statuses(ids)
    found = []
    for each in dict.fromkeys(ids):
        status = standing.get(each)
        if status is Status.SENDING:
            found.append(_Unfit(each, status, "is being sent right now", "wait for what comes of it"))
        elif status is None:
            found.append(_Unfit(each, status, "is no message's id", "`modelwarden outbox` lists them"))
        elif status not in OPEN:
            found.append(_Unfit(each, status, f"is {status} already", ""))
    return found


def _insist(settings: Settings, names: Sequence[str]) -> None:
    known = [each.name for each in settings.notify.destination]
    for name in names:
        if name not in known:
            raise StopService(
                f"no destination is called {name!r}",
                hint=f"there are: {', '.join(known)}" if known else "there are none",
            )


def _say_count(count: int, done: str, refused: Sequence[_Unfit]) -> None:
    for each in refused:
        typer.echo(f"modelwarden: {each.id} {': '.join(filter(None, (each.what, each.hint)))}", err=True)
    typer.echo(f"{count} message{'' if count == 1 else 's'} {done}")


def _moment(seconds: float) -> str:
    return iso(seconds).replace("T", " ").replace("Z", " UTC")
