"""A command that is killed: the whole of it, from its arguments to its end, in a process that a rig traces.

The rule: what runs is the command line's own; nothing is left out. Orders name the words as their one batch; the one
thing that is dealt with, as its report has it, is the exit code.
"""

import os
import socket
import sys

import typer.main

from modelwarden.__main__ import command_line
from modelwarden.config import Settings
from modelwarden.sinks.chat.destinations import Destination
from rigs.crash_subject import Life, serve


class CommandLife(Life):
    """The life of a command."""

    def _serve(self, settings: Settings) -> None:  # noqa: ARG002 - the command reads its own
        (words,) = self._orders.batches
        for descriptor in (1, 2):  # its words are nobody's concern here
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        code = typer.main.get_command(command_line(words)).main([*words], standalone_mode=False)
        self._dealt.append(str(code or 0))


if __name__ == "__main__":
    for command in ("review", "runs", "prune", "archive"):
        command_line([command])  # imported once, for every life
    Destination("nobody", "json://127.0.0.1:9/", ("APPROVED",))  # and Apprise with what it imports at its first use
    serve(socket.socket(fileno=int(sys.argv[1])), CommandLife)
