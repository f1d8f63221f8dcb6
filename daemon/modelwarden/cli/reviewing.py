"""`review` and `audit`: what waits for a person, what a person decides, and the record of it.

The rule: a decision is a file of the archive, added and never changed; a run's own folder is never touched.
"""

import csv
import getpass
import os
import socket
import sys
import time
from collections.abc import Sequence
from itertools import dropwhile
from typing import TYPE_CHECKING, Annotated, Final

import typer

from modelwarden.archive.decisions import LONGEST_NAME, LONGEST_REASON, REVIEWS, Head, Kept
from modelwarden.archive.folders import read_record
from modelwarden.cli.answers import print_answer
from modelwarden.cli.asking import NOTHING, RUN_HELP, when
from modelwarden.cli.lines import counted, wrapped
from modelwarden.cli.moments import iso, parse_since
from modelwarden.cli.options import Archive, Config, Json, asking_as_set, settings_for_asking
from modelwarden.cli.screen import is_terminal, paged, styled, visible, width
from modelwarden.cli.tables import BAND_STYLES, Cell, print_table
from modelwarden.config.places import known_state_dir
from modelwarden.errors import ModelwardenError, RetryLater, StopService, UnknownRun
from modelwarden.gate.assessment import Assessment, Classification
from modelwarden.gate.decision import SAID, Decision, Verb, in_force
from modelwarden.gate.deployment import choose_checkpoint
from modelwarden.gate.json_object import shorten
from modelwarden.gate.run import RunRecord
from modelwarden.questions import JudgedRun, asking
from modelwarden.state.messages import Route

if TYPE_CHECKING:
    from modelwarden.config import Settings

NOT_DECIDED: Final = 1
"""Exit code if a decision would change nothing."""

DEFAULT_LIMIT: Final = 50


def review(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help=RUN_HELP, show_default=False),
    ] = None,
    symbol: Annotated[
        str | None,
        typer.Argument(metavar="SYMBOL", help="The model.", show_default=False),
    ] = None,
    config: Config = None,
    archive: Archive = None,
    approve: Annotated[bool, typer.Option("--approve", help="It may be deployed.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="It may not.")] = False,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Take back what was decided: it waits again.")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why; it is kept for ever.", show_default=False)
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who decides.", show_default="who is logged in")
    ] = None,
    override: Annotated[bool, typer.Option("--override", help="Approve a model that is in DROP.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, metavar="N", help="The oldest so many.")
    ] = DEFAULT_LIMIT,
    as_json: Json = False,
) -> None:
    """List the models that wait for a person, or decide about one.

    A decision is added to `reviews/` in the archive; a later one takes its place. Exit code 1 if nothing waits, or if
    the decision is in force already.

    Example: modelwarden review

    Example: modelwarden review latest BTCUSD --approve --reason "checked by hand"
    """
    verbs = [verb for verb, asked in zip(Verb, (approve, reject, withdraw), strict=True) if asked]
    if not verbs and symbol is None:
        if reason is not None or by is not None or override:
            raise StopService("nothing is decided", where="review", hint=_USAGE)
        _list(config, archive, run, limit, as_json=as_json)
        return
    if len(verbs) != 1 or run is None or symbol is None:
        raise StopService("name one run, one model and one decision", where="review", hint=_USAGE)
    reason = _text(reason, "--reason", LONGEST_REASON)
    name = _text(by if by is not None else _who(), "--by", LONGEST_NAME)
    decision, is_new = _decide(config, archive, run, symbol, verbs[0], reason, name, override=override)
    if as_json:
        print_answer(decided=is_new, decision=decision_json(decision))
    else:
        already = "" if is_new else f" already, by {visible(decision.by)}"
        said = f"is {SAID[decision.verb]}{already}: decision {decision.number}"
        typer.echo(f"{visible(symbol)} of run {decision.run} {said}")
    if not is_new:
        raise typer.Exit(NOT_DECIDED)
    _warn_if_superseded(config, archive, decision.run)


_USAGE: Final = "modelwarden review RUN SYMBOL --approve|--reject|--withdraw --reason TEXT"


def _text(text: str | None, option: str, longest: int) -> str:
    """What a person wrote, as it may be kept. Raises StopService if it may not."""
    if text is None or not text.strip():
        raise StopService("is missing: a decision has one", where=option, hint=_USAGE)
    text = text.strip()
    if len(text) > longest:
        raise StopService(f"has {len(text)} characters, more than {longest}", where=option)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise StopService("is no UTF-8 text", where=option) from None
    if not text.isprintable():
        raise StopService("holds a line break or another control character", where=option, hint="write one line")
    return text


def _who() -> str:
    """Who is logged in, also behind sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _decide(
    config: str | None,
    archive: str | None,
    named: str,
    symbol: str,
    verb: Verb,
    reason: str,
    by: str,
    *,
    override: bool,
) -> tuple[Decision, bool]:
    """Add the decision, and owe its messages; False if the one in force says the same."""
    from modelwarden.archive.reviewing import add_decision  # noqa: PLC0415 - who only asks needs none of the three
    from modelwarden.service.logs import configure_logs  # noqa: PLC0415 - likewise
    from modelwarden.wiring.pipeline import open_pipeline  # noqa: PLC0415 - likewise

    settings = settings_for_asking(config, archive)
    configure_logs("warning", settings.log.format)
    found, model = _model(settings, named, symbol)
    is_drop = model.classification is Classification.DROP
    if verb is Verb.APPROVE and is_drop and not override:
        raise StopService(
            f"{symbol} of run {found.timestamp} is in DROP: {'; '.join(model.reasons)}",
            where="--approve",
            hint="--override approves it all the same, and that is recorded",
        )
    before: list[Decision] = []

    def make(kept: Sequence[Kept], end: Head) -> Decision | None:
        if read_record(pipeline.archive.root, found.timestamp).sha256 != found.sha256:  # looked at before the lock
            raise UnknownRun(f"run {found.timestamp} is another by now", where=pipeline.archive.root)
        decisions = [each.decision for each in kept if each.decision is not None]
        last = in_force(decisions, found.sha256).get(symbol)
        if (last is None and verb is Verb.WITHDRAW) or (last is not None and last.verb is verb):
            before.extend([] if last is None else [last])
            return None
        return Decision(
            number=end.number + 1,
            run=found.timestamp,
            sha256=found.sha256,
            symbol=symbol,
            verb=verb,
            override=verb is Verb.APPROVE and is_drop,
            reason=reason,
            by=by,
            decided_at=iso(time.time()),
            host=socket.gethostname(),
            daemon_id=pipeline.owner,
            policy=found.policy.id,
            classification=model.classification,
            checkpoint=choose_checkpoint(model).checkpoint,
            previous=end.digest,
        )

    with open_pipeline(settings, announces=False) as pipeline:
        pipeline.upkeep.recognise()
        is_first = not os.path.isdir(os.path.join(pipeline.archive.root, REVIEWS))
        decision = add_decision(pipeline.archive, found.timestamp, pipeline.upkeep.known_decisions(), make)
        routes = [Route(each.name, frozenset(each.on), each.symbols) for each in settings.notify.destination]
        try:
            if is_first:  # the archive has a folder more than when the state looked at it last
                pipeline.upkeep.recover()
            pipeline.upkeep.follow_decisions(routes)
        except RetryLater as error:
            if decision is None:
                raise
            from modelwarden.log import log  # noqa: PLC0415 - slow to import, and nearly never needed

            log.warning("decided_unrecorded", reason=str(error), hint="the next start of the daemon records it")
    if decision is not None:
        return decision, True
    if not before:
        raise StopService(f"nothing is decided about {symbol} of run {found.timestamp}", where="--withdraw")
    return before[0], False


def _model(settings: "Settings", named: str, symbol: str) -> tuple[RunRecord, Assessment]:
    now = time.time()
    with asking(os.path.abspath(settings.archive_dir), known_state_dir(settings)) as questions:
        found: JudgedRun = questions.run(questions.find(named, now), now)
    model = next((each for each in found.models if each.symbol == symbol), None)
    if model is None:
        hint = f"`modelwarden show {found.record.timestamp}` lists its models"
        raise UnknownRun(
            f"run {found.record.timestamp} has no model called {shorten(symbol)!r}",
            where=settings.archive_dir,
            hint=hint,
        )
    return found.record, model


def _warn_if_superseded(config: str | None, archive: str | None, run: str) -> None:
    """Say which run took the place of one that was decided about."""
    with asking_as_set(config, archive) as questions:
        later = questions.superseded().get(run)
    if later is not None:
        said = f"run {run} was superseded by {later}, of which this decides nothing"
        typer.echo(f"modelwarden: {said}", err=True)


def _list(config: str | None, archive: str | None, named: str | None, limit: int, *, as_json: bool) -> None:
    now = time.time()
    with asking_as_set(config, archive) as questions:
        name = None if named is None else questions.find(named, now)
        waiting, count = questions.waiting(limit, name)
    if as_json:
        print_answer(
            waiting=[{"run": each.run, "symbol": each.symbol, "archived_at": each.archived_at} for each in waiting],
            hidden=count - len(waiting),
        )
    elif waiting:
        with paged():
            print_table(
                ("run", "archived", "symbol"),
                [(each.run, when(each.archived_at, now), each.symbol) for each in waiting],
            )
            if count > len(waiting):
                younger = counted(count - len(waiting), "younger one waits", "younger ones wait")
                typer.echo(f"{younger}, too: --limit {count} shows all")
    else:
        typer.echo("nothing waits for a person")
    if not waiting:
        raise typer.Exit(NOTHING)


def decision_json(decision: Decision) -> dict[str, object]:
    """A decision for --json."""
    return decision._asdict()


_AUDITED: Final = (
    *("number", "decided_at", "run", "symbol", "verb", "override", "classification", "checkpoint"),
    *("by", "reason", "policy", "host", "sha256", "previous"),
)


def audit(
    config: Config = None,
    archive: Archive = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="From then on: 2024-12-24, or 7d, 12h.", show_default=False),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with all that was recorded.")] = False,
    as_json: Json = False,
) -> None:
    """Print the record of decisions.

    Who decided what, when, why, under which policy, in the order in which that was decided.

    Exit code 1 if nothing was decided. What cannot be read is told on
    standard error, with exit code 2.

    Example: modelwarden audit --since 30d --csv > decisions.csv
    """
    now = time.time()
    start = "" if since is None else f"{parse_since(since, now):%Y-%m-%dT%H:%M:%SZ}"
    with asking_as_set(config, archive) as questions:
        kept = questions.decisions()
    told = (each.decision for each in kept if each.decision is not None)
    decisions = list(dropwhile(lambda each: each.decided_at < start, told))  # a clock set back hides none behind it
    if as_json:
        print_answer(decisions=[decision_json(each) for each in decisions])
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_AUDITED)
        writer.writerows([_csv_cell(getattr(each, name)) for name in _AUDITED] for each in decisions)
    else:
        _print_audit(decisions, now)
    if bad := [each for each in kept if each.decision is None or each.problem]:
        raise DamagedRecord(bad)
    if not decisions:
        raise typer.Exit(NOTHING)


class DamagedRecord(ModelwardenError):
    """Some of the record can't be told."""

    def __init__(self, kept: Sequence[Kept]) -> None:
        more = f", and {len(kept) - 1} more" if len(kept) > 1 else ""
        super().__init__(f"{kept[0].problem}{more}", where=kept[0].where, hint="`modelwarden verify` names each")


def _csv_cell(value: object) -> object:
    """A cell that a spreadsheet takes for text: what begins like a formula is none."""
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@"}:
        return f"'{value}"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value


def _print_audit(decisions: Sequence[Decision], now: float) -> None:
    if not decisions:
        typer.echo("nothing was decided")
        return
    if is_terminal():
        with paged():
            for each in decisions:
                _print_decision(each, now)
        return
    with paged():
        print_table(
            ("no.", "decided", "run", "symbol", "decision", "by", "reason", "policy"),
            [
                (
                    str(each.number),
                    when(each.decided_at, now),
                    each.run,
                    each.symbol,
                    Cell(f"{each.verb}{' (override)' if each.override else ''}", _STYLES[each.verb]),
                    each.by,
                    each.reason,
                    each.policy,
                )
                for each in decisions
            ],
            right=("no.",),
        )


def _print_decision(each: Decision, now: float) -> None:
    """A decision on lines of its own: a reason has no room in a column."""
    verb = f"{each.verb}{' (override)' if each.override else ''}"
    what = f"{each.number:>4}  {styled(verb, _STYLES[each.verb])}"
    said = f"{visible(each.symbol)} ({each.classification}) of run {each.run}"
    who = f"{visible(each.by)}, {when(each.decided_at, now)}, policy {each.policy}: {visible(each.reason)}"
    room = max(20, width() - _INDENT)
    first, *more = wrapped(said, max(20, room - len(verb) - 2))
    typer.echo(f"{what}  {first}")
    for line in (*more, *wrapped(who, room)):
        typer.echo(f"{'':{_INDENT}}{line}")


_INDENT: Final = 6
_STYLES: Final = {
    Verb.APPROVE: BAND_STYLES[Classification.APPROVED],
    Verb.REJECT: BAND_STYLES[Classification.DROP],
    Verb.WITHDRAW: "dim",
}
