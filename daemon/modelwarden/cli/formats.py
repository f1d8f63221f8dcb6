"""`formats`: whose files can be read, how, and what would come of one.

The rule: a file is tried with the daemon's own code: what is shown is what would be judged.
"""

import os
from typing import Annotated

import typer

from modelwarden.cli.answers import print_answer, print_json
from modelwarden.cli.judging import BAD_INPUT, print_outcome, read_file
from modelwarden.cli.options import Config, Json
from modelwarden.cli.tables import print_table
from modelwarden.cli.upkeep import as_toml
from modelwarden.config import Settings, known_formats, load_settings
from modelwarden.errors import RejectSummary, StopService
from modelwarden.filesystems import show_path
from modelwarden.formats.description import Format
from modelwarden.formats.normalising import NotFinal
from modelwarden.formats.sandbox import missing_extra
from modelwarden.gate.gates import LARGEST_FIGURE
from modelwarden.gate.gating import assess_summary
from modelwarden.gate.json_object import read_object
from modelwarden.gate.policy import DEFAULT_NAME, Policy
from modelwarden.gate.summary import parse_summary
from modelwarden.pipeline.policies import JudgedFolder, Policies
from modelwarden.pipeline.trainers import translate_file, translate_whole
from modelwarden.wiring import policies_of

formats_commands = typer.Typer(help="List whose own files can be read; show or try a format.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The format's.")]


@formats_commands.callback(invoke_without_command=True)
def formats(context: typer.Context, config: Config = None, as_json: Json = False) -> None:
    """List the formats: those that come with modelwarden, and your own."""
    if context.invoked_subcommand is not None:
        return
    settings, _ = load_settings(config)
    known = known_formats(settings).formats.values()
    if as_json:
        print_answer(formats=[{"name": each.name, "title": each.title, "files": [*each.files]} for each in known])
        return
    print_table(("format", "files", "final", "whose"), [_row(each) for each in known])


def _row(format_: Format) -> tuple[str, str, str, str]:
    names = [each for each in format_.files if not each.startswith("!")]
    return format_.name, ", ".join(names), " or ".join(format_.final), format_.title


@formats_commands.command("show")
def show(name: Name, config: Config = None) -> None:
    """Print a format, as a file of your own could hold it."""
    settings, _ = load_settings(config)
    typer.echo(format_as_toml(_format(settings, name)), nl=False)


@formats_commands.command("try")
def try_file(
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A trainer's file.")],
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="NAME", help="Judge it by this policy of the settings.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what a format reads in a file; with --policy, what would be judged.

    Exit codes as of `check`; without a policy 0 if the file can be read.
    """
    settings, _ = load_settings(config)
    format_ = _format(settings, name)
    if missing := missing_extra():
        hint = 'pip install "modelwarden[formats]"'
        raise StopService(f"{', '.join(missing)} is not installed", where="formats", hint=hint)
    path = os.path.abspath(file)
    folder = JudgedFolder(os.path.dirname(os.path.dirname(path)), format_.names, policy or DEFAULT_NAME, format_)
    judging = None if policy is None else _policy(policies_of(settings), policy, folder)
    try:
        is_final, summary = _summary(path, folder, judging, settings)
        outcome = None if judging is None else assess_summary(parse_summary(summary, judging), judging)
    except RejectSummary as error:
        for line in str(error).splitlines():
            typer.echo(f"modelwarden: {show_path(file)}: {line}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    if not format_.takes(path):
        taken = ", ".join(format_.files)
        typer.echo(f"modelwarden: {show_path(file)}: {name} takes {taken}: set patterns to take this too", err=True)
    if not is_final:
        typer.echo(f"modelwarden: {show_path(file)}: the training goes on: it would not be judged yet", err=True)
    if judging is None or outcome is None:
        _print_summary(summary, as_json=as_json)
    else:
        raise typer.Exit(print_outcome(file, outcome, judging, as_json=as_json))


def _summary(path: str, folder: JudgedFolder, judging: Policy | None, settings: Settings) -> tuple[bool, bytes]:
    """Whether the file says that its training ended, as far as its format asks, and the summary that it comes to."""
    most = settings.intake.max_bytes
    data = read_file(path, most)
    asks = folder.format is not None and any(each.complete for each in folder.format.conditions)
    is_final = True
    if asks:
        is_final = not isinstance(translate_file(path, data, folder, judging, most, if_complete=True), NotFinal)
    return is_final, translate_whole(path, data, folder, judging, most)


def _print_summary(summary: bytes, *, as_json: bool) -> None:
    document = read_object(summary)
    if as_json:
        print_json(document)
        return
    rows = []
    for model in document["models"]:
        for metric, points in model["metrics"].items():
            course = points if isinstance(points, list) else [points]
            count = "1 point" if len(course) == 1 else f"{len(course)} points"
            rows.append((model["symbol"], metric, _shown(course[-1]), count))
    print_table(("symbol", "metric", "last", "course"), rows)


def _shown(figure: float | None) -> str:
    return "missing" if figure is None else f"{figure:.6g}"


def _format(settings: Settings, name: str) -> Format:
    known = known_formats(settings).formats
    if name not in known:
        raise StopService(f"there is no format {name!r}", where="formats", hint="`modelwarden formats` lists them")
    return known[name]


def _policy(policies: Policies, name: str, folder: JudgedFolder) -> Policy:
    if name not in policies.by_name:
        known = ", ".join(policies.by_name)
        raise StopService(f"there is no policy {name!r}", where="--policy", hint=f"the settings have {known}")
    return Policies(policies.default, policies.others, (folder,)).by_key[folder.key]


def format_as_toml(format_: Format) -> str:
    """The format as a file can hold it; read again it is the same."""
    plain = Format(format_.name, "", (), "", "")
    written = {
        name: [*value] if isinstance(value, tuple) else value
        for name, value in vars(format_).items()
        if name not in {"metrics", "program"} and (value != getattr(plain, name) or name in {"name", "title"})
    }
    lines = [*as_toml(written)]
    quotes = "'''"
    if quotes in format_.program or "\r" in format_.program:
        lines += [*as_toml({"program": format_.program})]
    else:
        lines.append(f"program = {quotes}\n{format_.program}{quotes}")
    for rule in format_.metrics:
        said = {name: each for name, each in rule._asdict().items() if each is not False and not _is_open(each)}
        lines += ["", "[[metric]]", *as_toml(said)]
    return "\n".join(lines) + "\n"


def _is_open(value: object) -> bool:
    return isinstance(value, float) and abs(value) == LARGEST_FIGURE
