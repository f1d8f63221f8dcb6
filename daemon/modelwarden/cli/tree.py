"""The commands as data: their words, options and arguments, read from the command line itself.

The rule: what the manual page and the completion say of a command is what it answers to; nothing is written twice.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Option(NamedTuple):
    """An option.

    Attributes:
        names: how it is written, the long form first.
        value: what its value is called, such as FILE; "" for a flag.
        help: one or two sentences.
    """

    names: Sequence[str]
    value: str
    help: str


class Argument(NamedTuple):
    """An argument.

    Attributes:
        value: what it is called, such as RUN.
        help: one or two sentences, or "".
        is_required: whether it must be there.
        is_many: whether there may be several.
    """

    value: str
    help: str
    is_required: bool
    is_many: bool

    def __str__(self) -> str:
        """As a usage line has it: `[RUN]`, `FILE...`."""
        text = f"{self.value}..." if self.is_many else self.value
        return text if self.is_required else f"[{text}]"


class Command(NamedTuple):
    """A command, or a group of commands.

    Attributes:
        words: what is typed after `modelwarden`; none for all of it.
        summary: the first paragraph of its help.
        text: the other paragraphs.
        options: in the order of the help, without --help.
        arguments: in the order in which they are typed.
        commands: those of a group.
    """

    words: Sequence[str]
    summary: str
    text: Sequence[str]
    options: Sequence[Option]
    arguments: Sequence[Argument]
    commands: "Sequence[Command]"

    def all(self) -> "Iterator[Command]":
        """It and every command below it, in the order of the help."""
        yield self
        for each in self.commands:
            yield from each.all()


def read_tree(command: Any, words: Sequence[str] = ()) -> Command:
    """A command of typer's as data, with all that is below it; what is hidden is left out."""
    paragraphs = [" ".join(each.split()) for each in (command.help or "").split("\n\n")]
    shown = [each for each in command.params if not getattr(each, "hidden", False)]
    return Command(
        words=tuple(words),
        summary=paragraphs[0],
        text=tuple(paragraphs[1:]),
        options=[
            Option((*each.opts, *each.secondary_opts), each.metavar or "", " ".join((each.help or "").split()))
            for each in shown
            if each.param_type_name == "option"
        ],
        arguments=[
            Argument(each.metavar.removesuffix("..."), each.help or "", bool(each.required), each.nargs == -1)
            for each in shown
            if each.param_type_name == "argument"
        ],
        commands=[
            read_tree(each, (*words, name))
            for name, each in getattr(command, "commands", {}).items()
            if not each.hidden
        ],
    )
