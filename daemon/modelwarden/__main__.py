"""The command `modelwarden`: hands the arguments to the command line and an error to the shell.

The rule: whatever went wrong is one sentence on standard error that says what, where and what to do, and an exit code.
"""

import sys

import typer

from modelwarden.cli import asking, judging, running, upkeep
from modelwarden.errors import ModelwardenError
from modelwarden.service.logs import use_utf8

app = typer.Typer(
    name="modelwarden",
    help="Judges every model that a training run leaves behind, archives the run, tells the team.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    running.run,
    judging.check,
    asking.runs,
    asking.show,
    asking.approved,
    asking.history,
    upkeep.reindex,
    running.courier,
):
    app.command()(command)
app.add_typer(upkeep.config_commands, name="config")


def main() -> None:
    """Run the command that the arguments name."""
    use_utf8()
    try:
        app()
    except ModelwardenError as error:
        typer.echo(f"modelwarden: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
