"""The settings: what can be set, where it comes from, and what is said if it is wrong.

The rule: this is all that others know of them; how they are read is no concern of theirs. Each name is imported when
it is asked for: who only wants to know where the archive lies does not wait for the rest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from modelwarden.config.agreement import watched_twice
    from modelwarden.config.formats import known_formats, meant_formats
    from modelwarden.config.loading import exposed, load_settings, sources
    from modelwarden.config.model import DestinationTable, GateTable, Settings, WatchTable, parse_duration
    from modelwarden.config.urls import destination_of, url_of
    from modelwarden.config.whereabouts import Whereabouts, find_archive, find_config

_HOME: Final = {
    "DestinationTable": "model",
    "GateTable": "model",
    "Settings": "model",
    "WatchTable": "model",
    "Whereabouts": "whereabouts",
    "destination_of": "urls",
    "exposed": "loading",
    "find_archive": "whereabouts",
    "find_config": "whereabouts",
    "known_formats": "formats",
    "meant_formats": "formats",
    "load_settings": "loading",
    "parse_duration": "model",
    "sources": "loading",
    "url_of": "urls",
    "watched_twice": "agreement",
}


def __getattr__(name: str) -> object:
    """A name of those below, from where it lives."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


__all__ = [
    "DestinationTable",
    "GateTable",
    "Settings",
    "WatchTable",
    "Whereabouts",
    "destination_of",
    "exposed",
    "find_archive",
    "find_config",
    "known_formats",
    "load_settings",
    "meant_formats",
    "parse_duration",
    "sources",
    "url_of",
    "watched_twice",
]
