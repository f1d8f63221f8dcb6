"""`check`: judge summaries without archiving them."""

from typing import Annotated

import typer

from modelwarden.cli.options import Config, Json
from modelwarden.cli.tables import (
    MODEL_FIGURES,
    MODEL_HEADINGS,
    model_cells,
    model_json,
    print_json,
    print_table,
)
from modelwarden.config import load_settings
from modelwarden.errors import RejectSummary
from modelwarden.filesystems import show_path
from modelwarden.gate.assessment import Assessment, Classification, count_by_classification
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import parse_summary
from modelwarden.wiring import policy_of

ALL_APPROVED = 0
NOT_ALL_APPROVED = 1
BAD_INPUT = 2


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Summaries to judge.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Judge summaries without archiving them.

    Exit code 0 when every model is APPROVED, 1 when not, 2 when a file is no summary.
    """
    settings, _ = load_settings(config, asks_apprise=True)
    policy = policy_of(settings)
    judged: list[tuple[str, list[Assessment]]] = []
    bad = False
    for file in files:
        try:
            judged.append((file, _judge(file, policy)))
        except RejectSummary as error:
            bad = True
            typer.echo(f"modelwarden: {show_path(file)}: {error}", err=True)
    if as_json:
        print_json(
            [
                {
                    "file": show_path(file),
                    "policy": policy.id,
                    "models": [model_json(model, policy) for model in models],
                }
                for file, models in judged
            ]
        )
    else:
        for file, models in judged:
            _print_file(file, models, policy)
    approved = all(model.classification is Classification.APPROVED for _, models in judged for model in models)
    raise typer.Exit(BAD_INPUT if bad else ALL_APPROVED if approved else NOT_ALL_APPROVED)


def _judge(file: str, policy: Policy) -> list[Assessment]:
    try:
        with open(file, "rb") as stream:
            data = stream.read()
    except OSError as error:
        raise RejectSummary(f"can't be read ({error.strerror})") from None
    return assess_summary(parse_summary(data, policy.gates), policy)


def _print_file(file: str, models: list[Assessment], policy: Policy) -> None:
    counts = count_by_classification(models)
    typer.echo(f"{show_path(file)}: {', '.join(f'{count} {name}' for name, count in counts.items())}")
    print_table(
        ("symbol", *MODEL_HEADINGS),
        ((model.symbol, *model_cells(model, policy)) for model in models),
        right=MODEL_FIGURES,
    )
