"""Where an archive and its state lie, for who only asks it.

The rule: the answer is that of the whole settings, of which no more is looked at: a question needs no more, and is
answered before the rest would be read. What leaves any doubt about the two is left to the whole settings, which say
what is wrong.
"""

import os
import tomllib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from modelwarden.config.paths import checked_path

SYSTEM_CONFIG: Final = "/etc/modelwarden/config.toml"
CONFIG_VARIABLE: Final = "MODELWARDEN_CONFIG"
PREFIX: Final = "MODELWARDEN_"

DEFAULT_ARCHIVE: Final = "training_archives"
"""In the current folder, if nobody names another place."""

KNOWN: Final = frozenset(
    {
        "archive_dir",
        "create_archive",
        "state_dir",
        "watch",
        "intake",
        "gate",
        "policy",
        "format",
        "notify",
        "metrics",
        "log",
    }
)
"""The settings by their first words. One that is not among them may be a misspelt `archive_dir`."""

_VARIABLES: Final = {"archive_dir": "MODELWARDEN_ARCHIVE_DIR", "state_dir": "MODELWARDEN_STATE_DIR"}


class Whereabouts(NamedTuple):
    """Where an archive lies, and its state; None if the settings name no place for it. Absolute paths."""

    archive_dir: str
    state_dir: str | None


def find_config(given: str | None) -> str | None:
    """The config file that counts: the one given, else `$MODELWARDEN_CONFIG`, else /etc's if it exists."""
    if given is not None:
        return given
    if variable := os.environ.get(CONFIG_VARIABLE):
        return variable
    return SYSTEM_CONFIG if os.path.exists(SYSTEM_CONFIG) else None


def find_archive(given: str | None, archive: str | None) -> Whereabouts:
    """Where the archive lies that the settings, or the option, name.

    Args:
        given: a config file, as for `load_settings`.
        archive: the archive, instead of the one that is configured.

    Raises:
        StopService: the settings are wrong.
    """
    found = _plainly(find_config(given), archive)
    if found is None:
        from modelwarden.config.loading import load_settings  # noqa: PLC0415 - it takes longer than the question

        settings, _ = load_settings(given, archive=archive)
        found = Whereabouts(settings.archive_dir, settings.state_dir)
    return found


def _plainly(path: str | None, archive: str | None) -> Whereabouts | None:
    """What stands there without a doubt; None if there is any."""
    try:
        folder, values = _document(path)
        names = {name.removeprefix(PREFIX).partition("__")[0] for name in os.environ if name.upper().startswith(PREFIX)}
        if values.keys() - KNOWN or names - {"CONFIG", *map(str.upper, KNOWN)}:
            return None
        archive_dir = _place("archive_dir", archive, folder, values)
        return Whereabouts(archive_dir or os.path.abspath(DEFAULT_ARCHIVE), _place("state_dir", None, folder, values))
    except (OSError, ValueError, RecursionError):
        return None


def _document(path: str | None) -> tuple[str, Mapping[str, Any]]:
    """The folder of a config file, and what stands in it."""
    if path is None:
        return "", {}
    with open(path, "rb") as stream:
        return os.path.dirname(os.path.realpath(path)), tomllib.loads(stream.read().decode())


def _place(name: str, typed: str | None, folder: str, values: Mapping[str, Any]) -> str | None:
    """A path that is set: by an option, else by a variable, else in the file. Raises ValueError if it is none."""
    value = typed if typed is not None else os.environ.get(_VARIABLES[name])
    if value is None:
        if name not in values:
            return None
        value = values[name]
    else:
        folder = ""
    if not isinstance(value, str) or not value:
        raise ValueError("no path")
    return os.path.abspath(os.path.join(folder, checked_path(value)))
