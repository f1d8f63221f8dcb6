"""The formats that come with modelwarden: data files beside this module, one a kind of file.

The rule: they are read when they are asked for, and what is asked for by a name that is not there is answered with
the names that are.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from modelwarden.formats.description import Format, format_of


@cache
def presets() -> Mapping[str, Format]:
    """All of them, by name, in the order of the names."""
    folder = files("modelwarden.formats").joinpath("presets")
    found = (each for each in folder.iterdir() if each.name.endswith(".toml"))
    formats = (format_of(tomllib.loads(each.read_text(encoding="utf-8"))) for each in found)
    return {each.name: each for each in sorted(formats, key=lambda each: each.name)}
