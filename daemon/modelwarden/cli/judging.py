"""`check`: judge summaries without archiving them.

The rule: it reads and judges with the daemon's own code, so that both come to the same end with any file.
"""

import os
from collections.abc import Mapping
from typing import Annotated

import typer

from modelwarden.cli.answers import model_json, print_answer
from modelwarden.cli.lines import complain, hanging
from modelwarden.cli.options import Config, Json
from modelwarden.cli.progress import shown
from modelwarden.cli.screen import width
from modelwarden.cli.tables import print_models
from modelwarden.cli.translating import FormatName, PolicyName, policies_as_told, reading
from modelwarden.config import load_settings
from modelwarden.errors import RejectSummary
from modelwarden.filesystems import show_path
from modelwarden.gate.assessment import Assessment, Classification, count_by_classification
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.policy import Policy
from modelwarden.gate.summary import parse_summary
from modelwarden.intake.reading import Gone, Moving, NotAFile, Refused, TooDense, TooLarge, Whole, read_at_rest
from modelwarden.pipeline.policies import JudgedFolder

ALL_APPROVED = 0
NOT_ALL_APPROVED = 1
BAD_INPUT = 2


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Summaries to judge.")],
    format_name: FormatName = None,
    policy: PolicyName = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Judge summaries without archiving them, as the daemon would.

    Exit code 0 when every model is APPROVED, 1 when not, 2 when a file is no summary. Links are not followed.

    Example: modelwarden check training_output/summary.json
    """
    settings, _ = load_settings(config)
    policies = policies_as_told(settings, format_name, policy)
    by = [
        (file, policies.of_path(path := os.path.abspath(file)), reading(path, policies.folder_of(path)))
        for file in files
    ]
    judged = [
        (file, _judge(file, each, folder, settings.intake.max_bytes), each)
        for file, each, folder in shown(by, len(by), "judging")
    ]
    if as_json:
        print_answer(files=[_as_json(*each) for each in judged])
    else:
        for each in judged:
            _print_outcome(*each)
    raise typer.Exit(max(_code(outcome) for _, outcome, _ in judged))


def print_outcome(file: str, outcome: list[Assessment], policy: Policy, *, as_json: bool) -> int:
    """Show the judgement of one file; return the exit code."""
    if as_json:
        print_answer(files=[_as_json(file, outcome, policy)])
    else:
        _print_outcome(file, outcome, policy)
    return _code(outcome)


def _judge(file: str, policy: Policy, folder: JudgedFolder | None, max_bytes: int) -> list[Assessment] | RejectSummary:
    try:
        data = read_file(file, max_bytes)
        if folder is not None and folder.format is not None:
            from modelwarden.pipeline.trainers import translate_whole  # noqa: PLC0415 - of a folder with a format alone

            data = translate_whole(os.path.abspath(file), data, folder, policy, max_bytes)
        return assess_summary(parse_summary(data, policy), policy)
    except RejectSummary as error:
        return error


def read_file(file: str, max_bytes: int) -> bytes:
    """The bytes of a file that stands still.

    Raises:
        RejectSummary: there are none that the daemon would take.
    """
    match read_at_rest(file, max_bytes):
        case Whole(data, _):
            return data
        case Gone():
            raise RejectSummary("there is no such file")
        case NotAFile("a symbolic link" as kind):
            hint = f"the daemon follows none; check {show_path(os.path.realpath(file))}"
            raise RejectSummary(f"is {kind}", hint=hint)
        case NotAFile(kind):
            raise RejectSummary(f"is {kind}", hint="a summary is a regular file")
        case TooLarge() | TooDense() as large:
            raise large.error(max_bytes)
        case Refused(reason):
            raise RejectSummary(f"can't be read ({reason})")
        case Moving():
            raise RejectSummary("changes while it is read", hint="try again when it is written")


def _code(outcome: list[Assessment] | RejectSummary) -> int:
    if isinstance(outcome, RejectSummary):
        return BAD_INPUT
    approved = all(model.classification is Classification.APPROVED for model in outcome)
    return ALL_APPROVED if approved else NOT_ALL_APPROVED


def _as_json(file: str, outcome: list[Assessment] | RejectSummary, policy: Policy) -> Mapping[str, object]:
    head = {"file": show_path(file), "policy": policy.id}
    if isinstance(outcome, RejectSummary):
        return head | {
            "reason": str(outcome),
            "problems": [problem._asdict() for problem in outcome.problems],
            "more": outcome.more,
        }
    return head | {"models": [model_json(model, policy) for model in outcome]}


def _print_outcome(file: str, outcome: list[Assessment] | RejectSummary, policy: Policy) -> None:
    """The judgement, or a line on standard error for each thing that is wrong."""
    if isinstance(outcome, RejectSummary):
        for line in str(outcome).splitlines():
            complain(f"modelwarden: {show_path(file)}: {line}")
    else:
        _print_file(file, outcome, policy)


def _print_file(file: str, models: list[Assessment], policy: Policy) -> None:
    counts = count_by_classification(models)
    said = f"{show_path(file)}: {', '.join(f'{count} {name}' for name, count in counts.items())}"
    typer.echo("\n".join(hanging(said, width())))
    print_models(((model.symbol, model, policy) for model in models), "symbol")
