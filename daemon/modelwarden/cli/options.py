"""The options that several commands share, and the settings they lead to.

The rule: every command finds its settings the same way: --config, else $MODELWARDEN_CONFIG, else /etc's, else defaults.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from modelwarden.config import Settings, load_settings
from modelwarden.config.places import known_state_dir
from modelwarden.errors import UnknownRun
from modelwarden.questions import Questions, asking

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def settings_for_asking(config: str | None, archive: str | None) -> Settings:
    """The settings of a command about an archive that is there.

    Raises:
        StopService: the settings are wrong.
        UnknownRun: there is no archive: a misspelt name, or a disk that is away, must not make one.
    """
    settings, _ = load_settings(config, archive=archive, asks_apprise=True)
    if not os.path.isdir(settings.archive_dir):
        raise UnknownRun("no archive there", where=settings.archive_dir, hint="name one with --archive or --config")
    if set(os.listdir(settings.archive_dir)) <= {"lost+found"}:
        hint = "if its disk is not mounted, mount it; if it is to be a new archive, start `modelwarden run`"
        raise UnknownRun("the archive has no runs: the folder is empty", where=settings.archive_dir, hint=hint)
    return settings


@contextmanager
def asking_as_set(config: str | None, archive: str | None) -> Iterator[Questions]:
    """The questions of the archive that the settings lead to. Raises as `settings_for_asking` and `asking`."""
    settings = settings_for_asking(config, archive)
    with asking(os.path.abspath(settings.archive_dir), known_state_dir(settings)) as questions:
        yield questions
