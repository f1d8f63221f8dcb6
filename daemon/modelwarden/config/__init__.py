"""The settings: what can be set, where it comes from, and what is said if it is wrong.

The rule: this is all that others know of them; how they are read is no concern of theirs.
"""

from modelwarden.config.agreement import watched_twice
from modelwarden.config.formats import known_formats
from modelwarden.config.loading import exposed, find_config, load_settings, sources
from modelwarden.config.model import DestinationTable, GateTable, Settings, WatchTable, parse_duration
from modelwarden.config.urls import destination_of, url_of

__all__ = [
    "DestinationTable",
    "GateTable",
    "Settings",
    "WatchTable",
    "destination_of",
    "exposed",
    "find_config",
    "known_formats",
    "load_settings",
    "parse_duration",
    "sources",
    "url_of",
    "watched_twice",
]
