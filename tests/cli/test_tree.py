"""The commands as data are the commands: nothing is missing, nothing is hidden that a person types."""

import re

import pytest
import typer

from commands import command
from modelwarden.__main__ import COMMANDS, HIDDEN, command_line
from modelwarden.cli.tree import Command, read_tree

TREE = read_tree(typer.main.get_command(command_line()))


def test_tree_has_every_command_that_is_not_hidden() -> None:
    """In the order of the help."""
    assert {each.words[0] for each in TREE.commands} == {*COMMANDS} - HIDDEN


@pytest.mark.parametrize("each", [*TREE.all()], ids=lambda each: " ".join(each.words) or "all")
def test_options_and_values_are_those_of_the_help(each: Command) -> None:
    """Each option with what its value is called, each argument; --help stands for itself."""
    shown = command(*each.words, "--help").out
    lines = re.findall(r"^  ((?:--?[a-z][\w-]*(?:, | / )?)+)(?: ([A-Z]+))?", shown, re.MULTILINE | re.IGNORECASE)
    found = {
        name: value for names, value in lines for name in re.split(", | / ", names) if name not in {"-h", "--help"}
    }
    assert {name: option.value for option in each.options for name in option.names} == found
    usage = shown.partition("\n")[0]
    for argument in each.arguments:
        assert (f"{argument.value}..." if argument.is_many else argument.value) in usage
        assert (f"[{argument.value}" in usage) != argument.is_required


def test_option_means_the_same_in_every_command() -> None:
    """One kind of value an option, so that a shell need not know where it is."""
    kinds: dict[str, set[str]] = {}
    for each in TREE.all():
        for option in each.options:
            for name in option.names:
                kinds.setdefault(name, set()).add(option.value)
    assert {name: found for name, found in kinds.items() if len(found) > 1} == {}
