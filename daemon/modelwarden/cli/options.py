"""The options that several commands share, and the settings they lead to.

The rule: every command finds its settings the same way: --config, else $MODELWARDEN_CONFIG, else /etc's, else defaults.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from modelwarden.config.places import known_state_dir
from modelwarden.config.whereabouts import Whereabouts, find_archive
from modelwarden.durable import refusal
from modelwarden.errors import UnknownRun
from modelwarden.questions import Questions, asking

if TYPE_CHECKING:
    from modelwarden.config import Settings

Config = Annotated[
    str | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Settings (TOML); else $MODELWARDEN_CONFIG.", show_default=False
    ),
]
Archive = Annotated[
    str | None,
    typer.Option("--archive", metavar="DIR", help="The archive, instead of the settings'.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a script.")]


def names_another(context: typer.Context) -> bool:
    """Whether a command of the group is named, and not the group alone; the options before its name are its, too."""
    named = context.invoked_subcommand
    if named is not None:
        context.default_map = {named: {name: value for name, value in context.params.items() if value is not None}}
    return named is not None


def settings_for_asking(config: str | None, archive: str | None) -> "Settings":
    """The settings of a command that changes an archive that is there.

    Raises:
        StopService: the settings are wrong.
        UnknownRun: there is no archive: a misspelt name, or a disk that is away, must not make one.
        RetryLater: the disk refused.
    """
    from modelwarden.config import load_settings  # noqa: PLC0415 - it takes longer than a question

    settings, _ = load_settings(config, archive=archive)
    _insist_on_archive(settings.archive_dir)
    return settings


def archive_for_asking(config: str | None, archive: str | None) -> Whereabouts:
    """Where the archive lies that is asked, and its state. Raises as `settings_for_asking`."""
    found = find_archive(config, archive)
    _insist_on_archive(found.archive_dir)
    return found


def _insist_on_archive(folder: str) -> None:
    """Raise UnknownRun if there is none, RetryLater if the disk refuses."""
    if not os.path.isdir(folder):
        raise UnknownRun("no archive there", where=folder, hint="name one with --archive or --config")
    try:
        with os.scandir(folder) as entries:
            is_empty = all(entry.name == "lost+found" for entry in entries)
    except OSError as error:
        raise refusal("list", folder, error) from error
    if is_empty:
        hint = "if its disk is not mounted, mount it; if it is to be a new archive, start `modelwarden run`"
        raise UnknownRun("the archive has no runs: the folder is empty", where=folder, hint=hint)


@contextmanager
def asking_as_set(config: str | None, archive: str | None) -> Iterator[Questions]:
    """The questions of the archive that the settings lead to. Raises as `archive_for_asking` and `asking`."""
    found = archive_for_asking(config, archive)
    with asking(found.archive_dir, known_state_dir(found)) as questions:
        yield questions
