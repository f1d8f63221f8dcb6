"""Commands for tests, run inside the test's own process: as fast as a call, with streams as a shell gives them."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from modelwarden.__main__ import main
from modelwarden.log import LOGGER_NAME
from processes import clean_environment


class Done(NamedTuple):
    """What a command left behind: its exit code and what it wrote, decoded as UTF-8."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of standard output without the blanks at their ends."""
        return [line.rstrip() for line in self.out.splitlines()]


def command(*arguments: str | Path) -> Done:
    """Run `modelwarden` with these arguments; standard output and error are no terminals and claim to be ASCII."""
    out, err = io.BytesIO(), io.BytesIO()
    loggers = [logging.getLogger(name) for name in (LOGGER_NAME, "py.warnings")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    with ExitStack() as stack:
        for name, stream in (("stdout", out), ("stderr", err)):
            stack.enter_context(patch.object(sys, name, io.TextIOWrapper(stream, "ascii", write_through=True)))
        stack.enter_context(patch.object(sys, "argv", ["modelwarden", *(str(each) for each in arguments)]))
        stack.enter_context(patch.dict(os.environ, clean_environment(), clear=True))
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code
        finally:
            logging.captureWarnings(capture=False)
            for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
                logger.handlers, logger.level, logger.propagate = handlers, level, propagate
        return Done(code if isinstance(code, int) else int(code is not None), _text(out), _text(err))


def commands_below(command: Any, words: str = "") -> Iterator[tuple[str, Any]]:
    """A command of typer's with all below it, hidden ones too: what is typed after `modelwarden`, and the command."""
    yield words, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands_below(each, f"{words} {name}".strip())


def _text(stream: io.BytesIO) -> str:
    return stream.getvalue().decode("utf-8")
