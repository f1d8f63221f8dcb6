"""What is wrong with a setting, in plain words: where it stands, what belongs there, what was probably meant.

The rule: one complaint a mistake. What follows from another mistake is not told, and no message repeats what it must
not (see `telling`).
"""

import types
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Final, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modelwarden.config.model import Settings
from modelwarden.config.telling import told, told_key
from modelwarden.config.toml_file import Place


class Problem(NamedTuple):
    """Something that is wrong.

    Attributes:
        places: the settings that it is about; that which has to be changed first.
        words: what is wrong and what to do, without the place.
        rests_on: further settings without which nothing is wrong.
    """

    places: tuple[Place, ...]
    words: str
    rests_on: tuple[Place, ...] = ()


class Complaints(NamedTuple):
    """What pydantic found.

    Attributes:
        problems: in plain words.
        bad: the places whose settings are not known; nothing may be concluded from these.
    """

    problems: Sequence[Problem]
    bad: frozenset[Place]


def path_of(place: Place) -> str:
    """A place as it is written in messages: `watch[0].path`; a key that nobody knows only if it is plain words."""
    text = ""
    kind: object = Settings
    for part in place:
        fields = fields_of(kind)
        if isinstance(part, int):
            text += f"[{part}]"
            kind = _item_of(kind)
        else:
            text += f".{part if part in fields else told_key(part)}"
            kind = fields.get(part)
    return text.removeprefix(".") or "settings"


def complaints_of(error: ValidationError, values: object) -> Complaints:
    """Pydantic's errors about these values as problems, and which settings they leave unknown."""
    bad: set[Place] = set()
    problems: list[Problem] = []
    details = error.errors(include_url=False, include_context=True)
    for each in details:
        if each["type"] == "extra_forbidden":
            place: Place = each["loc"]
            above, key = place[:-1], str(place[-1])
            suggested = closest(key, fields_of(kind_at(above)))
            bad.add(place)
            if suggested is not None and not is_set((*above, suggested), values):
                bad.add((*above, suggested))  # it was meant: that it is missing is no mistake of its own
            problems.append(Problem((place,), _unknown(above, key, suggested)))
    for each in details:
        place = each["loc"]
        if each["type"] == "extra_forbidden" or (each["type"] == "missing" and place in bad):
            continue
        if each["type"] == "too_short" and any(place == other["loc"][:-1] for other in details):
            continue  # what is in the list is told to be wrong
        bad.add(_setting_of(place))
        # Whether something is missing rests on what it would be: it may stand in a line that can't be read.
        problems.append(Problem((place,), _words(each), (place,) if each["type"] == "missing" else ()))
    return Complaints(problems, frozenset(bad))


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, whatever its case; None if none is close."""
    by_small = {each.lower(): each for each in known}
    found = get_close_matches(word.lower().replace("-", "_"), by_small, n=1, cutoff=0.6)
    return by_small[found[0]] if found else None


def fields_of(kind: object) -> dict[str, object]:
    """The settings of a table with the type of each; none if it is no table."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return {}


def kind_at(place: Place) -> object:
    """The type of what stands at a place; None for a place that there is not."""
    kind: object = Settings
    for part in place:
        kind = _item_of(kind) if isinstance(part, int) else fields_of(kind).get(part)
    return kind


def is_set(place: Place, values: Any) -> bool:
    """Whether anything stands at that place of a document."""
    for part in place:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def is_list(kind: object) -> bool:
    """Whether a setting of this type is a list."""
    return get_origin(kind) is tuple


def _item_of(kind: object) -> object:
    return get_args(kind)[0] if is_list(kind) else None


def _setting_of(place: Place) -> Place:
    """The setting that a place is in: of an item of a list of values, the list; a table of a list is itself one."""
    for length in range(1, len(place) + 1):
        kind = kind_at(place[:length])
        if kind is None or (is_list(kind) and not fields_of(_item_of(kind))):
            return place[:length]
    return place


def _tables() -> Iterator[tuple[str, dict[str, object]]]:
    """Every table that there is, by its heading."""
    yield "", fields_of(Settings)
    for name, kind in fields_of(Settings).items():
        fields = fields_of(_item_of(kind)) or fields_of(kind)
        yield (f"[[{name}]]" if is_list(kind) else f"[{name}]"), fields
        for inner, each in fields.items():
            if fields_of(_item_of(each)):
                yield f"[[{name}.{inner}]]", fields_of(_item_of(each))


def _unknown(above: Place, key: str, suggested: str | None) -> str:
    if suggested is not None:
        return f"there is no such setting; did you mean {suggested}?"
    others = [heading or "the top, above all tables" for heading, fields in _tables() if key in fields]
    if others:
        return f"there is no such setting here; it belongs to {' or '.join(others)}"
    if not above and (table := closest(key, [name for heading, _ in _tables() if (name := heading.strip("[]"))])):
        return f"there is no such setting; did you mean {table}?"
    return "there is no such setting"


_NAME_PATTERN: Final = "begins with a letter or digit and goes on with letters, digits, blanks, _ . or -"

_GIVE: Final = {
    "float_type": "give a number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "bool_type": "give true or false, without quotes",
    "string_type": "give text in quotes",
    "tuple_type": "give a list in [ ]",
    "model_type": "give a table",
    "finite_number": "give a number that is finite",
    "greater_than": "give a number above {gt:g}",
    "greater_than_equal": "give at least {ge:g}",
    "less_than_equal": "give at most {le:.0f}",
    "too_short": "give at least one",
    "string_too_short": "give some text",
    "string_too_long": "give at most {max_length} characters",
    "literal_error": "give one of {choices}",
    "string_pattern_mismatch": f"give a name that {_NAME_PATTERN}",
}


def _words(error: ErrorDetails) -> str:
    kind, value = error["type"], error["input"]
    if kind == "missing":
        return f"{error['loc'][-1]} is missing"
    if kind == "value_error":
        return str(error["msg"]).removeprefix("Value error, ")
    if kind == "tuple_type" and isinstance(value, dict):
        return f"give a list; a table of it has its heading in double brackets, [[{path_of(error['loc'])}]]"
    context: dict[str, Any] = dict(error.get("ctx", {}))
    choices = _choices_of(kind_at(error["loc"]))
    words = _GIVE.get(kind, "give something else").format(**{**context, "choices": ", ".join(choices)})
    suggested = closest(value, choices) if kind == "literal_error" and isinstance(value, str) else None
    return f"{words}, not {told(value)}" + (f"; did you mean {suggested}?" if suggested is not None else "")


def _choices_of(kind: object) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    if get_origin(kind) in {Union, types.UnionType}:
        return next((found for each in get_args(kind) if (found := _choices_of(each))), ())
    return ()
