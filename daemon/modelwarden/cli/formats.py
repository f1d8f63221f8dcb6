"""`formats`: whose files can be read, how, and what would come of one.

The rule: a file is tried with the daemon's own code: what is shown is what would be judged.
"""

from collections.abc import Sequence
from typing import Annotated

import typer

from modelwarden.cli.answers import print_answer
from modelwarden.cli.options import Config, Json, names_another
from modelwarden.cli.tables import print_table
from modelwarden.config import Settings, known_formats, load_settings, meant_formats
from modelwarden.errors import StopService
from modelwarden.formats.description import Format, MetricRule
from modelwarden.gate.gates import LARGEST_FIGURE

formats_commands = typer.Typer()

Name = Annotated[str, typer.Argument(metavar="NAME", help="The format's.")]


@formats_commands.callback(invoke_without_command=True)
def formats(context: typer.Context, config: Config = None, as_json: Json = False) -> None:
    """List whose own files can be read; show or try a format.

    Alone it lists the formats: those that come with modelwarden, and your own.

    Example: modelwarden formats
    """
    if names_another(context):
        return
    settings, _ = load_settings(config)
    known = known_formats(settings).formats.values()
    if as_json:
        print_answer(
            formats=[
                {"name": each.name, "title": each.title, "files": [*each.files], "final": [*each.final]}
                for each in known
            ]
        )
        return
    print_table(("format", "files", "final", "whose"), [_row(each) for each in known])


def _row(format_: Format) -> tuple[str, str, str, str]:
    names = [each for each in format_.files if not each.startswith("!")]
    return format_.name, ", ".join(names), " or ".join(format_.final), format_.title


@formats_commands.command("show")
def show(name: Name, config: Config = None, as_json: Json = False) -> None:
    """Print a format, as a file of your own could hold it.

    Example: modelwarden formats show keras > my-format.toml
    """
    settings, _ = load_settings(config)
    format_ = named_format(settings, name)
    if as_json:
        print_answer(**vars(format_) | {"metrics": [_rule_json(each) for each in format_.metrics]})
    else:
        typer.echo(format_as_toml(format_), nl=False)


def _rule_json(rule: MetricRule) -> dict[str, object]:
    """A rule; null for the end of a domain that has none."""
    return {name: None if _is_open(value) else value for name, value in rule._asdict().items()}


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
    """Show what a format reads in a file.

    With --policy it shows what would be judged. Exit codes as of `check`; without a policy 0 if the file can be read.

    Example: modelwarden formats try keras training_output/training.log
    """
    from modelwarden.cli.trying import try_format  # noqa: PLC0415 - the list needs none of it

    raise typer.Exit(try_format(name, file, policy, config, as_json=as_json))


def named_format(settings: Settings, name: str, where: str = "formats") -> Format:
    """The format of that name. Raises StopService if there is none."""
    known = known_formats(settings).formats
    if name not in known:
        meant = " or ".join(meant_formats(name, known))
        hint = f"did you mean {meant}?" if meant else "`modelwarden formats` lists them"
        raise StopService(f"there is no format {name!r}", where=where, hint=hint)
    return known[name]


def format_as_toml(format_: Format) -> str:
    """The format as a file can hold it; read again it is the same."""
    from modelwarden.cli.settings import as_toml  # noqa: PLC0415 - the list needs none of it

    plain = Format(format_.name, "", (), "", "")
    written = {
        name: [*value] if isinstance(value, tuple) else value
        for name, value in vars(format_).items()
        if name not in {"metrics", "program", "notes"} and (value != getattr(plain, name) or name in {"name", "title"})
    }
    lines = [*as_toml(written)]
    lines += [*(_text_lines("notes", format_.notes) if format_.notes else ()), *_text_lines("program", format_.program)]
    for rule in format_.metrics:
        said = {name: each for name, each in rule._asdict().items() if each is not False and not _is_open(each)}
        lines += ["", "[[metric]]", *as_toml(said)]
    return "\n".join(lines) + "\n"


def _text_lines(name: str, text: str) -> Sequence[str]:
    """A text of lines as TOML: as it is between quotes, or escaped if that can't hold it."""
    from modelwarden.cli.settings import as_toml  # noqa: PLC0415 - as above

    quotes = "'''"
    if quotes in text or text.endswith("'") or not all(each.isprintable() or each in "\n\t" for each in text):
        return [*as_toml({name: text})]
    return [f"{name} = {quotes}\n{text}{quotes}"]


def _is_open(value: object) -> bool:
    return isinstance(value, float) and abs(value) == LARGEST_FIGURE
