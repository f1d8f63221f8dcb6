"""Answers of commands as data: each is held to the schema that the package brings along."""

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from commands import command


@cache
def validator(command: str) -> Draft202012Validator:
    """What judges the answers of a command."""
    schema = json.loads(files("modelwarden").joinpath("schemas", "answers.schema.json").read_text("utf-8"))
    schema["$ref"] = f"#/$defs/{quote(command)}"
    return Draft202012Validator(schema, format_checker=FormatChecker())


def assert_fits(answer: Any, command: str) -> None:
    """The answer is as the schema has it."""
    assert [error.message for error in validator(command).iter_errors(answer)] == []


def answer(words: str, *more: str | Path, code: int = 0, warns: str = "") -> Any:
    """What a command answers with --json: one document that fits its schema.

    Args:
        words: the command; its schema is of the same name.
        more: its arguments and options.
        code: its exit code.
        warns: a regular expression that fits all of standard error.
    """
    done = command(*words.split(), *more, "--json")
    assert (done.code, re.fullmatch(warns, done.err) is not None) == (code, True), done.err
    found = json.loads(done.out, parse_constant=pytest.fail)
    assert_fits(found, words)
    return found
