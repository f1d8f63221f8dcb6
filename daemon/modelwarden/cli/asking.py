"""`runs`, `show`, `approved`, `history`, `diff`: questions about an archive.

The rule: asking needs no right to write and changes nothing. What is answered is what the archive holds now, whether a
daemon is at work or not.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from modelwarden.archive.record import TIMESTAMP_AHEAD
from modelwarden.cli.options import Archive, Config, Json, settings_for_asking
from modelwarden.cli.tables import (
    figure_text,
    model_json,
    print_json,
    print_models,
    print_table,
)
from modelwarden.config.places import known_state_dir
from modelwarden.errors import UnknownRun
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.deployment import choose_checkpoint
from modelwarden.gate.policy import Policy
from modelwarden.gate.run import RunRecord
from modelwarden.gate.wording import peak_note
from modelwarden.questions import Comparison, Difference, Questions, asking

DEFAULT_LIMIT = 50

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="The youngest so many.")]


def runs(config: Config = None, archive: Archive = None, limit: Limit = DEFAULT_LIMIT, as_json: Json = False) -> None:
    """List the archived runs by their timestamps, oldest first."""
    with _questions(config, archive) as questions:
        found = questions.runs(limit, time.time())
    if as_json:
        print_json([_run_json(run) for run in found.shown])
        return
    print_table(
        ("run", "APPROVED", "REVIEW", "DROP", "policy", "run name"),
        (
            (
                run.timestamp,
                *(str(count) for count in run.counts.values()),
                run.policy.id,
                " ".join(filter(None, (run.run_name, "(dated ahead)" if run.is_ahead else ""))),
            )
            for run in found.shown
        ),
        right=("APPROVED", "REVIEW", "DROP"),
    )
    if found.hidden:
        typer.echo(f"{found.hidden} older runs: --limit {len(found.shown) + found.hidden} shows all")
    if found.shown and found.shown[-1].timestamp != found.latest:
        typer.echo(f"archived last: {found.latest}; `show` and `approved` mean it if no run is named")


def show(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="The one archived last if none is named.")] = None,
    config: Config = None,
    archive: Archive = None,
    report: Annotated[bool, typer.Option("--report", help="Print recommendations.md.")] = False,
    as_json: Json = False,
) -> None:
    """Show a run: every model with its class, figures and flags.

    Without a name it is the run that was archived last, whatever its timestamp says.
    """
    with _questions(config, archive) as questions:
        found, models = questions.run(run, time.time())
        if report:
            typer.echo(questions.report(found.timestamp), nl=False)
            return
    if as_json:
        print_json(_run_json(found) | {"models": [model_json(model, found.policy) for model in models]})
        return
    counts = ", ".join(f"{count} {classification}" for classification, count in found.counts.items())
    typer.echo(f"{found.timestamp}: {counts}")
    if found.run_name is not None:
        typer.echo(f"run name: {found.run_name}")
    typer.echo(f"policy {found.policy.id}, archived {found.archived_at} by {found.archived_by}")
    if found.format is not None:
        typer.echo(f"read as {found.format} from {found.original}")
    if found.supersedes is not None:
        typer.echo(f"supersedes {found.supersedes}: the trainer wrote the same file again")
    if found.is_ahead:
        typer.echo("dated ahead: its timestamp lies more than a day after it was archived. Is a clock wrong?")
    print_models(((model.symbol, model, found.policy) for model in models), "symbol")


def approved(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="The one archived last if none is named.")] = None,
    config: Config = None,
    archive: Archive = None,
    names: Annotated[bool, typer.Option("--names", help="Print the symbols alone.")] = False,
    as_json: Json = False,
) -> None:
    """Print a run's approved models with the checkpoint to deploy.

    For scripts, one a line: the symbol, a tab, the checkpoint ("last" if its number is not known).

    Without a name it is the run that was archived last, whatever its timestamp says.
    """
    with _questions(config, archive) as questions:
        found = questions.run(run, time.time())
    models = [
        (model.symbol, choose_checkpoint(model), peak_note(model, found.record.policy)) for model in found.approved
    ]
    if as_json:
        chosen = [{"symbol": symbol, **choice._asdict(), "remark": remark or None} for symbol, choice, remark in models]
        print_json({"run": found.record.timestamp, "approved": [symbol for symbol, _, _ in models], "models": chosen})
    elif names:
        for symbol, _, _ in models:
            typer.echo(symbol)
    elif sys.stdout.isatty():
        rows = ((symbol, str(choice), remark) for symbol, choice, remark in models)
        print_table(("symbol", "checkpoint", "remark"), rows)
    else:
        for symbol, choice, _ in models:
            typer.echo(f"{symbol}\t{choice}")


def history(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL")],
    config: Config = None,
    archive: Archive = None,
    limit: Limit = DEFAULT_LIMIT,
    as_json: Json = False,
) -> None:
    """Show one symbol's assessments over the runs, oldest first."""
    with _questions(config, archive) as questions:
        rows = questions.history(symbol, limit)
        if not rows:
            raise UnknownRun(f"no run has a model called {symbol!r}", where=questions.archive_dir)
        superseded = questions.superseded([name for name, _, _ in rows])
    if as_json:
        print_json(
            [
                {"run": name, **model_json(model, policy), "superseded_by": superseded.get(name)}
                for name, model, policy in rows
            ]
        )
        return
    print_models(rows, "run")
    for name, by in superseded.items():
        typer.echo(f"{name} was superseded by {by}")


def diff(
    first: Annotated[str | None, typer.Argument(metavar="RUN", help="The later run, or the earlier of two.")] = None,
    second: Annotated[str | None, typer.Argument(metavar="RUN", help="The later of two.")] = None,
    config: Config = None,
    archive: Archive = None,
    as_json: Json = False,
) -> None:
    """Show what changed between two runs.

    Classes, figures, and models that came or went. One run is held against the run before it; if none is named, the one
    that was archived last is.
    """
    before, after = (None, first) if second is None else (first, second)
    with _questions(config, archive) as questions:
        found = questions.compare(before, after, time.time())
    if as_json:
        print_json(
            {
                "before": _run_json(found.before),
                "after": _run_json(found.after),
                "models": [_difference_json(each, found) for each in found.models],
            }
        )
        return
    changed = sum(each.is_of_class for each in found.models)
    typer.echo(f"{found.before.timestamp} -> {found.after.timestamp}: {changed} models of another class, new or gone")
    if found.before.policy.id != found.after.policy.id:
        typer.echo(f"judged by different policies: {found.before.policy.id} and {found.after.policy.id}")
    print_table(
        ("symbol", "class", "figures"),
        ((each.symbol, _classes(each), _figures(each, found)) for each in found.models),
    )


def _classes(each: Difference) -> str:
    match each:
        case Difference(_, None, Assessment() as new):
            return f"{new.classification}, new"
        case Difference(_, Assessment() as gone, None):
            return f"{gone.classification}, gone"
        case Difference(_, Assessment() as was, Assessment() as now) if was.classification != now.classification:
            return f"{was.classification} -> {now.classification}"
        case Difference(_, _, Assessment() as now):
            return str(now.classification)
        case _:
            return ""


def _figures(each: Difference, found: Comparison) -> str:
    """The figures that differ, of the metrics that both runs know."""
    if each.before is None or each.after is None:
        return ""
    was, now = _by_metric(each.before, found.before.policy), _by_metric(each.after, found.after.policy)
    labels = {gate.metric: gate.label for gate in found.after.policy.gates}
    return ", ".join(
        f"{labels[name]} {was[name]} -> {now[name]}" for name in now if name in was and was[name] != now[name]
    )


def _by_metric(model: Assessment, policy: Policy) -> dict[str, str]:
    gates = policy.for_symbol(model.symbol).gates
    return {
        gate.metric: figure_text(gate, value, band)
        for gate, value, band in zip(gates, model.values, model.bands, strict=True)
    }


def _difference_json(each: Difference, found: Comparison) -> dict[str, object]:
    return {
        "symbol": each.symbol,
        "before": None if each.before is None else model_json(each.before, found.before.policy),
        "after": None if each.after is None else model_json(each.after, found.after.policy),
    }


@contextmanager
def _questions(config: str | None, archive: str | None) -> Iterator[Questions]:
    settings = settings_for_asking(config, archive)
    with asking(os.path.abspath(settings.archive_dir), known_state_dir(settings)) as questions:
        yield questions


def _run_json(run: RunRecord) -> dict[str, object]:
    """A run for --json."""
    return {
        "timestamp": run.timestamp,
        "run_name": run.run_name,
        "archived_at": run.archived_at,
        "archived_by": run.archived_by,
        "daemon_id": run.daemon_id,
        "source": run.source.path,
        "source_size": run.source.size,
        "source_mtime": run.source.mtime,
        "sha256": run.sha256,
        "reward_scale": run.reward_scale,
        "policy": run.policy.id,
        "approved_count": run.approved_count,
        "review_count": run.review_count,
        "dropped_count": run.dropped_count,
        "remarks": [TIMESTAMP_AHEAD] if run.is_ahead else [],
        "format": run.format,
        "original": run.original,
        "supersedes": run.supersedes,
    }
