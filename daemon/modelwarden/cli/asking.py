"""`runs`, `show`, `approved`, `history`: questions about an archive.

The rule: asking changes nothing that counts. The catalog is first brought up to the archive, so that no answer is
older than the truth; what a daemon has still to announce is left to it.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from modelwarden.archive.record import REPORT_FILE, TIMESTAMP_AHEAD
from modelwarden.cli.options import Archive, Config, Json, settings_for_asking
from modelwarden.cli.tables import (
    model_json,
    print_json,
    print_models,
    print_table,
)
from modelwarden.errors import UnknownRun
from modelwarden.gate.assessment import Classification
from modelwarden.gate.deployment import choose_checkpoint
from modelwarden.gate.timestamp import is_run_name
from modelwarden.gate.wording import peak_note
from modelwarden.pipeline.walk import Pipeline
from modelwarden.state.catalog import CatalogRun
from modelwarden.wiring import open_pipeline

DEFAULT_LIMIT = 50

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, metavar="N", help="The youngest so many.")]


def runs(config: Config = None, archive: Archive = None, limit: Limit = DEFAULT_LIMIT, as_json: Json = False) -> None:
    """List the archived runs by their timestamps, oldest first."""
    with _archive(config, archive) as pipeline:
        rows = pipeline.catalog.runs(limit)
        if as_json:
            print_json([_run_json(run) for run in rows])
            return
        print_table(
            ("run", "APPROVED", "REVIEW", "DROP", "policy", "run name"),
            (
                (
                    run.timestamp,
                    *(str(count) for count in run.counts.values()),
                    run.policy,
                    " ".join(filter(None, (run.run_name, "(dated ahead)" if run.is_ahead else ""))),
                )
                for run in rows
            ),
            right=("APPROVED", "REVIEW", "DROP"),
        )
        hidden = len(pipeline.catalog) - len(rows)
        if hidden:
            typer.echo(f"{hidden} older runs: --limit {len(rows) + hidden} shows all")
        latest = pipeline.catalog.latest(time.time())
        if rows and rows[-1].timestamp != latest:
            typer.echo(f"archived last: {latest}; `show` and `approved` mean it if no run is named")


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
    with _archive(config, archive) as pipeline:
        found = _find(pipeline, run)
        if report:
            typer.echo(pipeline.archive.tree.read(found.timestamp, REPORT_FILE).decode(), nl=False)
            return
        models = pipeline.catalog.assessments(found.timestamp)
        policy = pipeline.catalog.policy(found.policy)
        if as_json:
            print_json(_run_json(found) | {"models": [model_json(model, policy) for model in models]})
            return
        counts = ", ".join(f"{count} {classification}" for classification, count in found.counts.items())
        typer.echo(f"{found.timestamp}: {counts}")
        if found.run_name is not None:
            typer.echo(f"run name: {found.run_name}")
        typer.echo(f"policy {found.policy}, archived {found.archived_at} by {found.archived_by}")
        if found.is_ahead:
            typer.echo("dated ahead: its timestamp lies more than a day after it was archived. Is a clock wrong?")
        print_models(((model.symbol, model, policy) for model in models), "symbol")


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
    with _archive(config, archive) as pipeline:
        found = _find(pipeline, run)
        policy = pipeline.catalog.policy(found.policy)
        models = [
            (model.symbol, choose_checkpoint(model), peak_note(model, policy))
            for model in pipeline.catalog.first(found.timestamp, Classification.APPROVED, None, -1)
        ]
        if as_json:
            chosen = [
                {"symbol": symbol, **choice._asdict(), "remark": remark or None} for symbol, choice, remark in models
            ]
            print_json({"run": found.timestamp, "approved": [symbol for symbol, _, _ in models], "models": chosen})
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
    with _archive(config, archive) as pipeline:
        rows = pipeline.catalog.history(symbol, limit)
        if not rows:
            raise UnknownRun(f"no run has a model called {symbol!r}", where=pipeline.archive.root)
        if as_json:
            print_json([{"run": name, **model_json(model, policy)} for name, model, policy in rows])
            return
        print_models(rows, "run")


@contextmanager
def _archive(config: str | None, archive: str | None) -> Iterator[Pipeline]:
    settings = settings_for_asking(config, archive)
    with open_pipeline(settings, announces=False) as pipeline:
        pipeline.recover()
        yield pipeline


def _run_json(run: CatalogRun) -> dict[str, object]:
    """A run for --json."""
    return run._asdict() | {"remarks": [TIMESTAMP_AHEAD] if run.is_ahead else []}


def _find(pipeline: Pipeline, name: str | None) -> CatalogRun:
    name = pipeline.catalog.latest(time.time()) if name is None else name
    if name is None:
        raise UnknownRun("the archive has no runs", where=pipeline.archive.root)
    run = pipeline.catalog.run(name) if is_run_name(name) else None
    if run is None:
        raise UnknownRun(f"no run {name!r}", where=pipeline.archive.root, hint="see `modelwarden runs`")
    return run
