"""The settings that stand in the environment: `MODELWARDEN_LOG__LEVEL` sets `level` of `[log]`, a list is JSON.

The rule: a variable that begins like ours and sets nothing is a mistake, not somebody else's: it is told.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from modelwarden.config.model import Settings
from modelwarden.config.toml_file import Place
from modelwarden.config.whereabouts import CONFIG_VARIABLE, PREFIX
from modelwarden.config.wrong_settings import closest, fields_of, is_list, kind_at

_EXAMPLES: Final = {"watch": '[{"path": "/srv/incoming"}]'}
_PLAIN_NAME: Final = re.compile(r"[A-Z]{1,15}(?:_{1,2}(?:[A-Z]{1,15}|[0-9]{1,2})){0,6}")


class Variables(NamedTuple):
    """What the environment sets.

    Attributes:
        values: as a document; a table of it may be set by several variables.
        names: which variable sets a place.
        wrong: variables that set nothing, by their names as far as these may be told.
    """

    values: dict[str, Any]
    names: Mapping[Place, str]
    wrong: Mapping[str, str]


def read_environment(environment: Mapping[str, str]) -> Variables:
    """All variables that begin with MODELWARDEN_, but for that which names the config file."""
    values: dict[str, Any] = {}
    names: dict[Place, str] = {}
    wrong: dict[str, str] = {}
    for name in sorted(environment, key=lambda each: (each.count("__"), each)):  # what is more exact outranks
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper == CONFIG_VARIABLE:
            continue
        place: Place = tuple(upper.removeprefix(PREFIX).lower().split("__"))
        kind = kind_at(place)
        is_plain = _PLAIN_NAME.fullmatch(upper) is not None and name in {upper, name.lower()}
        told = name if is_plain else f"{PREFIX}* ({len(name)} characters)"
        if kind is None:
            meant = closest(upper.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in _all_names()])
            wrong[told] = "there is no such setting" + (f"; did you mean {PREFIX}{meant}?" if meant else "")
            continue
        try:
            value = _value_of(environment[name], kind)
        except (ValueError, RecursionError):
            example = _EXAMPLES.get(str(place[-1]), '{"level": "debug"}' if fields_of(kind) else "[...]")
            wrong[told] = f"give JSON, such as {example}"
            continue
        names[place] = name
        table = values
        for part in place[:-1]:
            table = table.setdefault(str(part), {})
            if not isinstance(table, dict):  # the table's own variable, which is told, is none
                break
        else:
            table[str(place[-1])] = value
    return Variables(values, names, wrong)


def _value_of(text: str, kind: object) -> object:
    if is_list(kind) or fields_of(kind):
        return json.loads(text)
    if kind in {int, float}:
        try:
            return int(text) if re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", text) else float(text)
        except ValueError:
            return text
    return text


def _all_names(place: Place = ()) -> Iterator[str]:
    kind: object = kind_at(place) if place else Settings
    for name in fields_of(kind):
        inner = (*place, name)
        yield PREFIX + "__".join(map(str, inner)).upper()
        yield from _all_names(inner)
    if not place:
        yield CONFIG_VARIABLE
