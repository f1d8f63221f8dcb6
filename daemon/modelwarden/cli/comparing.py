"""`history` and `diff`: a symbol over the runs, and what changed between two of them.

The rule: as for all that asks: nothing is changed, and what is answered is what the archive holds now.
"""

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final

import typer

from modelwarden.archive.report import spark_line
from modelwarden.cli.answers import model_json, print_answer, run_json
from modelwarden.cli.asking import DEFAULT_LIMIT, RUN_HELP, Limit
from modelwarden.cli.lines import cell_width, counted
from modelwarden.cli.options import Archive, Config, Json, asking_as_set
from modelwarden.cli.screen import paged, visible, width
from modelwarden.cli.tables import BAND_STYLES, Cell, figure_text, heading_of, print_models, print_sentence, print_table
from modelwarden.errors import UnknownRun
from modelwarden.filesystems import show_path
from modelwarden.gate.assessment import Assessment
from modelwarden.gate.gates import Better, Gate
from modelwarden.gate.json_object import shorten
from modelwarden.gate.policy import Policy
from modelwarden.questions import Comparison, Difference, SymbolInRun

SPARKS: Final = 40
"""Runs that a sparkline shows: the youngest."""

_LEAST_SPARKS: Final = 8
"""Of a narrow terminal."""


def history(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL")],
    config: Config = None,
    archive: Archive = None,
    limit: Limit = DEFAULT_LIMIT,
    png: Annotated[
        str | None,
        typer.Option("--png", metavar="FILE", help="Draw it there (extra `plots`).", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one symbol's assessments over the runs, oldest first.

    Below them the course of each metric over the runs.

    Example: modelwarden history BTCUSD --last 20
    """
    with asking_as_set(config, archive) as questions:
        found = questions.history(symbol, min(limit, sys.maxsize - 1) + 1)  # one more tells that there are more
        rows = found[-limit:]
        if not rows:
            raise UnknownRun(f"no run has a model called {shorten(symbol)!r}", where=questions.archive_dir)
        superseded = questions.superseded([name for name, _, _ in rows])
    if png is not None:
        from modelwarden.cli.picture import draw_history  # noqa: PLC0415 - brings matplotlib along

        draw_history(png, symbol, rows)
    if as_json:
        listed = [
            {"run": name, **model_json(model, policy), "superseded_by": superseded.get(name)}
            for name, model, policy in rows
        ]
        print_answer(symbol=symbol, history=listed)
    elif png is not None:
        typer.echo(f"{show_path(os.path.abspath(png))}: {counted(len(rows), 'run')} of {visible(symbol)}")
    else:
        with paged():
            print_models(rows, "run")
            if len(found) > len(rows):
                typer.echo(f"older runs are left out: --last {2 * limit} shows more")
            for name, by in superseded.items():
                typer.echo(f"{name} was superseded by {by}")
            if len(rows) > 1:
                typer.echo()
                for line in _courses(rows):
                    typer.echo(line)


def _courses(rows: Sequence[SymbolInRun]) -> Iterator[str]:
    """The courses over as many of the last runs as there is room for; if not over all, that is said first."""
    shown = min(SPARKS, len(rows))
    lines = [*_sparks(rows[-shown:])]
    while (excess := max(map(cell_width, lines)) - width()) > 0 and shown > _LEAST_SPARKS:
        shown = max(shown - excess, _LEAST_SPARKS)
        lines = [*_sparks(rows[-shown:])]
    if shown < len(rows):
        yield f"course over the last {shown} runs"
    yield from lines


def _sparks(rows: Sequence[SymbolInRun]) -> Iterator[str]:
    """A line a metric: its course over the runs, first and last figure."""
    courses = courses_of(rows)
    names = max(len(heading_of(gate)) for gate, _ in courses.values())
    for gate, values in courses.values():
        usable = [value for value in values if math.isfinite(value)]
        span = f"{usable[0]:.4g} -> {usable[-1]:.4g}" if usable else "no figure"
        sign = ">=" if gate.better is Better.HIGHER else "<="
        yield f"{heading_of(gate):<{names}}  {spark_line(values)}  {span}  (APPROVED {sign} {gate.approve:g})"


def courses_of(rows: Sequence[SymbolInRun]) -> Mapping[str, tuple[Gate, list[float]]]:
    """By metric, in the order of the youngest policy: its gate there, and a figure a run, NaN if it has none."""
    gates: dict[str, Gate] = {}
    for _, model, policy in reversed(rows):
        for gate in policy.for_symbol(model.symbol).gates:
            gates.setdefault(gate.metric, gate)
    columns = [dict(zip(policy.metrics, model.values, strict=True)) for _, model, policy in rows]
    return {
        name: (gate, [math.nan if (value := each.get(name)) is None else value for each in columns])
        for name, gate in gates.items()
    }


def diff(
    first: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="The later run, or the earlier of two."),
    ] = None,
    second: Annotated[str | None, typer.Argument(metavar="RUN", help=f"The later of two. {RUN_HELP}")] = None,
    config: Config = None,
    archive: Archive = None,
    as_json: Json = False,
) -> None:
    """Show what changed between two runs.

    Class changes first, then figures that are better or worse. One run is held against the run before it; if none is
    named, the one that was archived last is.

    Example: modelwarden diff 2024-12-23 latest
    """
    now = time.time()
    with asking_as_set(config, archive) as questions:
        named = [None if each is None else questions.find(each, now) for each in (first, second)]
        before, after = (None, named[0]) if second is None else named
        found = questions.compare(before, after, now)
    models = sorted(found.models, key=lambda each: not each.is_of_class)
    if as_json:
        print_answer(
            before=run_json(found.before),
            after=run_json(found.after),
            models=[_difference_json(each, found) for each in models],
        )
        return
    with paged():
        changed = counted(sum(each.is_of_class for each in models), "model")
        print_sentence(f"{found.before.timestamp} -> {found.after.timestamp}: {changed} of another class, new or gone")
        if found.before.policy.id != found.after.policy.id:
            typer.echo(f"judged by different policies: {found.before.policy.id} and {found.after.policy.id}")
        if models:
            print_table(
                ("symbol", "class", "better", "worse"),
                ((each.symbol, _classes(each), *_figures(each, found)) for each in models),
            )
        else:
            typer.echo("every model has the same class and the same figures")


def _classes(each: Difference) -> Cell:
    match each:
        case Difference(_, None, Assessment() as new):
            return Cell(f"{new.classification}, new", BAND_STYLES[new.classification])
        case Difference(_, Assessment() as gone, None):
            return Cell(f"{gone.classification}, gone", "dim")
        case Difference(_, Assessment() as was, Assessment() as now) if was.classification != now.classification:
            return Cell(f"{was.classification} -> {now.classification}", BAND_STYLES[now.classification])
        case Difference(_, _, Assessment() as now):
            return Cell(str(now.classification))
        case _:
            return Cell("")


def _figures(each: Difference, found: Comparison) -> tuple[Cell, Cell]:
    """The figures that are better, and those that are worse, of the metrics that both runs know."""
    better, worse = changes_of(each, found)
    return Cell(", ".join(better.values()), "green"), Cell(", ".join(worse.values()), "red")


def changes_of(each: Difference, found: Comparison) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """By metric what it was and is, in words: what became better, and what became worse or can't be compared."""
    better: dict[str, str] = {}
    worse: dict[str, str] = {}
    if each.before is None or each.after is None:
        return better, worse
    was, now = _by_metric(each.before, found.before.policy), _by_metric(each.after, found.after.policy)
    for gate in found.after.policy.gates:
        if gate.metric not in was or repr(was[gate.metric][0]) == repr(now[gate.metric][0]):
            continue
        (old, old_text), (new, new_text) = was[gate.metric], now[gate.metric]
        is_better = (
            new is not None
            and not math.isnan(new)
            and (old is None or math.isnan(old) or (new > old if gate.better is Better.HIGHER else new < old))
        )
        (better if is_better else worse)[gate.metric] = f"{heading_of(gate)} {_apart(old, old_text, new, new_text)}"
    return better, worse


def _apart(old: float | None, old_text: str, new: float | None, new_text: str) -> str:
    """Both figures, with all digits if fewer would show them alike."""
    return f"{old!r} -> {new!r}" if old_text == new_text else f"{old_text} -> {new_text}"


def _by_metric(model: Assessment, policy: Policy) -> Mapping[str, tuple[float | None, str]]:
    gates = policy.for_symbol(model.symbol).gates
    return {
        gate.metric: (value, figure_text(gate, value, band))
        for gate, value, band in zip(gates, model.values, model.bands, strict=True)
    }


def _difference_json(each: Difference, found: Comparison) -> dict[str, object]:
    better, worse = changes_of(each, found)
    return {
        "symbol": each.symbol,
        "changed_class": each.is_of_class,
        "better": [*better],
        "worse": [*worse],
        "before": None if each.before is None else model_json(each.before, found.before.policy),
        "after": None if each.after is None else model_json(each.after, found.after.policy),
    }
