"""Answers of commands as data: each is held to the schema that the package brings along."""

import json
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jsonschema import Draft202012Validator, FormatChecker


@cache
def validator(command: str) -> Draft202012Validator:
    """What judges the answers of a command."""
    schema = json.loads(files("modelwarden").joinpath("schemas", "answers.schema.json").read_text("utf-8"))
    schema["$ref"] = f"#/$defs/{quote(command)}"
    return Draft202012Validator(schema, format_checker=FormatChecker())


def assert_fits(answer: Any, command: str) -> None:
    """The answer is as the schema has it."""
    assert [error.message for error in validator(command).iter_errors(answer)] == []
