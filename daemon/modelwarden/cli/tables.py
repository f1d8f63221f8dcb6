"""How tables look: on a terminal as wide as it is, elsewhere wide and plain; text from summaries is never markup."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import typer
from pydantic_core import to_json
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from modelwarden.gate.assessment import Assessment, Band, Classification
from modelwarden.gate.gates import Gate
from modelwarden.gate.policy import Policy
from modelwarden.gate.wording import checkpoint_advice, metric_comparisons

PIPE_WIDTH: Final = 10_000
"""Columns where standard output is no terminal: a row is a line, and nothing a script greps for is cut."""

_BAND_STYLES: Final = {
    Band.APPROVED: "green",
    Band.REVIEW: "yellow",
    Band.DROP: "red",
    Band.INVALID: "bold red",
    Band.IGNORED: "dim",
}
_SHORT: Final = {"profit_factor": "PF", "consistency": "cons.", "max_drawdown": "max DD"}


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Sequence[str] = ()) -> None:
    """Print rows under headings; those named in `right` are aligned there."""
    console = Console(width=None, highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        # Only a stranger's text may be cut up; figures and classes stay whole, sentences break at blanks.
        whole = heading in right or heading in {"class", "run", "policy", "about", "status", "since (UTC)", "next try"}
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console.print(table)


def print_json(value: object) -> None:
    """Print strict JSON, indented."""
    typer.echo(to_json(value, indent=2, inf_nan_mode="null").decode())


def print_json_list(values: Iterable[object]) -> None:
    """The same for a list that may be long: each value is printed as it comes."""
    opening = "[\n  "
    for value in values:
        text = to_json(value, indent=2, inf_nan_mode="null").decode().replace("\n", "\n  ")
        typer.echo(f"{opening}{text}", nl=False)
        opening = ",\n  "
    typer.echo("[]" if opening[0] == "[" else "\n]")


MOST_COLUMNS: Final = 5
"""Most metrics with a column of their own. With more no terminal is wide enough: what decided stands in the last."""


def print_models(models: Iterable[tuple[str, Assessment, Policy]], first: str) -> None:
    """Print one row a model, a column a metric; each figure has the colour of its band.

    Args:
        models: each with what stands in its first column, and what judged it. If their policies name other metrics, a
            model has `-` under those that its own does not name.
        first: the heading of the first column.
    """
    rows = list(models)
    labels: dict[str, str] = {}
    for _, _, policy in rows:
        for gate in policy.gates:
            labels.setdefault(gate.metric, _SHORT.get(gate.metric, gate.label))
    shown = dict(labels) if len(labels) <= MOST_COLUMNS else {}
    print_table(
        (first, "class", *shown.values(), "why"),
        ((head, *_cells(model, policy, shown)) for head, model, policy in rows),
        right=[*shown.values()],
    )


def _cells(model: Assessment, policy: Policy, shown: Mapping[str, str]) -> Sequence[str | Text]:
    gates = policy.for_symbol(model.symbol).gates
    cells = {
        gate.metric: Text(figure_text(gate, value, band), style=_BAND_STYLES[band])
        for gate, value, band in zip(gates, model.values, model.bands, strict=True)
    }
    figures = [cells.get(metric, Text("-")) for metric in shown]
    why = _why(model, policy) if shown else "; ".join(filter(None, (_why(model, policy), *_missed(model, policy))))
    return (Text(model.classification, style=_BAND_STYLES[Band(model.classification)]), *figures, why)


def _missed(model: Assessment, policy: Policy) -> Sequence[str]:
    """What decided, for a table that has no room for the figures."""
    return metric_comparisons(model, policy, (Band.REVIEW, Band.DROP, Band.INVALID))


def model_json(model: Assessment, policy: Policy) -> Mapping[str, object]:
    """A model for --json: what decides, without the bounds."""
    there = model.at_checkpoint
    return {
        "symbol": model.symbol,
        "classification": model.classification,
        "flags": model.flags,
        "remarks": model.remarks,
        "use_checkpoint": model.use_checkpoint,
        "best_idx": model.best_idx,
        "checkpoint_update": model.checkpoint_update,
        "last_checkpoint": model.last_checkpoint,
        "checkpoint_advice": str(checkpoint_advice(model, policy)) or None,
        "at_checkpoint": None
        if there is None
        else {"classification": there.classification, "metrics": _figures(there.values, policy)},
        "metrics": _figures(model.values, policy),
        "others": model.others,
        "reasons": model.reasons,
    }


def _figures(values: Sequence[float | None], policy: Policy) -> Mapping[str, float | None]:
    return {gate.metric: value for gate, value in zip(policy.gates, values, strict=True)}


def figure_text(gate: Gate, value: float | None, band: Band) -> str:
    """Four digits, and more where fewer would show a figure of another band: 0.69999 is not 0.7."""
    if value is None:
        return "-"
    texts = (f"{value:.{digits}g}" for digits in range(4, 17))
    return next((text for text in texts if gate.band(float(text)) is band), repr(value))


def _why(model: Assessment, policy: Policy) -> str:
    missed = [
        _SHORT.get(gate.metric, gate.label)
        for gate, band in zip(policy.gates, model.bands, strict=True)
        if band is Band.REVIEW and model.classification is Classification.REVIEW
    ]
    review = [f"review {'+'.join(missed)}"] if missed else []
    listed = " ".join([*review, *model.flags, *model.remarks])
    return "; ".join(filter(None, (listed, str(checkpoint_advice(model, policy)))))
