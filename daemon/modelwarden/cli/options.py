"""The options that several commands share, and the settings they lead to.

The rule: every command finds its settings the same way: --config, else $MODELWARDEN_CONFIG, else /etc's, else defaults.
"""

from typing import Annotated

import typer

from modelwarden.service.config import Settings, load_settings
from modelwarden.service.logs import configure_logs

Config = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="FILE", help="Settings (TOML).", show_default=False),
]
Archive = Annotated[
    str | None,
    typer.Option("--archive", metavar="DIR", help="The archive, instead of the settings'.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def settings_for_asking(config: str | None, archive: str | None) -> Settings:
    """The settings of a command that asks; only warnings are logged."""
    settings, _ = load_settings(config, archive=archive)
    configure_logs("warning", settings.log.format)
    return settings
