"""The command `modelwarden`: hands the arguments to the command line and an error to the shell.

The rule: whatever went wrong is one sentence on standard error that says what, where and what to do, and an exit code.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Final

if sys.platform != "linux":  # before all that is imported below: elsewhere some of it can't be
    from modelwarden.errors import NEEDS_LINUX

    sys.stderr.write(f"modelwarden: {NEEDS_LINUX}\n")
    sys.exit(2)

import typer

from modelwarden.errors import ModelwardenError, StopService
from modelwarden.streams import use_utf8

CANT_WRITE: Final = 74
"""Exit code if the output could not be written (sysexits: EX_IOERR)."""

COMMANDS: Final = {
    "run": "running.run",
    "archive": "bringing.archive_files",
    "status": "status.status",
    "doctor": "doctor.doctor",
    "check": "judging.check",
    "runs": "asking.runs",
    "show": "asking.show",
    "approved": "asking.approved",
    "history": "comparing.history",
    "diff": "comparing.diff",
    "explain": "explaining.explain",
    "review": "reviewing.review",
    "audit": "reviewing.audit",
    "regate": "regating.regate",
    "prune": "keeping.prune",
    "export": "keeping.export",
    "verify": "upkeep.verify",
    "reindex": "upkeep.reindex",
    "adopt": "upkeep.adopt",
    "courier": "couriering.courier",
    "mute": "delivering.mute",
    "notify-test": "delivering.notify_test",
    "man": "manual.man",
    "completion": "completing.completion",
    "rejected": "shelf.rejected_commands",
    "formats": "formats.formats_commands",
    "outbox": "delivering.outbox_commands",
    "config": "settings.config_commands",
    "service": "installing.service_commands",
    "complete": "completing.complete",
}
"""Where each command, or group of commands, lives; in the order of the help."""

HIDDEN: Final = frozenset({"complete"})
"""Commands that no person types."""

OF_ALL: Final = frozenset({"man", "completion"})
"""Commands that speak of all the others."""


def command_line(words: Sequence[str] = ()) -> typer.Typer:
    """The command line: with the one command that the words begin with, with none for an option alone, else with all.

    What one command needs is imported alone: a question is answered before the rest would be.
    """
    app = typer.Typer(
        name="modelwarden",
        help="Judges every model that a training run leaves behind, archives the run, tells the team.",
        epilog="""Begin with one of these two.

        Example: modelwarden run --watch training_output

        Example: modelwarden config example > config.toml
        """,
        context_settings={"help_option_names": ["-h", "--help"]},  # commands below take it over
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(everything)
    is_alone = words and words[0] in {*COMMANDS, "--version", "-V"} - OF_ALL
    wanted = words[:1] if is_alone else COMMANDS
    for name in filter(COMMANDS.get, wanted):
        module, _, attribute = COMMANDS[name].partition(".")
        command = getattr(import_module(f"modelwarden.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name, hidden=name in HIDDEN)(command)
    return app


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - as slow as all else that a question imports

        typer.echo(f"modelwarden {version('modelwarden')}")
        raise typer.Exit


def everything(
    _version: Annotated[
        bool, typer.Option("--version", "-V", callback=_say_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What comes before any command."""


def main() -> None:
    """Run the command that the arguments name."""
    insist_on_utf8()
    try:
        _answer(sys.argv[1:])
    except ModelwardenError as error:
        _complain(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `modelwarden runs | head -1`: who reads has had enough
        _write_no_more()
    except OSError as error:
        _complain(error)
        _write_no_more()
        sys.exit(CANT_WRITE)
    except Exception as error:
        if (damage := _damage_told_by(error)) is None:
            raise
        _complain(damage)
        sys.exit(damage.exit_code)


def _answer(words: Sequence[str]) -> None:
    """Run the command, which ends with SystemExit. Raises OSError if not all that it wrote could be written."""
    try:
        command_line(words)(prog_name="modelwarden")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer makes of it an exit code that means no
            raise end.__context__ from None
        sys.stdout.flush()
        raise


def _damage_told_by(error: Exception) -> ModelwardenError | None:
    """What is said of a state file that SQLite found to be damaged; None if it is about something else."""
    if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return None
    from modelwarden.state.database import DAMAGED_HINT, STATE_FILE  # noqa: PLC0415 - for who did not get an answer

    return StopService(f"the state file {STATE_FILE} is damaged ({error})", hint=DAMAGED_HINT)


def _write_no_more() -> None:
    """Let what could not be written be forgotten: at the end of the process it would be tried again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: Exception) -> None:
    from modelwarden.cli.lines import complain  # noqa: PLC0415 - for who did not get an answer

    complain(f"modelwarden: {error}")


def insist_on_utf8() -> None:
    """Start again in Python's UTF-8 mode if the locale has another encoding.

    Symbols, settings and file names hold any character, and what cron starts has the C locale: arguments, paths and
    output would be ASCII.
    """
    if sys.getfilesystemencoding() != "utf-8":
        words = [sys.executable, "-X", "utf8", "-P", "-m", "modelwarden", *sys.argv[1:]]
        os.execv(sys.executable, [os.fsencode(word) for word in words])  # noqa: S606 - ourselves
    use_utf8()


if __name__ == "__main__":
    main()
