"""`runs`, `show`, `approved`: questions about the runs of an archive.

The rule: asking needs no right to write and changes nothing. What is answered is what the archive holds now, whether a
daemon is at work or not.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from modelwarden.cli.answers import bounds_json, course_json, model_json, print_answer, run_json
from modelwarden.cli.lines import cell_width, clipped, counted, wrapped
from modelwarden.cli.moments import age, timestamp_since
from modelwarden.cli.options import Archive, Config, Json, asking_as_set
from modelwarden.cli.screen import is_terminal, paged, styled, visible, width
from modelwarden.cli.tables import BAND_STYLES, Cell, heading_of, print_models, print_table
from modelwarden.errors import StopService, UnknownRun
from modelwarden.gate.assessment import CLASSIFICATIONS, Assessment, Classification
from modelwarden.gate.decision import SAID, Decision
from modelwarden.gate.deployment import choose_checkpoint
from modelwarden.gate.gates import Better
from modelwarden.gate.json_object import shorten
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord
from modelwarden.gate.wording import peak_note
from modelwarden.questions import LATEST, Questions, Runs
from modelwarden.state.catalog import Asked

DEFAULT_LIMIT = 50

_LONGEST_NAME: Final = 60
"""Columns of a run's name in a list at a terminal."""

NOTHING: Final = 1
"""Exit code if nothing is what was asked for."""

RUN_HELP: Final = "Its name, the beginning of it, a date, a run name, or `latest`."

Limit = Annotated[int, typer.Option("--last", "--limit", "-n", min=1, metavar="N", help="The youngest so many.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help=RUN_HELP, show_default="the one archived last")]
OfClass = Annotated[
    Classification | None,
    typer.Option("--class", case_sensitive=False, help="Of this class alone.", show_default=False),
]


def runs(
    config: Config = None,
    archive: Archive = None,
    limit: Limit = DEFAULT_LIMIT,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="From then on: 2024-12-24, or 7d, 12h.", show_default=False),
    ] = None,
    symbol: Annotated[
        str | None,
        typer.Option(
            "--symbol",
            metavar="SYMBOL",
            help="That have this model; BTC* for all that begin so.",
            show_default=False,
        ),
    ] = None,
    of_class: Annotated[
        Classification | None,
        typer.Option(
            "--class", case_sensitive=False, help="In which a model, or that model, is so.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="That the trainer called so; nightly* for all that begin so.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the archived runs by their timestamps, oldest first.

    Exit code 1 if none is what was asked for.

    Example: modelwarden runs --since 7d --symbol 'BTC*' --class DROP
    """
    now = time.time()
    asked = Asked(None if since is None else timestamp_since(since, now), symbol, of_class, name)
    with asking_as_set(config, archive) as questions:
        found = questions.runs(limit, now, asked)
    if as_json:
        print_answer(runs=[run_json(run) for run in found.shown], hidden=found.hidden, latest=found.latest)
    else:
        with paged():
            _print_runs(found, now, is_all=asked == Asked())
    if not found.shown:
        raise typer.Exit(NOTHING)


def _print_runs(found: Runs, now: float, *, is_all: bool) -> None:
    if not found.shown:
        typer.echo("no run is what was asked for" if not is_all else "the archive has no runs")
        return
    print_table(
        ("run", "APPROVED", "REVIEW", "DROP", "policy", "archived", "run name"),
        (
            (
                run.timestamp,
                *(Cell(str(count), BAND_STYLES[each] if count else "dim") for each, count in run.counts.items()),
                run.policy.id,
                when(run.archived_at, now),
                " ".join(filter(None, ("(dated ahead)" if run.is_ahead else "", _clipped(run.run_name)))),
            )
            for run in found.shown
        ),
        right=("APPROVED", "REVIEW", "DROP"),
        short=("run name",),
    )
    if found.hidden:
        typer.echo(f"{counted(found.hidden, 'older run')}: --last {len(found.shown) + found.hidden} shows all")
    if is_all and found.shown[-1].timestamp != found.latest:
        typer.echo(f"archived last: {found.latest}; `show` and `approved` mean it if no run is named")


def _clipped(name: str | None) -> str:
    """A run's name for a list: `show` has it whole."""
    return clipped(name or "", _LONGEST_NAME) if is_terminal() else name or ""


def when(moment: str, now: float) -> str:
    """A moment as it is read: how long ago for a person, ISO 8601 in a pipe."""
    return age(moment, now) if is_terminal() else moment


def show(
    run: Run = LATEST,
    symbol: Annotated[
        str | None,
        typer.Argument(
            metavar="SYMBOL",
            help="All there is to say of one model.",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    archive: Archive = None,
    of_class: OfClass = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort", metavar="BY", help="symbol, class, or a metric: the best first.", show_default="as in the summary"
        ),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Print recommendations.md.")] = False,
    as_json: Json = False,
) -> None:
    """Show a run: every model with its class, figures and flags.

    With a symbol: all there is to say of that model. Without a name it is the run that was archived last, whatever its
    timestamp says. Exit code 1 if no model of the run is in the class that was asked for.

    Example: modelwarden show latest BTCUSD
    """
    now = time.time()
    with asking_as_set(config, archive) as questions:
        name = questions.find(run, now)
        text = questions.report(name) if report else None
        if text is not None and not as_json:
            with paged():
                sys.stdout.write(text)
            return
        whole = {} if text is None else {"report": text}
        found, models = questions.run(name, now)
        if symbol is not None:
            _show_model(questions, found, models, symbol, whole, as_json=as_json, now=now)
            return
    order = None if sort is None else _order(sort, found.policy)
    chosen = [model for model in models if of_class in {None, model.classification}]
    if order is not None:
        chosen.sort(key=order)
    if as_json:
        print_answer(**run_json(found), models=[model_json(model, found.policy) for model in chosen], **whole)
    else:
        with paged():
            _print_head(found, now)
            if chosen:
                print_models(((model.symbol, model, found.policy) for model in chosen), "symbol")
            else:
                typer.echo(f"no model is in {of_class}")
    if not chosen:
        raise typer.Exit(NOTHING)


def _order(by: str, policy: Policy) -> Callable[[Assessment], Any]:
    """What sorts models. Raises StopService if there is nothing of that name to sort by."""
    if by == "symbol":
        return lambda model: model.symbol
    if by == "class":
        return lambda model: CLASSIFICATIONS.index(model.classification)
    for at, gate in enumerate(policy.gates):
        if by in {gate.metric, gate.label, heading_of(gate)}:
            sign = -1.0 if gate.better is Better.HIGHER else 1.0
            return lambda model: _worst_last(model.values[at], sign)
    known = ", ".join(("symbol", "class", *policy.metrics))
    raise StopService(f"there is no {by!r} to sort by", where="--sort", hint=f"there are {known}")


def _worst_last(value: float | None, sign: float) -> tuple[bool, float]:
    """What can't be compared comes last."""
    return (True, 0.0) if value is None or math.isnan(value) else (False, sign * value)


def _print_head(run: RunRecord, now: float) -> None:
    counts = ", ".join(
        styled(f"{count} {each}", BAND_STYLES[each] if count else "") for each, count in run.counts.items()
    )
    typer.echo(f"{run.timestamp}: {counts}")
    if run.run_name is not None:
        for line in wrapped(f"run name: {visible(run.run_name)}", width()):
            typer.echo(line)
    typer.echo(f"policy {run.policy.id}, archived {when(run.archived_at, now)} by {visible(run.archived_by)}")
    if run.format is not None:
        typer.echo(f"read as {visible(run.format)} from {visible(run.original or '')}")
    if run.supersedes is not None:
        typer.echo(f"supersedes {run.supersedes}: the trainer wrote the same file again")
    if run.is_ahead:
        typer.echo("dated ahead: its timestamp lies more than a day after it was archived. Is a clock wrong?")


def _show_model(
    questions: Questions,
    run: RunRecord,
    models: Sequence[Assessment],
    symbol: str,
    whole: Mapping[str, str],
    *,
    as_json: bool,
    now: float,
) -> None:
    from modelwarden.cli.model_card import card_json, card_lines  # noqa: PLC0415 - for one model alone

    model = next((each for each in models if each.symbol == symbol), None)
    if model is None:
        raise UnknownRun(
            f"run {run.timestamp} has no model called {shorten(symbol)!r}",
            where=questions.archive_dir,
            hint=f"`modelwarden show {run.timestamp}` lists its models",
        )
    course = questions.course(run, symbol)
    decision = questions.decided(run).get(symbol)
    if as_json:
        print_answer(
            **run_json(run),
            models=[
                model_json(model, run.policy)
                | {
                    "bounds": bounds_json(run.policy.for_symbol(symbol)),
                    "course": course_json(course),
                    "meanings": card_json(model, run.policy),
                    "review": None if decision is None else decision._asdict(),
                }
            ],
            **whole,
        )
        return
    with paged():
        said = styled(model.classification.value, BAND_STYLES[model.classification])
        *above, last = wrapped(f"{visible(symbol)}:", width())
        for line in above:
            typer.echo(styled(line, "bold"))
        is_short = cell_width(last) + len(f" {model.classification} in run {run.timestamp}") <= width()
        typer.echo(f"{styled(last, 'bold')}{' ' if is_short else chr(10)}{said} in run {run.timestamp}")
        typer.echo(f"policy {run.policy.id}, archived {when(run.archived_at, now)} by {visible(run.archived_by)}")
        if decision is not None:
            text = f"{SAID[decision.verb]} by {decision.by}, {when(decision.decided_at, now)}: {decision.reason}"
            for line in wrapped(visible(text), width()):
                typer.echo(line)
        typer.echo()
        for line in card_lines(model, run.policy, course):
            typer.echo(line)


def _said(decision: Decision | None) -> str:
    """Who approved a model, if a person did."""
    if decision is None:
        return ""
    return f"approved by {decision.by}{', although in DROP' if decision.override else ''}: {decision.reason}"


def approved(
    run: Run = LATEST,
    config: Config = None,
    archive: Archive = None,
    names: Annotated[bool, typer.Option("--names", help="Print the symbols alone.")] = False,
    by_gate: Annotated[bool, typer.Option("--by-gate", help="Whatever people decided.")] = False,
    as_json: Json = False,
) -> None:
    """Print a run's approved models with the checkpoint to deploy.

    For scripts, one a line: the symbol, a tab, the checkpoint ("last" if its number is not known).

    Without a name it is the run that was archived last, whatever its timestamp says. What people approved is among
    them, and is marked at a terminal and in JSON; what they rejected is not. Exit code 1 if no model is approved.

    Example: modelwarden approved | while read -r symbol checkpoint; do deploy "$symbol" "$checkpoint"; done
    """
    now = time.time()
    with asking_as_set(config, archive) as questions:
        found = questions.run(questions.find(run, now), now)
        decided = {} if by_gate else questions.decided(found.record)
    models = [
        (model.symbol, choose_checkpoint(model), peak_note(model, found.record.policy))
        for model in found.deployable(decided)
    ]
    if as_json:
        chosen = [
            {
                "symbol": symbol,
                **choice._asdict(),
                "remark": remark or None,
                "review": None if symbol not in decided else decided[symbol]._asdict(),
            }
            for symbol, choice, remark in models
        ]
        print_answer(run=found.record.timestamp, approved=[symbol for symbol, _, _ in models], models=chosen)
    elif names:
        sys.stdout.write("".join(f"{symbol}\n" for symbol, _, _ in models))
    elif not is_terminal():
        sys.stdout.write("".join(f"{symbol}\t{choice}\n" for symbol, choice, _ in models))
    elif models:
        with paged():
            rows = (
                (symbol, str(choice), "; ".join(filter(None, (_said(decided.get(symbol)), remark))))
                for symbol, choice, remark in models
            )
            print_table(("symbol", "checkpoint", "remark"), rows)
    else:
        typer.echo(f"run {found.record.timestamp} approved no model")
    if not models:
        raise typer.Exit(NOTHING)
