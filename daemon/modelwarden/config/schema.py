"""The JSON Schema of a config file, for editors that complete TOML with one.

The rule: what may be set is what the settings' model takes; what it means is said by config.example.toml alone, and is
taken from there.
"""

import re
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

from modelwarden.config.model import Settings

EXAMPLE: Final = "config.example.toml"
_HEADING: Final = re.compile(r"#? ?\[\[?([a-z_.]+)]]?\s*$")
_SETTING: Final = re.compile(r"#? ?([a-z_]+) = .*?(?:\s# (.*))?$")
_MORE: Final = re.compile(r"#\s{6,}# (.*)$")
_DURATIONS: Final = frozenset({"expect_every", "fallback_after"})
_DURATION: Final = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?\\s*[smhd]$"}
_TABLES: Final = {
    "WatchTable": "watch",
    "IntakeTable": "intake",
    "GateTable": "gate",
    "PolicyTable": "policy",
    "PolicyGateTable": "policy.gate",
    "PolicyOverrideTable": "policy.override",
    "NotifyTable": "notify",
    "DestinationTable": "notify.destination",
    "LogTable": "log",
}


def settings_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of all settings, each with what the example says of it."""
    schema = Settings.model_json_schema()
    comments = _comments(example_text())
    _describe(schema, "", comments)
    for name, definition in schema.get("$defs", {}).items():
        definition["title"] = _TABLES.get(name, name)
        definition.pop("description", None)
        _describe(definition, _TABLES.get(name, name), comments)
    schema |= {"title": "modelwarden's settings", "description": f"See `modelwarden config example`: {EXAMPLE}."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def example_text() -> str:
    """The config file that explains every setting."""
    return resources.files("modelwarden").joinpath(EXAMPLE).read_text(encoding="utf-8")


def _describe(schema: dict[str, Any], table: str, comments: Mapping[tuple[str, str], str]) -> None:
    for name, each in schema.get("properties", {}).items():
        each.pop("title", None)
        if (comment := comments.get((table, name))) is not None:
            each["description"] = comment
        if name in _DURATIONS:
            default = {"default": each.pop("default")} if "default" in each else {}
            schema["properties"][name] = {"anyOf": [_bare(each), _DURATION], **_said(each), **default}


def _bare(each: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in each.items() if key != "description"}


def _said(each: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": each["description"]} if "description" in each else {}


def _comments(text: str) -> Mapping[tuple[str, str], str]:
    """By table and key, what stands behind the setting in the example."""
    found: dict[tuple[str, str], str] = {}
    table, last = "", None
    for line in text.splitlines():
        if match := _HEADING.fullmatch(line):
            table, last = match[1], None
        elif (match := _MORE.fullmatch(line)) and last is not None:
            found[last] = f"{found[last]} {match[1]}".strip()
        elif match := _SETTING.fullmatch(line):
            last = (table, match[1])
            found[last] = (match[2] or "").strip()
        else:
            last = None
    return {place: comment for place, comment in found.items() if comment}
